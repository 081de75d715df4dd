"""Register every case with every method, and say in a row how it went."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

import numpy as np

from fastretina.evaluation import metrics
from fastretina.evaluation.cases import FRAME_PX, Case, Target
from fastretina.transform_math import Floats
from fastretina.types import Registration

Row = dict[str, Any]

SILENT_PX = 10.0  # of a 640-px frame: an accepted result with a larger error is a silent failure
GOOD_PX = 5.0  # of a 640-px frame: what confidence is a probability of, and the radius of repeatability
EXPECTED_POINTS = 64  # of a pair, at which the expected error is compared with the actual one
MIN_LANDMARKS = 6  # fewer say little about a transform


class Registers(Protocol):
    """Whatever registers a pair: a Registrar, or a peer to compare it with."""

    def register(self, fixed: Any, moving: Any) -> Registration: ...


Measure = Callable[[str, Case, Registration], Row]  # of a method, what a row says beside the usual


def evaluate(
    methods: Mapping[str, Registers],
    cases: Iterable[Case],
    progress: Callable[[Row], None] = lambda row: None,
    measure: Measure = lambda method, case, result: {},
) -> list[Row]:
    """One row a case and method, and one for each bound that a case comes with.

    ``methods``: name -> registrar. ``progress`` is called with each row as it comes. Lengths in a row are px of the
    case's frame. What a registrar raises is a miss with its own status: one crash must not hide the other pairs.
    """
    rows: list[Row] = []
    for case in cases:
        of_case = [_registered(name, registrar, case, measure) for name, registrar in methods.items()]
        of_case += [_bound(name, bound, case) for name, bound in case.bounds.items()]
        for row in of_case:
            rows.append(row)
            progress(row)
    return rows


def _named(method: str, case: Case) -> Row:
    return {"method": method, "id": case.id, "kind": case.kind, "modalities": case.modalities,
            "frame_px": case.frame_px, "wrong": case.target is None}  # fmt: skip


def _registered(method: str, registrar: Registers, case: Case, measure: Measure) -> Row:
    row = _named(method, case)
    wall, cpu = time.perf_counter(), time.process_time()
    try:
        result = registrar.register(case.fixed, case.moving)
    except Exception as error:
        lost = _errors(None, case, False)
        return row | {"ok": False, "exception": True, "status": f"exception: {error}"[:200], "confidence": 0.0,
                      "attempts": 0, "ms": math.nan, "cpu_ms": math.nan, **lost}  # fmt: skip
    row |= {"ms": (time.perf_counter() - wall) * 1e3, "cpu_ms": (time.process_time() - cpu) * 1e3}
    row |= {"ok": result.ok, "exception": False, "status": result.status, "confidence": float(result.confidence)}
    row |= {"attempts": int(result.choices.get("attempts", 1)), **_errors(result.transform, case, result.ok)}
    row |= measure(method, case, result)
    if case.target is not None:
        row["inlier_ratio"] = metrics.inlier_ratio(result.inliers)
        row["repeatability"] = _repeatability(result, case.target, max(case.fixed.shape[:2]) / FRAME_PX)
        if result.ok and not math.isnan(result.confidence):  # of those that judge themselves
            row |= _expected(result, case.target, case.frame_px / max(case.fixed.shape[:2]))
    return row


def _bound(name: str, bound: Callable[[Floats], Floats], case: Case) -> Row:
    """A map that was fitted to the truth: what no registrar with that model can beat."""
    row = _named(name, case) | {"ok": True, "exception": False, "status": "bound", "confidence": math.nan}
    return row | {"attempts": 0, "ms": math.nan, "cpu_ms": math.nan, **_errors(bound, case, True)}


def _errors(transform: Callable[[Floats], Floats] | None, case: Case, ok: bool) -> Row:
    """Mean and largest error, infinite if refused; the candidate's mean, refused or not; what became of it."""
    if case.target is None:
        return {"error": math.inf, "max_error": math.inf, "candidate_error": math.inf, "good": False, "silent": ok}
    scale = case.frame_px / max(case.fixed.shape[:2])
    errors = metrics.point_errors(transform, case.target.moving, case.target.fixed) * scale
    mean, largest, unit = float(errors.mean()), float(errors.max()), case.frame_px / FRAME_PX
    row = {"error": mean if ok else math.inf, "max_error": largest if ok else math.inf, "candidate_error": mean}
    row |= {"good": mean < GOOD_PX * unit, "silent": ok and mean >= SILENT_PX * unit}
    if len(case.target.landmarks_moving) >= MIN_LANDMARKS and transform is not None:
        clicked = metrics.point_errors(transform, case.target.landmarks_moving, case.target.landmarks_fixed)
        row["landmark_error"] = float(clicked.mean()) * scale
    return row


def _expected(result: Registration, goal: Target, scale: float) -> Row:
    """Expected and actual error at some points of the target; points where nothing is expected are left out."""
    some = np.linspace(0, len(goal.moving) - 1, min(EXPECTED_POINTS, len(goal.moving))).astype(int)
    expected = result.expected_error(goal.moving[some]) * scale
    actual = metrics.point_errors(result.transform, goal.moving[some], goal.fixed[some]) * scale
    there = np.isfinite(expected)
    return {"expected_errors": expected[there].tolist(), "actual_errors": actual[there].tolist()}


def _repeatability(result: Registration, goal: Target, unit: float) -> float:
    """``unit``: px of FIXED to a px of the 640-px frame."""
    if goal.truth is None or not len(result.keypoints_fixed) or not len(result.keypoints_moving):
        return math.nan
    sizes = (result.fixed_size, result.moving_size)
    return metrics.repeatability(
        result.keypoints_fixed, result.keypoints_moving, goal.truth, sizes, radius=GOOD_PX * unit
    )


def both_ways(methods: Mapping[str, Registers]) -> Measure:
    """Measures the inverse consistency of each result: the same pair once more, with its roles exchanged."""

    def measure(method: str, case: Case, result: Registration) -> Row:
        lost = {"inverse": math.inf}
        if result.transform is None:
            return lost
        try:
            back = methods[method].register(case.moving, case.fixed)
        except Exception:
            return lost
        return (
            lost
            if back.transform is None
            else {"inverse": result.inverse_consistency(back) * case.frame_px / max(case.fixed.shape[:2])}
        )

    return measure


def measured(values: Iterable[float]) -> list[float]:
    """Those that are not NaN."""
    return [v for v in values if not np.isnan(v)]
