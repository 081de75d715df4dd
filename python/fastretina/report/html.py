"""``report.html``: one file with its pictures inside, readable without a network."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from html import escape
from typing import Any

import numpy as np

from fastretina.io import encode_image
from fastretina.report.panels import overlay_panels
from fastretina.report.scene import Picture, Scene

_REASONS = {
    "ok": "The vessels of both images agree under the transform.",
    "no_content": "An image shows nothing that could be registered: it is black, constant or without structure.",
    "too_few_matches": "Too few places of one image were found again in the other; no transform could be estimated.",
    "implausible": "The best transform cannot be: it folds or tears the image, or scales it as no two cameras differ.",
    "low_agreement": "A transform was found, but the vessels do not agree under it: other eyes, or little overlap?",
}

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --good: #137a3b; --bad: #b3261e; }
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 1100px; padding: 0 1rem; }
h1 { font-size: 1.4rem; margin-bottom: .2rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
.badge { color: #fff; border-radius: 4px; padding: .1em .6em; }
.ok { background: var(--good); } .refused { background: var(--bad); }
.compare { position: relative; width: 100%; max-width: 768px; line-height: 0; background: #000; }
.compare img { width: 100%; } .compare .top { position: absolute; inset: 0; }
.compare .bar { position: absolute; top: 0; bottom: 0; width: 2px; background: #fff; box-shadow: 0 0 3px #000; }
.controls { max-width: 768px; display: flex; gap: 1rem; align-items: center; margin: .5rem 0; flex-wrap: wrap; }
.controls input[type=range] { flex: 1; min-width: 12rem; }
.tables { display: flex; flex-wrap: wrap; align-items: flex-start; gap: 2rem; } table { border-collapse: collapse; }
td, th { border-bottom: 1px solid var(--line); padding: .15em .8em .15em 0; text-align: left; vertical-align: top; }
td { font-variant-numeric: tabular-nums; overflow-wrap: anywhere; } .panels { max-width: 100%; }
footer { margin-top: 2rem; opacity: .7; }
"""

_SCRIPT = """
const box = document.querySelector('.compare'), slider = document.getElementById('split');
const bar = box.querySelector('.bar'), choice = document.getElementById('before');
function show() {
  const at = slider.value + '%';
  bar.style.left = at;
  for (const image of box.querySelectorAll('.top')) {
    image.style.clipPath = 'inset(0 0 0 ' + at + ')';
    image.hidden = (image.id === 'unregistered') !== choice.checked;
  }
}
slider.addEventListener('input', show); choice.addEventListener('change', show); show();
"""


def html_report(scene: Scene, fixed_name: str, moving_name: str, panels: Picture | None = None) -> str:
    """The report of one registration, refused or not, as the text of an HTML file. ``panels``: if drawn already."""
    result = scene.result
    panels = overlay_panels(scene) if panels is None else panels
    word, css = ("registered", "ok") if result.ok else ("refused", "refused")
    reason = _REASONS.get(result.status, "")
    compare = _slider(scene) if scene.warped is not None else _side_by_side(scene)
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>fastretina: {word}</title><style>{_STYLE}</style></head><body>
<h1>Registration <span class="badge {css}">{word}: {escape(result.status)}</span></h1>
<p>{escape(reason)} Confidence {result.confidence:.1%} that the mean error is below 5 px of a 640-px frame.</p>
<p>Fixed: <b>{escape(fixed_name)}</b><br>Moving: <b>{escape(moving_name)}</b></p>
{compare}
<h2>Numbers</h2>
<div class="tables">{_tables(scene)}</div>
<h2>Panels</h2>
<img class="panels" alt="checkerboard, overlay, matches, detector maps and expected error" src="{_inline(panels)}">
<footer>fastretina {escape(_version())}. Not a medical device: look before you rely on it.</footer>
</body></html>
"""


def _slider(scene: Scene) -> str:
    """FIXED with MOVING above it, as far as the slider says."""
    assert scene.warped is not None
    unregistered = np.zeros_like(scene.fixed)
    height, width = (min(a, b) for a, b in zip(scene.fixed.shape[:2], scene.moving.shape[:2], strict=True))
    unregistered[:height, :width] = scene.moving[:height, :width]
    return f"""<h2>Before and after</h2>
<div class="compare"><img alt="fixed" src="{_inline(scene.fixed)}">
<img class="top" id="registered" alt="moving, registered" src="{_inline(scene.warped)}">
<img class="top" id="unregistered" alt="moving, as it was" src="{_inline(unregistered)}" hidden>
<div class="bar"></div></div>
<div class="controls"><span>fixed</span><input type="range" id="split" min="0" max="100" value="50" step="0.1"
aria-label="share of the fixed image"><span>moving</span>
<label><input type="checkbox" id="before"> before registration</label></div>
<script>{_SCRIPT}</script>"""


def _side_by_side(scene: Scene) -> str:
    pictures = "".join(
        f'<figure><img alt="{name}" width="380" src="{_inline(picture)}"><figcaption>{name}</figcaption></figure>'
        for name, picture in (("fixed", scene.fixed), ("moving", scene.moving))
    )
    return f'<h2>The images</h2><div class="tables">{pictures}</div>'


def _tables(scene: Scene) -> str:
    result = scene.result
    summary = {
        "status": result.status,
        "confidence": result.confidence,
        "matches": len(result.matches),
        "inliers": int(result.inliers.sum()),
        "fixed size": " x ".join(map(str, result.fixed_size)),
        "moving size": " x ".join(map(str, result.moving_size)),
    }
    tables = _table("Result", summary)
    if result.transform is not None:
        name = "Transform (moving to fixed)" if result.ok else "Best candidate, refused (moving to fixed)"
        shown: dict[str, Any] = {"kind": result.transform.model}
        for step in (part.transform for part in result.transform.steps):
            if step.kind == "dense":
                shown["field"] = "{} x {} control points".format(*step.params.shape)
                continue
            for row, values in enumerate(step.params.tolist()):
                shown[f"row {row + 1}"] = ", ".join(f"{value:.8g}" for value in values)
        tables += _table(name, shown)
    tables += _table("What every choice became", result.choices)
    tables += _table("Quality", result.quality)
    return tables + _table("Time, ms", result.timings_ms)


def _table(title: str, values: Mapping[str, Any]) -> str:
    if not values:
        return ""
    rows = "".join(
        f"<tr><td>{escape(str(name)).replace('_', ' ')}</td><td>{escape(_shown(value))}</td></tr>"
        for name, value in values.items()
    )
    return f"<table><tr><th colspan=2>{escape(title)}</th></tr>{rows}</table>"


def _shown(value: Any) -> str:
    if isinstance(value, (bool, np.bool_)):
        return "yes" if value else "no"
    if isinstance(value, (float, np.floating)):
        return f"{float(value):.4g}"
    return "none" if value is None else str(value)


def _inline(picture: Picture) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(encode_image(picture, ".jpg")).decode("ascii")


def _version() -> str:
    from fastretina import __version__

    return __version__
