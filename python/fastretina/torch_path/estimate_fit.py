"""What `estimate` computes with: samples, maps, weighted fits. Room coordinates as in csrc/estimate/estimate_math.h.

A model is (form, p): form "affine" (p[0:6]) and "homography" (p[0:9]) are rows of a matrix, "quadratic" (p[0:12]) two
polynomials in 1, x, y, x^2, x y, y^2.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

MINIMAL_PAIRS = {"similarity": 2, "affine": 3, "homography": 4, "quadratic": 6}
FORMS = {"similarity": "affine", "affine": "affine", "homography": "homography", "quadratic": "quadratic"}


class Model(NamedTuple):
    form: str
    p: Tensor  # (12,) or (n, 12)


# -- random numbers (csrc/core/rng.h) on int64, whose products wrap as unsigned ones do --------------------------------


def _signed(value: int) -> int:
    value &= (1 << 64) - 1
    return value - (1 << 64) if value >= 1 << 63 else value


def _shift(z: Tensor, bits: int) -> Tensor:
    return (z >> bits) & ((1 << (64 - bits)) - 1)


def mix64(z: Tensor) -> Tensor:
    z = z + _signed(0x9E3779B97F4A7C15)
    z = (z ^ _shift(z, 30)) * _signed(0xBF58476D1CE4E5B9)
    z = (z ^ _shift(z, 27)) * _signed(0x94D049BB133111EB)
    return z ^ _shift(z, 31)


def sample_key(seed: int) -> Tensor:
    return mix64(mix64(torch.tensor(_signed(seed))) ^ 7)


def pick(bits: Tensor, slot: int, pool: int) -> Tensor:
    return (((_shift(bits, 21 * slot) if slot else bits) & 0x1FFFFF) * pool) >> 21


# -- maps --------------------------------------------------------------------------------------------------------------


def map_points(model: Model, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """u, v and w = 1 / denominator (1 where there is none); p may be a batch (n, 12) against x, y (m,)."""
    p = model.p.unsqueeze(-1).unbind(-2) if model.p.dim() == 2 else model.p.unbind()
    if model.form == "quadratic":
        u = p[0] + x * (p[1] + p[3] * x + p[4] * y) + y * (p[2] + p[5] * y)
        v = p[6] + x * (p[7] + p[9] * x + p[10] * y) + y * (p[8] + p[11] * y)
        return u, v, torch.ones_like(u)
    u = p[0] * x + p[1] * y + p[2]
    v = p[3] * x + p[4] * y + p[5]
    if model.form == "affine":
        return u, v, torch.ones_like(u)
    w = 1.0 / (p[6] * x + p[7] * y + p[8])
    return u * w, v * w, w


def residual_squared(model: Model, pairs: Tensor) -> Tensor:
    """(n, m) or (m,) squared residuals in FIXED; pairs (4, m): x, y, u, v."""
    u, v, w = map_points(model, pairs[0], pairs[1])
    du, dv = pairs[2] - u, pairs[3] - v
    return torch.where(w > 0, du * du + dv * dv, 1e30)


def area_ratio(model: Model, x: Tensor, y: Tensor) -> Tensor:
    """Determinant of the Jacobian."""
    p = model.p
    if model.form == "quadratic":
        a, b = p[1] + 2 * p[3] * x + p[4] * y, p[2] + p[4] * x + 2 * p[5] * y
        c, d = p[7] + 2 * p[9] * x + p[10] * y, p[8] + p[10] * x + 2 * p[11] * y
    elif model.form == "homography":
        u, v, w = map_points(model, x, y)
        a, b = (p[0] - u * p[6]) * w, (p[1] - u * p[7]) * w
        c, d = (p[3] - v * p[6]) * w, (p[4] - v * p[7]) * w
    else:
        a, b, c, d = p[0], p[1], p[3], p[4]
    return a * d - b * c


def promote(kind: str, model: Model) -> Model:
    """The same map in the form of `kind`."""
    if FORMS[kind] == "quadratic" and model.form == "affine":
        zero = torch.zeros_like(model.p[0])
        p = model.p
        return Model("quadratic", torch.stack([p[2], p[0], p[1], zero, zero, zero, p[5], p[3], p[4], zero, zero, zero]))
    return model if model.form == "quadratic" else Model(FORMS[kind], model.p)


# -- samples -----------------------------------------------------------------------------------------------------------


def _cross(ax: Tensor, ay: Tensor, bx: Tensor, by: Tensor) -> Tensor:
    return ax * by - ay * bx


def _params(n: int, columns: dict[int, Tensor]) -> Tensor:
    p = torch.zeros(n, 12)
    for column, values in columns.items():
        p[:, column] = values
    return p


class SampleRules(NamedTuple):
    kind: str
    allow_mirror: bool
    min_area: Tensor
    min_ratio: Tensor
    max_ratio: Tensor


def _plausible_area(fixed: Tensor, moving: Tensor, rules: SampleRules) -> Tensor:
    f, m = fixed.abs(), moving.abs()
    return (f >= rules.min_area) & (f >= rules.min_ratio * m) & (f <= rules.max_ratio * m)


def similarities(a: Tensor, b: Tensor, mirrored: Tensor, rules: SampleRules) -> tuple[Tensor, Tensor]:
    """From pairs a and b (n, 4): parameters (n, 12) and which are sound."""
    x, u, v = b[:, 0] - a[:, 0], b[:, 2] - a[:, 2], b[:, 3] - a[:, 3]
    y = torch.where(mirrored, a[:, 1] - b[:, 1], b[:, 1] - a[:, 1])
    moving, fixed = x * x + y * y, u * u + v * v
    c, s = (u * x + v * y) / moving, (v * x - u * y) / moving
    sign = torch.where(mirrored, -1.0, 1.0)
    ay = sign * a[:, 1]
    p = {
        0: c,
        1: -s * sign,
        2: a[:, 2] - (c * a[:, 0] - s * ay),
        3: s,
        4: c * sign,
        5: a[:, 3] - (s * a[:, 0] + c * ay),
    }
    return _params(len(a), p), _plausible_area(fixed, moving, rules)


def affines(a: Tensor, b: Tensor, c: Tensor, rules: SampleRules) -> tuple[Tensor, Tensor]:
    bx, by, bu, bv = (b - a).unbind(1)
    cx, cy, cu, cv = (c - a).unbind(1)
    moving, fixed = _cross(bx, by, cx, cy), _cross(bu, bv, cu, cv)
    sound = _plausible_area(fixed, moving, rules)
    if not rules.allow_mirror:
        sound &= (moving > 0) == (fixed > 0)
    w = 1.0 / moving
    p0, p1 = (bu * cy - cu * by) * w, (cu * bx - bu * cx) * w
    p3, p4 = (bv * cy - cv * by) * w, (cv * bx - bv * cx) * w
    p2, p5 = a[:, 2] - (p0 * a[:, 0] + p1 * a[:, 1]), a[:, 3] - (p3 * a[:, 0] + p4 * a[:, 1])
    return _params(len(a), {0: p0, 1: p1, 2: p2, 3: p3, 4: p4, 5: p5}), sound


def homographies(s: list[Tensor], rules: SampleRules) -> tuple[Tensor, Tensor]:
    moving, fixed = [], []
    sound = torch.ones(len(s[0]), dtype=torch.bool)
    for i in range(4):
        a, b, c = s[3 if i == 0 else 0], s[3 if i == 1 else 1], s[3 if i == 2 else 2]
        moving.append(_cross(b[:, 0] - a[:, 0], b[:, 1] - a[:, 1], c[:, 0] - a[:, 0], c[:, 1] - a[:, 1]))
        fixed.append(_cross(b[:, 2] - a[:, 2], b[:, 3] - a[:, 3], c[:, 2] - a[:, 2], c[:, 3] - a[:, 3]))
    reversed_ = (moving[3] > 0) != (fixed[3] > 0)
    if not rules.allow_mirror:
        sound &= ~reversed_
    for m, f in zip(moving, fixed, strict=True):
        size_m, size_f = m.abs(), f.abs()
        sound &= (size_f >= rules.min_area) & (((m > 0) != (f > 0)) == reversed_)
        sound &= (size_f >= 0.25 * rules.min_ratio * size_m) & (size_f <= 4.0 * rules.max_ratio * size_m)
    h = [torch.zeros(len(s[0])) for _ in range(9)]
    for i in range(3):
        j, k = s[(i + 1) % 3], s[(i + 2) % 3]
        weight = fixed[i] / (moving[i] * fixed[3])
        line = (
            weight * (j[:, 1] - k[:, 1]),
            weight * (k[:, 0] - j[:, 0]),
            weight * (j[:, 0] * k[:, 1] - k[:, 0] * j[:, 1]),
        )
        for column in range(3):
            h[column] = h[column] + s[i][:, 2] * line[column]
            h[3 + column] = h[3 + column] + s[i][:, 3] * line[column]
            h[6 + column] = h[6 + column] + line[column]
    sound &= h[8] > 1e-3
    return _params(len(s[0]), {i: h[i] / h[8] for i in range(9)}), sound


def quadratics(s: list[Tensor], rules: SampleRules) -> tuple[Tensor, Tensor]:
    """Gauss-Jordan elimination with partial pivoting, a batch at once."""
    q = torch.stack(s, 1).double()
    x, y = q[..., 0], q[..., 1]
    a = torch.stack([torch.ones_like(x), x, y, x * x, x * y, y * y, q[..., 2], q[..., 3]], -1)
    rows = torch.arange(len(a))
    sound = torch.ones(len(a), dtype=torch.bool)
    for k in range(6):
        pivot = k + torch.argmax(a[:, k:, k] * a[:, k:, k], 1)
        swapped = a[rows, pivot].clone()
        a[rows, pivot] = a[:, k].clone()
        a[:, k] = swapped
        sound &= a[:, k, k] * a[:, k, k] > 1e-8
        for r in range(6):
            if r != k:
                a[:, r, k:] = a[:, r, k:] - (a[:, r, k] / a[:, k, k])[:, None] * a[:, k, k:]
    solution = (a[:, :, 6:] / torch.diagonal(a[:, :, :6], dim1=1, dim2=2)[..., None]).float()
    p = torch.cat([solution[..., 0], solution[..., 1]], 1)
    area = _cross(p[:, 1], p[:, 2], p[:, 7], p[:, 8])
    return p, sound & ((area.abs() if rules.allow_mirror else area) > 0)


# -- fits --------------------------------------------------------------------------------------------------------------


class Weighted(NamedTuple):
    """Pairs inside a threshold around a model, with biweight weights: what one fit step looks at."""

    pairs: Tensor  # (4, k) float64
    weight: Tensor  # (k,)
    mass: Tensor  # (k,), the weight times the squared 1 / denominator of a homography
    inliers: int


def gather(pairs: Tensor, weight: Tensor, model: Model, squared: float, enough: float = 1e30) -> Weighted:
    """All pairs in order (float64), in blocks of 128 until `enough` lie inside."""
    closeness = 1.0 - residual_squared(model, pairs) * (1.0 / squared)
    inside = closeness > 0
    if inside.sum() >= enough:
        count = torch.cumsum(inside, 0)
        end = int(torch.searchsorted(count, int(enough))) // 128 * 128 + 128
        pairs, weight, closeness, inside = pairs[:, :end], weight[:end], closeness[:end], inside[:end]
    q = weight * closeness * closeness
    w = map_points(model, pairs[0], pairs[1])[2]
    return Weighted(pairs[:, inside], q[inside], (q * w * w)[inside], int(inside.sum()))


def _derivatives(kind: str, mirrored: bool, model: Model, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """d u / d parameters and d v / d parameters, (k, n)."""
    zero, one = torch.zeros_like(x), torch.ones_like(x)
    if kind == "similarity":
        h = -1.0 if mirrored else 1.0
        return torch.stack([x, -h * y, one, zero], 1), torch.stack([h * y, x, zero, one], 1)
    if kind == "affine":
        row, none = [x, y, one], [zero] * 3
    elif kind == "quadratic":
        row, none = [one, x, y, x * x, x * y, y * y], [zero] * 6
    else:
        u, v, w = map_points(model, x, y)
        row, none = [x * w, y * w, w], [zero] * 3
        du, dv = [*row, *none, -x * w * u, -y * w * u], [*none, *row, -x * w * v, -y * w * v]
        return torch.stack(du, 1), torch.stack(dv, 1)
    return torch.stack([*row, *none], 1), torch.stack([*none, *row], 1)


_BENDS = {"homography": [6, 7], "quadratic": [3, 4, 5, 9, 10, 11]}


def fit_step(data: Weighted, kind: str, mirrored: bool, ridge: float, model: Model) -> tuple[Model, Tensor] | None:
    """One Gauss-Newton step and the inverse of its normal matrix; None if that is singular."""
    x, y, u, v = data.pairs
    mu, mv, _ = map_points(model, x, y)
    ju, jv = _derivatives(kind, mirrored, model, x, y)
    q = data.weight[:, None]
    normal = ju.T @ (q * ju) + jv.T @ (q * jv)
    right = ju.T @ (data.weight * (u - mu)) + jv.T @ (data.weight * (v - mv))
    for i in _BENDS.get(kind, []):
        normal[i, i] += ridge
        right[i] -= ridge * model.p[i]
    factor, info = torch.linalg.cholesky_ex(normal)
    pivots = torch.diagonal(factor) ** 2
    if int(info) or not bool((pivots > 1e-11 * torch.diagonal(normal)).all()):
        return None
    step = torch.cholesky_solve(right[:, None], factor)[:, 0]
    if not bool(torch.isfinite(step).all()):
        return None
    p = model.p.clone()
    if kind == "similarity":
        h = -1.0 if mirrored else 1.0
        p[0] += step[0]
        p[1] -= h * step[1]
        p[2] += step[2]
        p[3] += step[1]
        p[4] += h * step[0]
        p[5] += step[3]
    else:
        p[: len(step)] += step
    return Model(model.form, p), torch.cholesky_inverse(factor)


def prediction_variance(inverse: Tensor, kind: str, model: Model, x: Tensor, y: Tensor) -> Tensor:
    """Variance of the predicted place along its worst axis, per unit variance of a residual."""
    ju, jv = _derivatives(kind, False, model, x, y)
    return torch.maximum(((ju @ inverse) * ju).sum(1), ((jv @ inverse) * jv).sum(1))
