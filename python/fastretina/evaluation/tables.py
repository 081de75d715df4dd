"""Rows of an evaluation in numbers, and the numbers as one Markdown table."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from fastretina.errors import InvalidInput
from fastretina.evaluation import metrics
from fastretina.evaluation.cases import FRAME_PX
from fastretina.evaluation.run import SILENT_PX, Row, measured

THRESHOLDS_PX = (2, 3, 5, 10)
MOST_MODALITIES = 12  # pairs of them that have a row each: more would hide the others
HIGHEST = 5  # how many of the most confident wrong pairs are named

_COLUMNS = {  # of the table: name -> (key, how it is written)
    "n": ("n", "{:d}"),
    **{f"ME<{t}": (f"sr_me_{t}", "{:.1%}") for t in THRESHOLDS_PX},
    "max<5": ("sr_mae_5", "{:.1%}"),
    "max<10": ("sr_mae_10", "{:.1%}"),
    "AUC25": ("auc25", "{:.3f}"),
    "AUC25 raw": ("auc25_raw", "{:.3f}"),
    "median px": ("median_px", "{:.2f}"),
    "mean px": ("mean_px", "{:.2f}"),
    "inverse px": ("inverse_px", "{:.2f}"),
    "landmarks px": ("landmarks_px", "{:.2f}"),
    "Rep": ("repeatability", "{:.2f}"),
    "MIR": ("inlier_ratio", "{:.2f}"),
    "MSE": ("mse", "{:.3f}"),
    "RMSE": ("rmse", "{:.3f}"),
    "failed": ("failed", "{:d}"),
    "refused": ("refused", "{:d}"),
    "crashed": ("exceptions", "{:d}"),
    "silent": ("silent_failures", "{:d}"),
    "climbed": ("climbed", "{:.0%}"),
    "median ms": ("median_ms", "{:.0f}"),
    "p95 ms": ("p95_ms", "{:.0f}"),
    "CPU ms": ("median_cpu_ms", "{:.0f}"),
}
_ON_REQUEST = ("MSE", "RMSE", "failed", "CPU ms")  # of a document's table


def summarise(rows: Sequence[Row]) -> dict[str, dict[str, Row]]:
    """By method: one summary a kind of case, one a modality pair where a kind has some, over all kinds, for wrong
    pairs (``wrong``), for ``confidence``, for ``inverse`` consistency and for ``expected_error``."""
    if not rows:
        raise InvalidInput("evaluate: no pair could be scored")
    return {m: _of_method([r for r in rows if r["method"] == m]) for m in dict.fromkeys(r["method"] for r in rows)}


def _of_method(rows: Sequence[Row]) -> dict[str, Row]:
    right = [r for r in rows if not r["wrong"]]
    kinds = list(dict.fromkeys(r["kind"] for r in right))
    summary: dict[str, Row] = {}
    for kind in kinds:
        of_kind = [r for r in right if r["kind"] == kind]
        summary[kind] = _numbers(of_kind)
        modalities = sorted({r["modalities"] for r in of_kind})
        for name in modalities if 1 < len(modalities) <= MOST_MODALITIES else ():
            summary[f"{kind} {name}"] = _numbers([r for r in of_kind if r["modalities"] == name])
    if len(kinds) > 1:
        shares = [key for key in summary[kinds[0]] if key.startswith(("sr_", "auc25"))]
        means = {key: float(np.mean([summary[kind][key] for kind in kinds])) for key in shares}
        summary[f"mean of {', '.join(kinds)}"] = means
        summary["all"] = _numbers(right)
    if wrong := [r for r in rows if r["wrong"]]:
        summary["wrong"] = _wrong(wrong)
    confidence = [r["confidence"] for r in rows]
    if not any(math.isnan(c) for c in confidence):
        good = [r["good"] for r in rows]
        summary["confidence"] = {
            "n": len(rows),
            "failures": len(good) - sum(good),
            "auroc": metrics.auroc(confidence, good),
            "calibration_error": metrics.calibration_error(confidence, good),
        }
    if any("inverse" in r for r in rows):
        apart, good = [r.get("inverse", math.inf) for r in rows], [r["good"] for r in rows]
        summary["inverse"] = {"n": len(rows), "auroc": metrics.auroc([-a for a in apart], good)}
    if maps := [r for r in right if r.get("expected_errors")]:
        summary["expected_error"] = _expected_error(maps)
    return summary


def _expected_error(rows: Sequence[Row]) -> Row:
    """How well ``Registration.expected_error`` foretells the error, over all points and within a pair."""
    pairs = [(r["expected_errors"], r["actual_errors"]) for r in rows]
    expected, actual = (np.concatenate([np.asarray(p[i]) for p in pairs]) for i in (0, 1))
    return {
        "pairs": len(pairs),
        "points": len(expected),
        "rank_correlation": metrics.rank_correlation(expected, actual),
        "rank_correlation_within": _mean(measured(metrics.rank_correlation(*p) for p in pairs)),
        "bins": metrics.calibration_bins(expected, actual),
    }


def _numbers(rows: Sequence[Row]) -> Row:
    errors, largest = [r["error"] for r in rows], [r["max_error"] for r in rows]
    ms = measured(r["ms"] for r in rows)
    return {
        "n": len(rows),
        **{f"sr_me_{t}": metrics.success_rate(errors, t) for t in THRESHOLDS_PX},
        **{f"sr_mae_{t}": metrics.success_rate(largest, t) for t in THRESHOLDS_PX},
        "auc25": metrics.auc(errors),
        "auc25_raw": metrics.auc([r["candidate_error"] for r in rows]),
        "median_px": metrics.median(errors),
        "mean_px": _mean([e for e in errors if math.isfinite(e)]),
        "inverse_px": metrics.median([r["inverse"] for r in rows if r["ok"] and "inverse" in r]),
        "landmarks_px": metrics.median(measured(r.get("landmark_error", math.nan) for r in rows)),
        "repeatability": _mean(measured(r.get("repeatability", math.nan) for r in rows)),
        "inlier_ratio": _mean([r["inlier_ratio"] for r in rows if "inlier_ratio" in r]),
        "mse": _mean(squares := measured(r.get("mse", math.nan) for r in rows)),
        "rmse": _mean([math.sqrt(v) for v in squares]),
        "failed": sum(not r["error"] < SILENT_PX * r["frame_px"] / FRAME_PX for r in rows),
        "refused": sum(not r["ok"] and not r["exception"] for r in rows),
        "exceptions": sum(r["exception"] for r in rows),
        "silent_failures": sum(r["silent"] for r in rows),
        "climbed": _mean([r["attempts"] > 1 for r in rows]) if any(r["attempts"] for r in rows) else math.nan,
        "median_ms": metrics.median(ms),
        "p95_ms": float(np.percentile(ms, 95)) if ms else math.nan,
        "median_cpu_ms": metrics.median(measured(r["cpu_ms"] for r in rows)),
    }


def _wrong(rows: Sequence[Row]) -> Row:
    ranked = sorted((r for r in rows if not math.isnan(r["confidence"])), key=lambda r: -r["confidence"])
    kinds = dict.fromkeys(r["kind"] for r in rows)
    return {
        "n": len(rows),
        "false_accepts": sum(r["ok"] for r in rows),
        "exceptions": sum(r["exception"] for r in rows),
        "by_kind": {k: [sum(r["ok"] for r in rows if r["kind"] == k), sum(r["kind"] == k for r in rows)]
                    for k in kinds},
        "median_ms": metrics.median(measured(r["ms"] for r in rows)),
        "highest": [{"id": r["id"], "confidence": r["confidence"], "ok": r["ok"]} for r in ranked[:HIGHEST]],
    }  # fmt: skip


def _mean(values: Sequence[Any]) -> float:
    return float(np.mean(values)) if len(values) else math.nan


def markdown(summary: dict[str, dict[str, Row]]) -> str:
    """The summary as one Markdown table, aligned to be read as text too, and a line a further finding."""
    rows = [(m, name, numbers) for m, of_method in summary.items() for name, numbers in of_method.items()]
    text = table(rows, [name for name in _COLUMNS if name not in _ON_REQUEST])
    for method, of_method in summary.items():
        text += _findings(method, of_method)
    return "\n".join(text).strip("\n") + "\n"


def table(rows: Sequence[tuple[str, str, Row]], columns: Sequence[str]) -> list[str]:
    """The lines of a Markdown table: one a (method, pairs, numbers), without columns that say nothing."""
    rows = [row for row in rows if "sr_me_2" in row[2]]
    if not rows:
        return []
    shown = {c: _COLUMNS[c] for c in columns if any(_cell(n, *_COLUMNS[c]) != "–" for _, _, n in rows)}
    lines = [["method", "pairs", *shown]]
    lines += [[method, name, *(_cell(n, *v) for v in shown.values())] for method, name, n in rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    text = ["| " + " | ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)) + " |" for line in lines]
    return [text[0], "|" + "|".join("-" * (w + 2) for w in widths) + "|", *text[1:]]


def _cell(numbers: Row, key: str, form: str) -> str:
    value = numbers.get(key, math.nan)
    return "–" if math.isnan(value) else form.format(value)


def _findings(method: str, summary: dict[str, Row]) -> list[str]:
    lines = []
    if w := summary.get("wrong"):
        parts = ", ".join(f"{kind} {accepted} of {n}" for kind, (accepted, n) in w["by_kind"].items())
        lines += ["", f"Wrong pairs ({method}): {w['false_accepts']} of {w['n']} accepted, {w['exceptions']} crashed"
                      f"{f' ({parts})' if len(w['by_kind']) > 1 else ''}."]  # fmt: skip
        if w["highest"]:
            named = ", ".join(f"{h['id']} {h['confidence']:.3f}" for h in w["highest"])
            lines += [f"Most confident of them: {named}."]
    if c := summary.get("confidence"):
        lines += ["", f"Confidence ({method}): AUROC {c['auroc']:.4f}, calibration error {c['calibration_error']:.4f}"
                      f" ({c['n']} pairs, {c['failures']} failures)."]  # fmt: skip
    if (i := summary.get("inverse")) and not math.isnan(i["auroc"]):
        lines += ["", f"Inverse consistency ({method}): as a judge of {i['n']} pairs AUROC {i['auroc']:.4f}."]
    if e := summary.get("expected_error"):
        tenths = ", ".join(f"{expected:.2f}/{actual:.2f}" for expected, actual in e["bins"])
        lines += ["", f"Expected error ({method}): rank correlation {e['rank_correlation']:.3f} with the actual one"
                      f" over {e['points']} points of {e['pairs']} accepted pairs, {e['rank_correlation_within']:.3f}"
                      f" within a pair. Means of tenths, expected/actual px: {tenths}."]  # fmt: skip
    return lines
