"""Rows of an evaluation as pictures: success against error, success against confidence, error against time."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np

from fastretina.errors import EngineError
from fastretina.evaluation import metrics
from fastretina.evaluation.cases import FRAME_PX
from fastretina.evaluation.run import GOOD_PX, Row

_LIMIT_PX = 25.0
_BINS = 10
_FLOOR_PX, _TOP_PX = 0.05, 100.0  # of the error axis


def plot(rows: Sequence[Row]) -> bytes:
    """Three panels as a PNG. Needs matplotlib.

    Share of pairs below an error, a curve a method (with one method: a curve a kind of case); share of good candidates
    against confidence, of the methods that give one, in bins of equal count; error against time, refused pairs on top.
    """
    figure = _figure(15)
    success, reliability, times = figure.subplots(1, 3)
    right = [r for r in rows if not r["wrong"]]
    if right:
        _success(success, right)
        _times(times, [r for r in right if not np.isnan(r["ms"])])
    _reliability(reliability, rows)
    return _png(figure)


def reliability_plot(rows: Sequence[Row]) -> bytes:
    """The middle panel alone: rows need ``method``, ``confidence`` and ``good``."""
    figure = _figure(5)
    _reliability(figure.subplots(), rows)
    return _png(figure)


def _figure(width: float) -> Any:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise EngineError("plots: matplotlib is not installed; remedy: pip install 'fastretina[train]'") from error
    return Figure(figsize=(width, 4.6), layout="constrained")


def _png(figure: Any) -> bytes:
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=110)
    return out.getvalue()


def _groups(rows: Sequence[Row], key: str) -> dict[str, list[Row]]:
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row[key], []).append(row)
    return groups


def _success(axes: Any, rows: Sequence[Row]) -> None:
    thresholds = np.linspace(0, _LIMIT_PX, 251)
    methods = _groups(rows, "method")
    for name, part in (methods if len(methods) > 1 else _groups(rows, "kind")).items():
        errors = [r["error"] for r in part]
        axes.plot(thresholds, [metrics.success_rate(errors, t) for t in thresholds], label=f"{name} ({len(part)})")
    label = f"mean error below, {_unit(rows)}"
    axes.set(xlabel=label, ylabel="share of pairs", xlim=(0, _LIMIT_PX), ylim=(0, 1.02))
    axes.legend(fontsize="small")


def _reliability(axes: Any, rows: Sequence[Row]) -> None:
    for name, part in _groups([r for r in rows if not np.isnan(r["confidence"])], "method").items():
        order = np.argsort([r["confidence"] for r in part], kind="stable")
        bins = [b for b in np.array_split(order, _BINS) if len(b)]
        confidence = [np.mean([part[i]["confidence"] for i in b]) for b in bins]
        axes.plot(confidence, [np.mean([part[i]["good"] for i in b]) for b in bins], "o", label=f"{name} ({len(part)})")
    axes.plot([0, 1], [0, 1], color="gray", linewidth=1)
    label = f"share with error < {GOOD_PX:.0f} px of a {FRAME_PX:.0f}-px frame"
    axes.set(xlabel="confidence", ylabel=label, xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    axes.legend(fontsize="small")


def _times(axes: Any, rows: Sequence[Row]) -> None:
    for name, part in _groups(rows, "method").items():
        error = [min(max(r["error"], _FLOOR_PX), _TOP_PX) for r in part]
        axes.loglog([r["ms"] for r in part], error, "o", markersize=3, alpha=0.6, label=name)
    axes.axhline(_TOP_PX, color="gray", linewidth=1)
    axes.set(xlabel="time, ms", ylabel="mean error, px (top line: refused, or more)")
    axes.legend(fontsize="small")


def _unit(rows: Sequence[Row]) -> str:
    return f"px of a {' / '.join(f'{f:.0f}' for f in sorted({r['frame_px'] for r in rows}))}-px frame"
