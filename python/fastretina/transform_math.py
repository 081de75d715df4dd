"""The arithmetic behind ``Transform``, on plain arrays: one step of a map, its Jacobian, its inverse point by point.

``m`` is a (3, 3) matrix, ``q`` the (2, 6) coefficients of a quadratic in ``1, x, y, x^2, x y, y^2``; points are (N, 2).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

MATRIX_KINDS = ("identity", "similarity", "affine", "homography")  # each contains the ones before it

NEWTON_STEPS = 50
NEWTON_TOLERANCE = 1e-9  # px, relative to the coordinate: far below what an image can show, far above rounding
_SHAPE_TOLERANCE = 1e-9  # how far rounding may take a similarity from being one


def special_kind(m: Floats) -> str:
    """The most special kind that holds this matrix."""
    if not np.array_equal(m[2], [0.0, 0.0, 1.0]):
        return "homography"
    if np.array_equal(m, np.eye(3)):
        return "identity"
    (a, b), (c, d) = m[:2, :2]
    size = _SHAPE_TOLERANCE * max(abs(a), abs(b), abs(c), abs(d))
    rotation = abs(a - d) <= size and abs(b + c) <= size
    mirrored = abs(a + d) <= size and abs(b - c) <= size
    return "similarity" if rotation or mirrored else "affine"


def apply_step(kind: str, params: Floats, xy: Floats) -> Floats:
    """Where a matrix or a quadratic puts points."""
    if kind == "quadratic":
        return np.asarray(_monomials(xy) @ params.T)
    mapped: Floats = xy @ params[:2, :2].T + params[:2, 2]
    if kind == "homography":
        mapped = mapped / (xy @ params[2, :2] + params[2, 2])[:, None]
    return mapped


def step_jacobian(kind: str, params: Floats, xy: Floats) -> Floats:
    """(N, 2, 2): d(x', y') / d(x, y)."""
    if kind == "quadratic":
        x, y = xy[:, 0], xy[:, 1]
        rows = [[q[1] + 2 * q[3] * x + q[4] * y, q[2] + q[4] * x + 2 * q[5] * y] for q in params]
        return np.moveaxis(np.array(rows), 2, 0)
    if kind != "homography":
        return np.broadcast_to(params[:2, :2], (len(xy), 2, 2))
    w = xy @ params[2, :2] + params[2, 2]
    mapped = apply_step(kind, params, xy)
    return np.asarray((params[:2, :2] - mapped[:, :, None] * params[2, :2]) / w[:, None, None])


def solve_quadratic(q: Floats, target: Floats) -> Floats:
    """Newton's method for ``q(x) == target``, from the inverse of the affine part; NaN where it does not converge."""
    linear = q[:, 1:3]
    start = linear if abs(np.linalg.det(linear)) > 1e-12 else np.eye(2)
    xy: Floats = (target - q[:, 0]) @ np.linalg.inv(start).T
    found = np.zeros(len(xy), dtype=bool)
    for _ in range(NEWTON_STEPS):
        error = target - _monomials(xy) @ q.T
        step = (inverse_2x2(step_jacobian("quadratic", q, xy)) @ error[:, :, None])[:, :, 0]
        xy = np.where(found[:, None], xy, xy + step)
        found |= np.abs(step).sum(1) < NEWTON_TOLERANCE * (1 + np.abs(xy).sum(1))
        if found.all():
            break
    return np.where(found[:, None], xy, np.nan)


def inverse_2x2(j: Floats) -> Floats:
    """The inverses of (N, 2, 2) matrices; NaN or infinite where there is none."""
    determinant = j[:, 0, 0] * j[:, 1, 1] - j[:, 0, 1] * j[:, 1, 0]
    adjugate = np.stack([j[:, 1, 1], -j[:, 0, 1], -j[:, 1, 0], j[:, 0, 0]], axis=1).reshape(-1, 2, 2)
    return np.asarray(adjugate / determinant[:, None, None])


def substitution(m: Floats) -> Floats:
    """(6, 6): how the monomials of an affine image read in the monomials of its source, so that q o m = q @ this."""
    x, y = np.array([m[0, 2], m[0, 0], m[0, 1]]), np.array([m[1, 2], m[1, 0], m[1, 1]])  # on 1, x, y
    one = np.array([1.0, 0.0, 0.0])

    def times(u: Floats, v: Floats) -> list[float]:
        return [
            u[0] * v[0],
            u[0] * v[1] + u[1] * v[0],
            u[0] * v[2] + u[2] * v[0],
            u[1] * v[1],
            u[1] * v[2] + u[2] * v[1],
            u[2] * v[2],
        ]

    return np.array([times(one, one), times(one, x), times(one, y), times(x, x), times(x, y), times(y, y)])


def _monomials(xy: Floats) -> Floats:
    x, y = xy[:, 0], xy[:, 1]
    return np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=1)
