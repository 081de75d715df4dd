"""Register every pair, as it is and perturbed, and say how it went."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fastretina.errors import EngineError, InvalidInput
from fastretina.evaluation import metrics
from fastretina.evaluation.pairs import Pair, Target, perturb, target
from fastretina.transform import Transform
from fastretina.types import Registration

Row = dict[str, Any]

THRESHOLDS_PX = (2, 3, 5, 10)
SILENT_PX = 10.0  # an accepted result with a larger error is a silent failure
GOOD_PX = 5.0  # what confidence is a probability of
WRONG = "wrong"
_WRONG_STEPS = (1, 2, 3)  # how far apart in the list two pairs are that are crossed


class Registers(Protocol):
    """Whatever registers a pair: a Registrar, or a peer to compare it with."""

    def register(self, fixed: Any, moving: Any) -> Registration: ...


def evaluate(
    registrar: Registers,
    pairs: Sequence[Pair],
    perturbations: Sequence[str] = ("none",),
    wrong: bool = False,
    progress: Callable[[Row], None] = lambda row: None,
) -> list[Row]:
    """One row a registration. ``wrong``: also cross pairs of different eyes, of which none should be accepted."""
    images = {pair.id: pair.read() for pair in pairs}
    rows: list[Row] = []
    for kind in perturbations:
        for pair in pairs:
            row = _score(registrar, pair, kind, *images[pair.id])
            if row is not None:
                rows.append(row)
                progress(row)
    for a, b in _crossings(pairs) if wrong else ():
        row, _ = _timed(registrar, images[a.id][0], images[b.id][1])
        nothing = {"error": math.inf, "max_error": math.inf, "candidate_error": math.inf}
        rows.append({"id": f"{a.id}|{b.id}", "kind": WRONG, "modalities": WRONG, **row, **nothing})
        progress(rows[-1])
    return rows


def _crossings(pairs: Sequence[Pair]) -> list[tuple[Pair, Pair]]:
    n = len(pairs)
    crossed = [(pairs[i], pairs[(i + step) % n]) for step in _WRONG_STEPS if step < n for i in range(n)]
    return [(a, b) for a, b in crossed if a.group != b.group]


def _score(registrar: Registers, pair: Pair, kind: str, fixed: NDArray[Any], moving: NDArray[Any]) -> Row | None:
    """None if the perturbed pair shows too little in common to be scored."""
    whole = target(pair, fixed, moving, Transform.identity())
    moving, change = perturb(moving, kind, pair.id, keep=None if whole is None else whole.moving)
    goal = target(pair, fixed, moving, change)
    if goal is None:
        return None
    row, result = _timed(registrar, fixed, moving)
    scale = metrics.FRAME_PX / max(fixed.shape[:2])
    errors = metrics.point_errors(None if result is None else result.transform, goal.moving, goal.fixed) * scale
    row |= {"id": pair.id, "kind": kind, "modalities": pair.modalities, "candidate_error": float(errors.mean())}
    row |= {"error": math.inf, "max_error": math.inf}
    if row["ok"]:
        row |= {"error": float(errors.mean()), "max_error": float(errors.max())}
    if result is not None:
        row["inlier_ratio"] = metrics.inlier_ratio(result.inliers)
        row["repeatability"] = _repeatability(result, goal, scale)
    return row


def _repeatability(result: Registration, goal: Target, scale: float) -> float:
    if goal.truth is None or not len(result.keypoints_fixed) or not len(result.keypoints_moving):
        return math.nan
    sizes = (result.fixed_size, result.moving_size)
    return metrics.repeatability(
        result.keypoints_fixed, result.keypoints_moving, goal.truth, sizes, radius=GOOD_PX / scale
    )


def _timed(registrar: Registers, fixed: NDArray[Any], moving: NDArray[Any]) -> tuple[Row, Registration | None]:
    wall, cpu = time.perf_counter(), time.process_time()
    try:
        result = registrar.register(fixed, moving)
    except EngineError:
        raise  # nothing else would work either
    except Exception as error:  # one crash must not hide the other pairs
        return {
            "ok": False,
            "exception": True,
            "status": f"exception: {error}"[:200],
            "confidence": 0.0,
            "ms": math.nan,
            "cpu_ms": math.nan,
        }, None
    ms, cpu_ms = (time.perf_counter() - wall) * 1e3, (time.process_time() - cpu) * 1e3
    row = {"ok": result.ok, "exception": False, "status": result.status, "confidence": float(result.confidence)}
    return row | {"ms": ms, "cpu_ms": cpu_ms}, result


def summarise(rows: Sequence[Row]) -> dict[str, Row]:
    """The rows in numbers: one summary a perturbation, one a modality pair, ``wrong`` and ``confidence``."""
    if not rows:
        raise InvalidInput("evaluate: no pair could be scored")
    right = [r for r in rows if r["kind"] != WRONG]
    summary: dict[str, Row] = {}
    for kind in dict.fromkeys(r["kind"] for r in right):
        of_kind = [r for r in right if r["kind"] == kind]
        summary[kind] = _numbers(of_kind)
        for modalities in sorted({r["modalities"] for r in of_kind}):
            summary[f"{kind} {modalities}"] = _numbers([r for r in of_kind if r["modalities"] == modalities])
    if wrong := [r for r in rows if r["kind"] == WRONG]:
        accepted, crashed = sum(r["ok"] for r in wrong), sum(r["exception"] for r in wrong)
        summary[WRONG] = {"n": len(wrong), "false_accepts": accepted, "exceptions": crashed}
    good = [r["candidate_error"] < GOOD_PX for r in rows]
    confidence = [r["confidence"] for r in rows]
    summary["confidence"] = {
        "n": len(rows),
        "failures": len(good) - sum(good),
        "auroc": metrics.auroc(confidence, good),
        "calibration_error": metrics.calibration_error(confidence, good),
    }
    return summary


def _numbers(rows: Sequence[Row]) -> Row:
    errors, largest = [r["error"] for r in rows], [r["max_error"] for r in rows]
    repeated = [r["repeatability"] for r in rows if not math.isnan(r.get("repeatability", math.nan))]
    ratios = [r["inlier_ratio"] for r in rows if "inlier_ratio" in r]
    return {
        "n": len(rows),
        **{f"sr_me_{t}": metrics.success_rate(errors, t) for t in THRESHOLDS_PX},
        **{f"sr_mae_{t}": metrics.success_rate(largest, t) for t in THRESHOLDS_PX},
        "auc25": metrics.auc(errors),
        "median_px": metrics.median(errors),
        "repeatability": float(np.mean(repeated)) if repeated else math.nan,
        "inlier_ratio": float(np.mean(ratios)) if ratios else math.nan,
        "refused": sum(not r["ok"] and not r["exception"] for r in rows),
        "exceptions": sum(r["exception"] for r in rows),
        "silent_failures": sum(r["ok"] and r["error"] >= SILENT_PX for r in rows),
        "median_ms": metrics.median([r["ms"] for r in rows if not math.isnan(r["ms"])]),
    }


_COLUMNS = {  # of the table: name -> (key, how it is written)
    "n": ("n", "{:d}"),
    **{f"ME<{t}": (f"sr_me_{t}", "{:.1%}") for t in THRESHOLDS_PX},
    "max<5": ("sr_mae_5", "{:.1%}"),
    "max<10": ("sr_mae_10", "{:.1%}"),
    "AUC25": ("auc25", "{:.3f}"),
    "median px": ("median_px", "{:.2f}"),
    "Rep": ("repeatability", "{:.2f}"),
    "MIR": ("inlier_ratio", "{:.2f}"),
    "refused": ("refused", "{:d}"),
    "crashed": ("exceptions", "{:d}"),
    "silent": ("silent_failures", "{:d}"),
    "median ms": ("median_ms", "{:.0f}"),
}


def markdown(summary: dict[str, Row]) -> str:
    """The summary as a Markdown table, aligned to be read as text too."""
    lines = [["pairs", *_COLUMNS]]
    for name, numbers in summary.items():
        if "sr_me_2" in numbers:
            lines.append([name, *(form.format(numbers[key]) for key, form in _COLUMNS.values())])
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    rows = ["| " + " | ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)) + " |" for line in lines]
    rows.insert(1, "|" + "|".join("-" * (w + 2) for w in widths) + "|")
    if WRONG in summary:
        w = summary[WRONG]
        rows += ["", f"Wrong pairs: {w['false_accepts']} of {w['n']} accepted, {w['exceptions']} crashed."]
    c = summary["confidence"]
    rows += ["", f"Confidence: AUROC {c['auroc']:.4f}, calibration error {c['calibration_error']:.4f}"
                 f" ({c['n']} pairs, {c['failures']} failures)."]  # fmt: skip
    return "\n".join(rows) + "\n"


def plot(rows: Sequence[Row]) -> bytes:
    """Success against error threshold, and success against confidence, as a PNG. Needs matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise EngineError("plots: matplotlib is not installed; remedy: pip install 'fastretina[train]'") from error
    import io

    figure = Figure(figsize=(10, 4), layout="constrained")
    curve, reliability = figure.subplots(1, 2)
    thresholds = np.linspace(0, 25, 251)
    for kind in dict.fromkeys(r["kind"] for r in rows if r["kind"] != WRONG):
        errors = [r["error"] for r in rows if r["kind"] == kind]
        curve.plot(thresholds, [metrics.success_rate(errors, t) for t in thresholds], label=f"{kind} (n={len(errors)})")
    curve.set(xlabel="mean error below, px of a 640-px frame", ylabel="share of pairs", ylim=(0, 1.02), xlim=(0, 25))
    curve.legend()
    order = np.argsort([r["confidence"] for r in rows], kind="stable")
    for part in np.array_split(order, min(10, len(order))):
        mean = np.mean([rows[i]["confidence"] for i in part])
        reliability.plot(mean, np.mean([rows[i]["candidate_error"] < GOOD_PX for i in part]), "o", color="tab:blue")
    reliability.plot([0, 1], [0, 1], color="gray", linewidth=1)
    reliability.set(
        xlabel="confidence", ylabel=f"share with error < {GOOD_PX:.0f} px", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02)
    )
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=120)
    return out.getvalue()
