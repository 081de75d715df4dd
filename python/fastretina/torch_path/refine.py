"""Room refine in PyTorch, in float64: the same maps (to one step of their bytes) and the same steps as the core.

csrc/refine/refine.h says what is computed and why; bounds and constants are those of its options.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from fastretina.torch_path.options import RefineOptions
from fastretina.transform import SINGLE_KINDS as KINDS

SCALES = (8, 4, 2, 1)
THIN = {8: 14, 4: 8, 2: 4, 1: 1}
LANES = 16
MARGIN_PX, STEP_PX, TRIALS = 2, 4, 6
POINT_STEP_PX = 3
PARAMETERS = {"similarity": 4, "affine": 6, "homography": 8, "quadratic": 12}


class Ridges(NamedTuple):
    levels: list[Tensor]  # coarse to fine, (h, w, 4) float64: strength, strength x (cos, sin) of 2a, inside (0 or 1)
    points: Tensor  # (N, 2) float32


class Refinement(NamedTuple):
    kind: str
    params: Tensor  # (12,) float64, the layout of the core's Transform::p
    score_before: float
    score_after: float
    gain_nats: float
    shift_px: float
    iterations: int
    refused: bool


# -- ridges ---------------


def _taps(sigma: float) -> tuple[Tensor, Tensor, Tensor]:
    radius = math.ceil(3 * sigma)
    x = torch.arange(-radius, radius + 1, dtype=torch.float64)
    g = torch.exp(-x * x / (2 * sigma * sigma))
    d1, d2 = x * g, (x * x / sigma**2 - 1) * g
    d2 = d2 - d2.mean()
    return g / g.sum(), d1 / (d1 * x).sum(), d2 / (d2 * x * x / 2).sum()


def _separable(planes: Tensor, vertical: Tensor, horizontal: Tensor) -> Tensor:
    """(C, H, W) correlated with both kernels, zeros outside."""
    planes = functional.conv2d(planes[:, None], vertical[None, None, :, None], padding=(len(vertical) // 2, 0))
    return functional.conv2d(planes, horizontal[None, None, None], padding=(0, len(horizontal) // 2))[:, 0]


def _quantised(planes: Tensor, inside: Tensor | None) -> Tensor:
    strength = torch.floor(planes[0] * 255 + 0.5) / 255
    vector = (torch.floor(planes[1:] * 127 + 128.5) - 128) / 127
    last = torch.zeros_like(strength) if inside is None else inside.double()
    return torch.stack([strength, *vector, last], -1)


def ridges(plane: Tensor, mask: Tensor, sigma_px: float = 2.4, saturation: float = 8.0, rim_px: int = 4,
           max_points: int = 65536) -> Ridges:  # fmt: skip
    """plane (H, W) float32, 0 outside mask (H, W) uint8."""
    sigma = float(torch.tensor(sigma_px, dtype=torch.float32))
    outside = (mask == 0).float()[None, None]
    size = 2 * rim_px + 1
    padded = functional.pad(outside, (rim_px,) * 4, value=1.0)
    inside = functional.max_pool2d(padded, size, stride=1)[0, 0] == 0
    g, d1, d2 = _taps(sigma)
    source = plane.double()[None]
    xx, xy, yy = (_separable(source, v, h)[0] for v, h in ((g, d2), (d1, d1), (d2, g)))
    half, trace = (xx - yy) / 2, xx + yy
    d = torch.hypot(half, xy)
    strength = torch.minimum(trace.abs(), 2 * d) * inside
    unit = torch.where(trace < 0, -strength, strength) / d.clamp(min=1e-12)
    area = int(inside.sum())
    knee = saturation * float(strength.sum()) / max(area, 1) + 1e-9
    planes = torch.stack([strength, unit * half, unit * xy]) / (strength + knee)
    binomial = torch.tensor([1, 4, 6, 4, 1], dtype=torch.float64) / 16
    levels: list[Tensor] = []
    for scale in reversed(SCALES):
        levels.insert(0, _quantised(_separable(planes, binomial, binomial), inside if scale == 1 else None))
        if scale < SCALES[0]:
            planes = functional.pad(planes, (0, planes.shape[2] % 2, 0, planes.shape[1] % 2))
            planes = functional.avg_pool2d(planes[None], 2)[0]
    step = POINT_STEP_PX
    while step * step * max_points < area:
        step += 1
    start = step // 2
    ys, xs = torch.where(inside[start::step, start::step])
    points = torch.stack([xs * step + start, ys * step + start], -1)[:max_points].float()
    return Ridges(levels, points)


# -- transforms ---------------


def apply(kind: str, params: Tensor, points: Tensor) -> Tensor:
    """(N, 2) MOVING -> FIXED."""
    x, y = points.double().unbind(-1)
    if kind == "quadratic":
        terms = torch.stack([torch.ones_like(x), x, y, x * x, x * y, y * y], -1)
        return terms @ params.reshape(2, 6).T
    u = torch.stack([x, y, torch.ones_like(x)], -1) @ params[:9].reshape(3, 3).T
    return u[:, :2] / u[:, 2:] if kind == "homography" else u[:, :2]


def _turn(kind: str, params: Tensor, at: Tensor, vectors: Tensor) -> Tensor:
    """Doubled directions (n, 2) under the similarity nearest to the Jacobian at a point."""
    (a, b), (c, d) = torch.autograd.functional.jacobian(lambda p: apply(kind, params, p[None])[0], at.double())
    mirrored = bool(a * d - b * c < 0)
    z = torch.complex(*vectors.unbind(-1))
    turn = torch.complex(a - d, c + b) if mirrored else torch.complex(a + d, c - b)
    z = (z.conj() if mirrored else z) * (turn / turn.abs()) ** 2
    return torch.view_as_real(z)


def _sample(level: Tensor, at: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Bilinear values (n, 3) and their derivatives by x and y, level pixels; 0 beyond half a pixel outside."""
    h, w = level.shape[:2]
    x, y = at.unbind(-1)
    seen = ((x > -0.5) & (y > -0.5) & (x < w - 0.5) & (y < h - 0.5)).double()[:, None]
    x, y = torch.nan_to_num(x).clamp(0, w - 1), torch.nan_to_num(y).clamp(0, h - 1)
    ix, iy = x.long().clamp(max=w - 2), y.long().clamp(max=h - 2)
    a, b = (x - ix)[:, None], (y - iy)[:, None]
    f = level[..., :3]
    f00, f01, f10, f11 = f[iy, ix], f[iy, ix + 1], f[iy + 1, ix], f[iy + 1, ix + 1]
    top, low = f00 + a * (f01 - f00), f10 + a * (f11 - f10)
    return (top + b * (low - top)) * seen, ((f01 - f00) * (1 - b) + (f11 - f10) * b) * seen, (low - top) * seen


def _inside(finest: Tensor, at: Tensor) -> Tensor:
    h, w = finest.shape[:2]
    x, y = at.unbind(-1)
    seen = (x > -0.5) & (y > -0.5) & (x < w - 0.5) & (y < h - 0.5)
    ix, iy = (torch.floor(torch.nan_to_num(v) + 0.5).long().clamp(0, n - 1) for v, n in ((x, w), (y, h)))
    return seen & (finest[iy, ix, 3] > 0)


def _front(kind: str, params: Tensor, points: Tensor) -> Tensor:
    """Which points are on the same side of the pole as the frame's centre is taken to be (w > 0)."""
    if kind != "homography":
        return torch.ones(len(points), dtype=torch.bool)
    return points.double() @ params[6:8] + params[8] > 0


RIDGE_ROW_STEP = 2


def ridge_correlation(
    fixed: Ridges, moving: Ridges, kind: str, params: Tensor, row_step: int = RIDGE_ROW_STEP
) -> tuple[float, int]:
    f_level, m_level = fixed.levels[-1], moving.levels[-1]
    if min(f_level.shape[:2]) < 2 or m_level.numel() == 0:
        return 0.0, 0
    lattice = m_level[::row_step, ::2]
    ys, xs = torch.where(lattice[..., 3] > 0)
    points = torch.stack([2 * xs, row_step * ys], -1).double()
    at = apply(kind, params, points)
    seen = _inside(f_level, at) & _front(kind, params, points)
    n = int(seen.sum())
    if n < 32:
        return 0.0, 2 * row_step * n
    f = _sample(f_level, at[seen])[0]
    m = lattice[ys, xs, :3][seen]
    m = torch.cat([m[:, :1], _turn(kind, params, points[seen].mean(0), m[:, 1:])], 1)
    f = torch.cat([f[:, :1] - f[:, 0].mean(), f[:, 1:]], 1)
    m = torch.cat([m[:, :1] - m[:, 0].mean(), m[:, 1:]], 1)
    ff, mm = float((f * f).sum()), float((m * m).sum())
    if not (ff > 1e-6 * n and mm > 1e-6 * n):
        return 0.0, 2 * row_step * n
    return max(-1.0, min(1.0, float((f * m).sum()) / math.sqrt(ff * mm))), 2 * row_step * n


def _misfit(r: float) -> float:
    """Minus the log-likelihood an independent sample, at correlation r."""
    return 0.5 * math.log(1 - min(max(r, 0.0), 0.999999) ** 2)


# -- the model around the centre of the MOVING frame ---------------


class Model(NamedTuple):
    kind: str
    centre: Tensor
    radius: float
    origin: Tensor  # FIXED
    mirror: float
    p: Tensor


def _model(kind: str, params: Tensor, target: str, centre: Tensor, radius: float) -> Model | None:
    def local(u: Tensor) -> Tensor:
        return apply(kind, params, (centre + radius * u)[None])[0]

    zero = torch.zeros(2, dtype=torch.float64)
    if kind != "quadratic" and not abs(float(params[6:8] @ centre + params[8])) > 1e-9:
        return None
    value, j = local(zero), torch.autograd.functional.jacobian(local, zero)
    determinant = float(torch.det(j))
    if not math.isfinite(determinant) or determinant == 0:
        return None
    mirror = -1.0 if determinant < 0 else 1.0
    pole = params[6:8] * radius / (params[6:8] @ centre + params[8]) if kind == "homography" else zero
    if target == "similarity":
        p = torch.stack([zero[0], zero[0], (j[0, 0] + mirror * j[1, 1]) / 2, (j[1, 0] - mirror * j[0, 1]) / 2])
    elif target == "quadratic":
        hessians = [torch.autograd.functional.hessian(lambda u, r=r: local(u)[r], zero) for r in (0, 1)]
        rows = [
            torch.stack([zero[0], j[r, 0], j[r, 1], h[0, 0] / 2, h[0, 1], h[1, 1] / 2]) for r, h in enumerate(hessians)
        ]
        p = torch.cat(rows)
    else:
        p = torch.stack([zero[0], *j[0], zero[0], *j[1], *(pole * radius)])[: PARAMETERS[target]]
    return Model(target, centre, radius, value, mirror, p)


def _params(m: Model) -> Tensor:
    """As a transform of pixels."""
    (cx, cy), r, p = m.centre.tolist(), m.radius, m.p
    out = torch.zeros(12, dtype=torch.float64)
    if m.kind == "quadratic":
        for k in (0, 6):
            a, b, c, d, e, f = (p[k] + m.origin[k // 6], *(p[k + 1 : k + 3] / r), *(p[k + 3 : k + 6] / r**2))
            out[k] = a - b * cx - c * cy + d * cx * cx + e * cx * cy + f * cy * cy
            out[k + 1], out[k + 2] = b - 2 * d * cx - e * cy, c - e * cx - 2 * f * cy
            out[k + 3], out[k + 4], out[k + 5] = d, e, f
        return out
    local = torch.eye(3, dtype=torch.float64)
    if m.kind == "similarity":
        local[0] = torch.stack([p[2], -m.mirror * p[3], p[0]])
        local[1] = torch.stack([p[3], m.mirror * p[2], p[1]])
    else:
        local[0], local[1] = p[[1, 2, 0]], p[[4, 5, 3]]
        if m.kind == "homography":
            local[2, :2] = p[6:8] / r
    shift = torch.eye(3, dtype=torch.float64)
    shift[:2, 2] = m.origin
    inner = torch.tensor([[1 / r, 0, -cx / r], [0, 1 / r, -cy / r], [0, 0, 1]], dtype=torch.float64)
    matrix = shift @ local @ inner
    out[:9] = (matrix / matrix[2, 2] if m.kind == "homography" else matrix).ravel()
    return out


def _moved(m: Model, points: Tensor) -> tuple[Tensor, Tensor]:
    """FIXED positions (n, 2), and their derivatives by the parameters (n, 2, q)."""

    u, v = ((points.double() - m.centre) / m.radius).unbind(-1)
    one, zero, p = torch.ones_like(u), torch.zeros_like(u), m.p
    if m.kind == "similarity":
        x_terms, y_terms = [one, zero, u, -m.mirror * v], [zero, one, m.mirror * v, u]
    elif m.kind == "quadratic":
        terms = [one, u, v, u * u, u * v, v * v]
        x_terms, y_terms = terms + [zero] * 6, [zero] * 6 + terms
    else:
        w = 1 + (p[6] * u + p[7] * v) / m.radius if m.kind == "homography" else one
        terms = [one / w, u / w, v / w]
        x_terms, y_terms = terms + [zero] * 3, [zero] * 3 + terms
    jx, jy = torch.stack(x_terms, -1), torch.stack(y_terms, -1)
    moved = torch.stack([jx @ p[: jx.shape[1]], jy @ p[: jx.shape[1]]], -1)
    derivative = torch.stack([jx, jy], 1)
    if m.kind == "homography":
        bend = -moved[:, :, None] * torch.stack(terms[1:], -1)[:, None] / m.radius
        derivative = torch.cat([derivative, bend], 2)
    return moved + m.origin, derivative


# -- a level ---------------


class Measured(NamedTuple):
    f: Tensor
    g: Tensor  # (n, 3, q)
    ff: float
    correlation: float
    cost: float


class Level:
    def __init__(self, fixed: Ridges, moving: Ridges, index: int, options: RefineOptions, prior: Model) -> None:
        self.fixed, self.moving, self.index, self.options, self.prior = fixed, moving, index, options, prior
        self.scale = SCALES[index]
        bends = {"homography": (6, 7), "quadratic": (3, 4, 5, 9, 10, 11)}.get(prior.kind, ())
        self.precision = torch.zeros(PARAMETERS[prior.kind], dtype=torch.float64)
        self.precision[list(bends)] = options.bend_px**-2

    def choose(self, model: Model) -> int:
        thin = THIN[self.scale]
        points = self.moving.points[::thin].double()
        params = _params(model)
        at, keep = apply(model.kind, params, points), _front(model.kind, params, points)
        for dx in (-MARGIN_PX * self.scale, MARGIN_PX * self.scale):
            for dy in (-MARGIN_PX * self.scale, MARGIN_PX * self.scale):
                offset = torch.tensor([dx, dy], dtype=torch.float64)
                keep &= _inside(self.fixed.levels[-1], at + offset) & _inside(self.moving.levels[-1], points + offset)
        points = points[keep]
        n = len(points)
        if n < max(self.options.min_points, LANES):
            return n
        self.corners = torch.cartesian_prod(*(torch.stack([points[:, k].min(), points[:, k].max()]) for k in (0, 1)))
        centre = points.mean(0)
        self.points = points = points[: n - n % LANES]
        m = _sample(self.moving.levels[self.index], (points + 0.5) / self.scale - 0.5)[0]
        self.m = torch.cat([m[:, :1] - m[:, 0].mean(), _turn(model.kind, params, centre, m[:, 1:])], 1)
        self.mm = float((self.m**2).sum())
        self.independent = max(8.0, len(points) * thin * self.options.samples_per_point)
        return n

    def measure(self, model: Model) -> Measured:
        at, derivative = _moved(model, self.points)
        f, fx, fy = _sample(self.fixed.levels[self.index], (at + 0.5) / self.scale - 0.5)
        g = (fx[:, :, None] * derivative[:, None, 0] + fy[:, :, None] * derivative[:, None, 1]) / self.scale
        ff = max(0.0, float((f * f).sum() - f[:, 0].sum() ** 2 / len(f)))
        correlation = float((f * self.m).sum()) / math.sqrt(ff * self.mm + 1e-12)
        cost = self.independent * _misfit(correlation)
        cost += 0.5 * float((self.precision * (model.p - self.prior.p) ** 2).sum())
        return Measured(f, g, ff, correlation, cost)

    def step(self, now: Measured, model: Model, damping: float) -> Tensor | None:
        q, n = now.g.shape[2], len(now.f)
        r = min(max(now.correlation, 0.0), 0.999999)
        prior = self.precision * (now.ff * (1 - r * r) / self.independent + 1e-15)
        offset = torch.zeros(n, 3, 1, dtype=torch.float64)
        offset[:, 0] = 1
        design = torch.cat([now.g, -self.m[:, :, None], -offset], 2).reshape(3 * n, q + 2)
        a, b = design.T @ design, -design.T @ now.f.reshape(-1)
        a[range(q), range(q)] += prior + damping * a.diagonal()[:q] + 1e-9
        a[q, q] = self.mm * (1 + 1e-9) + 1e-12
        b[:q] -= prior * (model.p - self.prior.p)
        factor, failed = torch.linalg.cholesky_ex(a)
        return None if failed else torch.cholesky_solve(b[:, None], factor)[:q, 0]

    def reach(self, a: Model, b: Model) -> float:
        moved = (_moved(a, self.corners)[0] - _moved(b, self.corners)[0]).norm(dim=1).max()
        beyond = not bool(_front(b.kind, _params(b), self.corners).all())
        return 1e30 if beyond or not torch.isfinite(moved) else float(moved)

    def shift(self, a: Model, b: Model) -> float:
        apart = _moved(a, self.points)[0] - _moved(b, self.points)[0]
        return float((apart**2).sum(1).mean().sqrt())

    def run(self, model: Model) -> tuple[Model, int]:
        now, damping, iteration = self.measure(model), 1e-3, 0
        while iteration < self.options.max_iterations:
            iteration += 1
            better, moved = False, 0.0
            for _ in range(TRIALS):
                delta = self.step(now, model, damping)
                if delta is None:
                    break
                candidate = model._replace(p=model.p + delta)
                moved = self.reach(model, candidate)
                if moved > STEP_PX * self.scale:
                    candidate = model._replace(p=model.p + delta * (STEP_PX * self.scale / moved))
                    moved = STEP_PX * self.scale
                then = self.measure(candidate)
                better = then.cost < now.cost
                if better:
                    model, now, damping = candidate, then, max(0.2 * damping, 1e-5)
                    break
                if moved < self.options.epsilon_px * self.scale:
                    break
                damping = max(8 * damping, 1e-3)
            if not better or moved < self.options.epsilon_px * self.scale:
                break
        return model, iteration


def _climb(fixed: Ridges, moving: Ridges, kind: str, params: Tensor, target: str,
           options: RefineOptions) -> tuple[Tensor | None, float, int]:  # fmt: skip
    h, w = moving.levels[-1].shape[:2]
    centre = torch.tensor([w / 2, h / 2], dtype=torch.float64)
    first = model = _model(kind, params, target, centre, max(w, h, 2) / 2)
    if first is None or model is None:
        return None, 0.0, 0
    iterations, furthest, shift = 0, 0.0, 0.0
    for index in range(options.first_level, len(SCALES)):
        if min(*fixed.levels[index].shape[:2], *moving.levels[index].shape[:2]) < 2:
            if index == len(SCALES) - 1:
                return None, 0.0, iterations
            continue
        level = Level(fixed, moving, index, options, first)
        if level.choose(model) < max(options.min_points, LANES):
            return None, 0.0, iterations
        model, used = level.run(model)
        iterations += used
        furthest, shift = level.reach(first, model), level.shift(first, model)
    result = _params(model)
    corners = torch.tensor([[x, y] for x in (-0.5, w - 0.5) for y in (-0.5, h - 0.5)], dtype=torch.float64)
    moved = float((apply(kind, params, corners) - apply(target, result, corners)).norm(dim=1).max())
    wild = not (moved <= options.max_frame_shift_px and bool(_front(target, result, corners).all()))
    return (None if wild or furthest > options.max_shift_px else result), shift, iterations


def refine(fixed: Ridges, moving: Ridges, start_kind: str, params: Tensor, *, kind: str | None = None,
           options: RefineOptions | None = None) -> Refinement:  # fmt: skip
    """params: (12,) float64. As ``fastretina.ops.refine``; ``kind`` overrides the options' one."""
    options = options or RefineOptions()
    before, overlap_px = ridge_correlation(fixed, moving, start_kind, params)
    target = KINDS[max(KINDS.index(start_kind), KINDS.index(kind or options.kind), 1)]
    result, shift, iterations = _climb(fixed, moving, start_kind, params, target, options)
    if result is None:
        return Refinement(start_kind, params, before, before, 0.0, 0.0, iterations, True)
    after, _ = ridge_correlation(fixed, moving, target, result)
    if not after > before:
        return Refinement(start_kind, params, before, before, 0.0, 0.0, iterations, False)
    gain = overlap_px * options.samples_per_point / POINT_STEP_PX**2 * (_misfit(before) - _misfit(after))
    return Refinement(target, result, before, after, gain, shift, iterations, False)
