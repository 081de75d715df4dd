"""`upgrade` of room estimate in PyTorch: the same choice as the core; csrc/estimate/upgrade_cpu.cpp says why."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from fastretina.torch_path import estimate_fit as fit
from fastretina.torch_path.estimate import WIDE, Estimate, Problem, nothing, polish, report
from fastretina.torch_path.estimate_fit import MINIMAL_PAIRS, Model
from fastretina.transform import SINGLE_KINDS as KINDS

GRID = 8
RETINA_FRAME = 640
PERSPECTIVE_SD, BEND_SD = 1e-4, 1.5e-5
PARAMETERS = {"similarity": 4, "affine": 6, "homography": 8, "quadratic": 12}
LEAST_COVERAGE = {"similarity": 0.25, "affine": 0.25, "homography": 0.35, "quadratic": 0.5}


class Rung(NamedTuple):
    kind: str
    model: Model
    inverse: Tensor


def _ridge(kind: str, noise: float, problem: Problem, fixed: tuple[int, int], moving: tuple[int, int]) -> float:
    shrink = RETINA_FRAME / max(moving)
    if kind == "homography":
        return noise / (PERSPECTIVE_SD * shrink * problem.scale) ** 2
    if kind == "quadratic":
        return noise / (BEND_SD * shrink**2 * (max(fixed) / RETINA_FRAME) * problem.scale**2) ** 2
    return 0.0


def _fit_rung(problem: Problem, kind: str, mirrored: bool, ridge: float, start: Model, squared: float) -> Rung | None:
    pairs, weight = problem.ordered.T.double(), problem.ordered_weight.double()
    model = fit.promote(kind, start)
    for reach in (4.0, 3.0, 2.5, 2.0):
        stepped = fit.fit_step(fit.gather(pairs, weight, model, reach * reach * squared), kind, mirrored, ridge, model)
        if stepped is None:
            return None
        model = stepped[0]
    model, data, inverse = polish(problem, kind, mirrored, ridge, WIDE * WIDE * squared, 10, model)
    if data is None or inverse is None or data.inliers < MINIMAL_PAIRS[kind]:
        return None
    return Rung(kind, model, inverse)


def _prices(problem: Problem, squared: float, rungs: list[Rung]) -> list[float]:
    """Robust costs over the pairs that any rung explains, in units of the noise, with BIC's price for parameters."""
    r = torch.stack([fit.residual_squared(g.model, problem.ordered.T.double()) for g in rungs])
    explained = r.min(0).values < squared
    weight = problem.ordered_weight.double()[explained]
    r = r[:, explained]
    noise = squared / 9
    for row in r:
        if (row < squared).any():
            noise = min(noise, 0.5 * float(row[row < squared].mean()))
    noise = max(noise, squared / 100)
    count = math.log(max(2, int(explained.sum())))
    return [float((weight * row.clamp(max=squared)).sum()) / noise + PARAMETERS[g.kind] * count
            for g, row in zip(rungs, r, strict=True)]  # fmt: skip


def _tame(
    problem: Problem,
    simple: Rung,
    rung: Rung,
    noise: float,
    threshold: float,
    fixed: tuple[int, int],
    moving: tuple[int, int],
) -> bool:
    """Does the rung behave all over the overlap of the frames?"""
    edge = torch.arange(GRID + 1, dtype=torch.float64)
    x = (moving[0] * edge / GRID - 0.5 - problem.moving_centre[0]) / problem.scale
    y = (moving[1] * edge / GRID - 0.5 - problem.moving_centre[1]) / problem.scale
    middle_y, middle_x = torch.meshgrid(0.5 * (y[:-1] + y[1:]), 0.5 * (x[:-1] + x[1:]), indexing="ij")
    u, v, _ = fit.map_points(simple.model, middle_x, middle_y)
    u, v = u + problem.fixed_centre[0], v + problem.fixed_centre[1]
    overlap = (u >= -0.5) & (v >= -0.5) & (u <= fixed[0] - 0.5) & (v <= fixed[1] - 0.5)

    pairs = problem.ordered.T.double()
    inside = fit.residual_squared(rung.model, pairs) < threshold * threshold
    px = pairs[0, inside] * problem.scale + problem.moving_centre[0]
    py = pairs[1, inside] * problem.scale + problem.moving_centre[1]
    k = ((px + 0.5) * GRID / moving[0]).long().clamp(0, GRID - 1)
    r = ((py + 0.5) * GRID / moving[1]).long().clamp(0, GRID - 1)
    covered = torch.zeros(1, 1, GRID, GRID)
    covered[0, 0, r, k] = 1
    covered = torch.nn.functional.max_pool2d(covered, 3, 1, 1)[0, 0] > 0  # and the neighbours
    if not overlap.any() or (overlap & covered).sum() < LEAST_COVERAGE[rung.kind] * overlap.sum():
        return False

    row, column = torch.nonzero(overlap, as_tuple=True)
    most = {True: 0.0, False: 0.0}
    for dr in (0, 1):
        for dk in (0, 1):
            cx, cy = x[column + dk], y[row + dr]
            stray = noise * fit.prediction_variance(rung.inverse, rung.kind, rung.model, cx, cy)
            turn = fit.area_ratio(rung.model, cx, cy) / fit.area_ratio(simple.model, cx, cy)
            if not bool(((stray <= threshold * threshold) & (turn > 0.25) & (turn < 4)).all()):
                return False
            a, b = fit.map_points(simple.model, cx, cy), fit.map_points(rung.model, cx, cy)
            away = torch.hypot(a[0] - b[0], a[1] - b[1])
            for side in most:
                chosen = away[covered[row, column] == side]
                most[side] = max(most[side], float(chosen.max()) if len(chosen) else 0.0)
    return most[False] <= 2 * most[True] + threshold


def upgrade(
    fixed_xy: Tensor,
    moving_xy: Tensor,
    start_kind: str,
    start_params: Tensor,
    fixed_size: tuple[int, int],
    moving_size: tuple[int, int],
    weight: Tensor | None = None,
    *,
    max_kind: str = "quadratic",
    threshold_px: float = 3.0,
    min_gain: float = 0.05,
) -> Estimate:
    """Refits a transform ((12,) float64 params) and raises its kind where that explains clearly more."""
    lowest = max(1, KINDS.index(start_kind))
    if len(fixed_xy) < MINIMAL_PAIRS[KINDS[lowest]]:
        return nothing(len(fixed_xy), 0)
    problem = Problem(fixed_xy, moving_xy, weight)
    squared = threshold_px**2
    noise = squared / 9
    start = problem.from_params(KINDS[lowest], start_params)
    mirrored = start.form == "affine" and bool(start.p[0] * start.p[4] - start.p[1] * start.p[3] < 0)
    rungs: list[Rung] = []
    fits = 0
    for kind in KINDS[lowest : max(lowest, KINDS.index(max_kind)) + 1]:
        below = [g for g in rungs if kind != "quadratic" or g.model.form == "affine"]
        if rungs and not below:
            continue
        ridge = _ridge(kind, noise, problem, fixed_size, moving_size)
        rung = _fit_rung(problem, kind, mirrored, ridge, below[-1].model if below else start, squared)
        if rung is None and not rungs:
            return nothing(len(fixed_xy), fits)
        rungs += [rung] if rung else []
        fits += 1

    prices = _prices(problem, squared, rungs)
    chosen = 0
    for i in range(1, len(rungs)):
        clearly_better = prices[i] < (1 - min_gain) * prices[chosen]
        if clearly_better and _tame(problem, rungs[chosen], rungs[i], noise, threshold_px, fixed_size, moving_size):
            chosen = i
    return report(problem, rungs[chosen].kind, rungs[chosen].model, threshold_px, fits)
