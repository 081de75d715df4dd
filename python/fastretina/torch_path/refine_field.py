"""refine_field of the room refine in PyTorch, in float64; csrc/refine/refine.h says what, field_fit_cpu.cpp how."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from fastretina.torch_path.options import FieldOptions
from fastretina.torch_path.refine import Ridges, _front, _inside, _sample, _turn, apply

MARGIN_PX, STEP_PX, TRIALS = 2, 2, 4
LEAST_GRID_STEP_PX = 40.0
COARSE_PX, POINT_PX, FINEST_PX = 6, 3, 2  # lattices of MOVING: the first question, the halves, the last fit
ASKED_ITERATIONS, COARSE_DOUBT_NATS = 3, 5
SHARED, MOST_CORRELATION = 80, 0.999


class FieldRefinement(NamedTuple):
    control: Tensor | None  # (rows, columns, 2); None: no field is supported
    rectangle: tuple[float, float, float, float]  # of the grid
    gain_nats: float
    score_before: float
    score_after: float
    iterations: int


class Grid(NamedTuple):
    origin: Tensor  # of the first control point
    step: float
    columns: int
    rows: int

    @property
    def size(self) -> int:
        return self.columns * self.rows

    @property
    def rectangle(self) -> tuple[float, float, float, float]:
        x, y = self.origin.tolist()
        return x, y, x + (self.columns - 1) * self.step, y + (self.rows - 1) * self.step

    def basis(self, at: Tensor) -> Tensor:
        """(n, count): the weights of the control points at points."""
        weights = []
        for axis, count in enumerate((self.columns, self.rows)):
            away = ((at[:, axis] - self.origin[axis])[:, None] / self.step - torch.arange(count)).abs()
            near = (4 - 6 * away**2 + 3 * away**3) / 6
            weights.append(torch.where(away < 1, near, (2 - away).clamp(min=0) ** 3 / 6))
        return (weights[1][:, :, None] * weights[0][:, None, :]).reshape(len(at), -1)

    def cells(self, at: Tensor) -> tuple[Tensor, Tensor]:
        """The cell that each point lies in, and how many points each cell has."""
        across, down = self.columns - 3, self.rows - 3
        place = torch.floor((at - self.origin) / self.step).long()
        cell = (place[:, 1].clamp(1, down) - 1) * across + place[:, 0].clamp(1, across) - 1
        return cell, torch.bincount(cell, minlength=across * down)

    def precision(self, options: FieldOptions) -> Tensor:
        """(count, count): of the prior of one axis."""
        index = torch.arange(self.size).reshape(self.rows, self.columns)
        total = torch.eye(self.size, dtype=torch.float64) / options.shift_px**2
        bend = options.bend_px**-2
        for stencil, weight in (
            ((index[:, :-2], index[:, 1:-1], index[:, 2:]), (1, -2, 1)),
            ((index[:-2], index[1:-1], index[2:]), (1, -2, 1)),
            ((index[:-1, :-1], index[:-1, 1:], index[1:, :-1], index[1:, 1:]), (1, -1, -1, 1)),
        ):
            rows = torch.zeros(stencil[0].numel(), self.size, dtype=torch.float64)
            for at, value in zip(stencil, weight, strict=True):
                rows[torch.arange(len(rows)), at.flatten()] += value
            total += (2 if len(weight) == 4 else 1) * bend * rows.T @ rows
        return total


class Fit:
    def __init__(self, fixed: Ridges, moving: Ridges, kind: str, params: Tensor, options: FieldOptions) -> None:
        self.fixed, self.moving, self.kind, self.params, self.options = fixed, moving, kind, params, options

    def survey(self, step: int) -> int:
        self.step, own = step, self.moving.levels[-1]
        y, x = torch.nonzero(own[step // 2 :: step, step // 2 :: step, 3], as_tuple=True)
        points = (torch.stack([x, y], 1) * step + step // 2).double()
        at, keep = apply(self.kind, self.params, points), _front(self.kind, self.params, points)
        for dx in (-MARGIN_PX, MARGIN_PX):
            for dy in (-MARGIN_PX, MARGIN_PX):
                offset = torch.tensor([dx, dy], dtype=torch.float64)
                keep &= _inside(self.fixed.levels[-1], at + offset) & _inside(own, points + offset)
        self.surveyed, self.surveyed_at = points[keep], at[keep]
        return len(self.surveyed)

    def grid(self) -> Grid:
        low, high = self.surveyed_at.min(0).values, self.surveyed_at.max(0).values
        step = max(float((high - low).max()) / self.options.cells, LEAST_GRID_STEP_PX)
        columns, rows = (max(1, math.ceil(v)) + 3 for v in ((high - low) / step).tolist())
        return Grid(low - step, step, columns, rows)

    def choose(self, grid: Grid, fold: int | None) -> None:
        """``fold``: 0 or 1 of a chessboard of half grid steps, or None: all."""
        half = torch.floor(2 * ((self.surveyed_at - grid.origin) / grid.step)).long()
        keep = torch.ones(len(half), dtype=torch.bool) if fold is None else half.sum(1) % 2 == fold
        points, self.at = self.surveyed[keep], self.surveyed_at[keep]
        self.basis, self.prior = grid.basis(self.at), grid.precision(self.options)
        self.cell, self.counts = grid.cells(self.at)
        m = _sample(self.moving.levels[-1], points)[0]
        turned = _turn(self.kind, self.params, points.mean(0), m[:, 1:])
        self.m = torch.cat([m[:, :1] - m[:, 0].mean(), turned], 1)
        self.cell_m, self.cell_mm = self.per_cell(self.m[:, 0]), self.per_cell((self.m**2).sum(1))

    def per_cell(self, values: Tensor) -> Tensor:
        return torch.zeros(len(self.counts), dtype=torch.float64).index_add_(0, self.cell, values)

    def agreement(self, f: Tensor) -> tuple[float, Tensor, Tensor]:
        """Log-likelihood of the centred FIXED values; gain and weight of each cell, a point: see field_fit_cpu.cpp."""
        ff, fm = self.per_cell((f * f).sum(1)), self.per_cell((f * self.m).sum(1))
        share = SHARED / max(len(f), 1)
        ff, fm = ff + share * max(float(ff.sum()), 1e-12), fm + share * fm.sum()
        mm = self.cell_mm + share * self.cell_mm.sum() + 1e-12
        r = (fm / (ff * mm).sqrt()).clamp(0, MOST_CORRELATION)
        samples = (
            (self.step / POINT_PX) ** 2 * self.options.samples_per_point * (self.counts + SHARED) * (self.counts > 0)
        )
        likelihood = float(-(samples * 0.5 * torch.log(1 - r**2)).sum())
        return likelihood, (fm.clamp(min=0) / ff)[self.cell], (samples / (mm * (1 - r**2)))[self.cell]

    def measure(self, control: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The centred values of FIXED with their derivatives by x and y, plane px."""
        moved = self.at + self.basis @ control
        f, fx, fy = _sample(self.fixed.levels[-1], moved)
        f = torch.cat([f[:, :1] - f[:, 0].mean(), f[:, 1:]], 1)
        return f, fx, fy

    def correlation(self, control: Tensor) -> float:
        f = self.measure(control)[0]
        return float((f * self.m).sum()) / math.sqrt(float((f * f).sum()) * float(self.cell_mm.sum()) + 1e-12)

    def log_likelihood(self, control: Tensor) -> float:
        return self.agreement(self.measure(control)[0])[0]

    def energy(self, control: Tensor) -> float:
        """Minus the logarithm of the prior."""
        return 0.5 * float((control * (self.prior @ control)).sum())

    def normal(self, control: Tensor) -> tuple[float, Tensor, Tensor]:
        """Cost, matrix and gradient; unknowns: all x, then all y."""
        f, fx, fy = self.measure(control)
        likelihood, gain, weight = self.agreement(f)
        rest = self.m - gain[:, None] * f

        def product(a: Tensor, b: Tensor) -> Tensor:
            return self.basis.T @ ((weight * gain**2 * (a * b).sum(1))[:, None] * self.basis)

        xy = product(fx, fy)
        matrix = torch.cat([torch.cat([product(fx, fx) + self.prior, xy], 1),
                            torch.cat([xy.T, product(fy, fy) + self.prior], 1)])  # fmt: skip
        slopes = torch.stack([(fx * rest).sum(1), (fy * rest).sum(1)], 1)
        gradient = self.basis.T @ ((weight * gain)[:, None] * slopes) - self.prior @ control
        return self.energy(control) - likelihood, matrix, gradient.T.reshape(-1)

    def run(self, control: Tensor, max_iterations: int) -> tuple[Tensor, int]:
        damping, iteration = 1e-3, 0
        while iteration < max_iterations:
            iteration += 1
            now, matrix, gradient = self.normal(control)
            better, moved = False, 0.0
            for _ in range(TRIALS):
                factor, failed = torch.linalg.cholesky_ex(matrix + damping * torch.diag(matrix.diagonal()))
                if failed:
                    return control, iteration
                delta = torch.cholesky_solve(gradient[:, None], factor)[:, 0].reshape(2, -1).T
                moved = float(delta.abs().max())
                trial = control + min(1.0, STEP_PX / max(moved, 1e-30)) * delta
                better = self.energy(trial) - self.log_likelihood(trial) < now
                if better:
                    control, damping = trial, max(0.2 * damping, 1e-5)
                    break
                if moved < self.options.epsilon_px:
                    break
                damping = max(8 * damping, 1e-3)
            if not better or moved < self.options.epsilon_px:
                break
        return control, iteration


def _supported(fit: Fit, grid: Grid, flat: Tensor) -> tuple[bool, float, int]:
    """As in the core: one half is asked about the first step of the fit to the other, then each about the other."""
    least, iterations = fit.options.min_gain_nats, 0

    def gain(fitted: int, asked: int, most: int) -> float:
        nonlocal iterations
        fit.choose(grid, fitted)
        control, used = fit.run(flat, most)
        iterations += used
        fit.choose(grid, asked)
        return fit.log_likelihood(control) - fit.log_likelihood(flat)

    first = gain(0, 1, 1)
    if first < least / 3 - COARSE_DOUBT_NATS:
        return False, first, iterations
    fit.survey(POINT_PX)
    both = gain(0, 1, ASKED_ITERATIONS) + gain(1, 0, ASKED_ITERATIONS)
    return both >= least, both, iterations


def _least_jacobian(grid: Grid, control: Tensor) -> float:
    from fastretina.displacement import least_jacobian

    return least_jacobian(control.reshape(grid.rows, grid.columns, 2).numpy(), grid.rectangle)[0]


def refine_field(fixed: Ridges, moving: Ridges, kind: str, params: Tensor,
                 options: FieldOptions | None = None) -> FieldRefinement:  # fmt: skip
    """params: (12,) float64. As ``fastretina.ops.refine_field``."""
    options = options or FieldOptions()
    nothing = FieldRefinement(None, (0.0, 0.0, 0.0, 0.0), 0.0, 0.0, 0.0, 0)
    if min(*fixed.levels[-1].shape[:2], *moving.levels[-1].shape[:2]) < 2:
        return nothing
    fit = Fit(fixed, moving, kind, params, options)
    if (coarse := fit.survey(COARSE_PX)) == 0 or coarse * COARSE_PX**2 < options.min_points * POINT_PX**2:
        return nothing
    grid = fit.grid()
    flat = control = torch.zeros(grid.size, 2, dtype=torch.float64)
    good, gain, iterations = _supported(fit, grid, flat)
    if not good:
        return nothing._replace(gain_nats=gain, iterations=iterations)
    fit.survey(FINEST_PX)
    fit.choose(grid, None)
    control, used = fit.run(control, options.max_iterations)
    iterations += used
    before, after = fit.correlation(flat), fit.correlation(control)
    moved = (fit.basis @ control).norm(dim=1)
    kept = (
        after > before
        and float((moved**2).mean().sqrt()) >= options.min_displacement_px
        and float(moved.max()) <= options.max_displacement_px
        and _least_jacobian(grid, control) >= options.min_jacobian
    )
    shaped = control.reshape(grid.rows, grid.columns, 2) if kept else None
    return FieldRefinement(shaped, grid.rectangle, gain, before, after, iterations)
