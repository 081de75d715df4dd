"""Displacement fields: uniform cubic B-splines on a control grid (free-form deformation, Rueckert et al. 1999).

``control``: (rows, columns, 2) displacements, px. ``rectangle``: (x0, y0, x1, y1), px, where the corner control points
lie; the others lie between at equal distances. The field is twice continuously differentiable in the whole plane, and
fades to 0 within two grid steps outside the rectangle: there are no control points beyond. Points are (N, 2).
csrc/core/field.h has the same arithmetic.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fastretina.transform_math import NEWTON_STEPS, NEWTON_TOLERANCE, Floats, inverse_2x2

Rectangle = tuple[float, float, float, float]

_REACH = 3  # grid steps beyond the rectangle at which every tap is 0


def displacement(control: Floats, rectangle: Rectangle, xy: Floats) -> Floats:
    """(N, 2) px."""
    (ix, tx), (iy, ty) = _places(control, rectangle, xy)
    return _sum(control, ix, iy, _weights(tx), _weights(ty))


def gradient(control: Floats, rectangle: Rectangle, xy: Floats) -> Floats:
    """(N, 2, 2): d(dx, dy) / d(x, y)."""
    (ix, tx), (iy, ty) = _places(control, rectangle, xy)
    step_x, step_y = _steps(control, rectangle)
    by_x = _sum(control, ix, iy, _slopes(tx), _weights(ty)) / step_x
    by_y = _sum(control, ix, iy, _weights(tx), _slopes(ty)) / step_y
    return np.stack([by_x, by_y], axis=2)


def solve(control: Floats, rectangle: Rectangle, target: Floats) -> Floats:
    """Newton's method for ``x + d(x) == target``; NaN where it does not converge, or the target is not finite."""
    seen = np.asarray(np.isfinite(target).all(1))
    goal = np.where(seen[:, None], target, 0.0)
    xy = goal - displacement(control, rectangle, goal)
    found = np.zeros(len(xy), dtype=bool)
    for _ in range(NEWTON_STEPS):
        error = goal - xy - displacement(control, rectangle, xy)
        step = (inverse_2x2(np.eye(2) + gradient(control, rectangle, xy)) @ error[:, :, None])[:, :, 0]
        xy = np.where(found[:, None], xy, xy + step)
        found |= np.abs(step).sum(1) < NEWTON_TOLERANCE * (1 + np.abs(xy).sum(1))
        if found.all():
            break
        xy = np.where(np.isfinite(xy), xy, goal)
    return np.where((found & seen)[:, None], xy, np.nan)


def least_jacobian(control: Floats, rectangle: Rectangle) -> tuple[float, tuple[float, float]]:
    """The least determinant of ``x + d(x)``, and where: on the knots and half way between them."""
    rows, columns = control.shape[:2]
    step_x, step_y = _steps(control, rectangle)
    (bx, sx), (by, sy) = _basis(columns), _basis(rows)
    by_x = np.einsum("jr,rck,ic->jik", by, control, sx / step_x)
    by_y = np.einsum("jr,rck,ic->jik", sy / step_y, control, bx)
    determinant = (1 + by_x[..., 0]) * (1 + by_y[..., 1]) - by_x[..., 1] * by_y[..., 0]
    j, i = np.unravel_index(int(determinant.argmin()), determinant.shape)
    at = (rectangle[0] + (float(i) / 2 - 2) * step_x, rectangle[1] + (float(j) / 2 - 2) * step_y)
    return float(determinant[j, i]), at


def _steps(control: Floats, rectangle: Rectangle) -> tuple[float, float]:
    rows, columns = control.shape[:2]
    return (rectangle[2] - rectangle[0]) / (columns - 1), (rectangle[3] - rectangle[1]) / (rows - 1)


def _places(control: Floats, rectangle: Rectangle, xy: Floats) -> list[tuple[NDArray[np.int64], Floats]]:
    """Per axis: the control point before each point, and the fraction of a step behind it."""
    places = []
    for axis, (step, count) in enumerate(zip(_steps(control, rectangle), control.shape[1::-1], strict=True)):
        at = (xy[:, axis] - rectangle[axis]) / step
        at = np.clip(np.nan_to_num(at), -_REACH, count + _REACH - 1)
        first = np.floor(at)
        places.append((first.astype(np.int64), at - first))
    return places


def _weights(t: Floats) -> Floats:
    """(4, N): the cubic B-spline at control points -1, 0, 1, 2 of a fraction t."""
    s = 1 - t
    return np.stack([s**3, 3 * t**3 - 6 * t**2 + 4, 3 * s**3 - 6 * s**2 + 4, t**3]) / 6


def _slopes(t: Floats) -> Floats:
    """(4, N): its derivative, by grid steps."""
    s = 1 - t
    return np.stack([-(s**2), 3 * t**2 - 4 * t, 4 * s - 3 * s**2, t**2]) / 2


def _basis(count: int) -> tuple[Floats, Floats]:
    """(T, count) each: weights and slopes of the control points at half steps, two steps beyond either end."""
    at = np.arange(-4, 2 * count + 3) / 2
    first = np.floor(at).astype(np.int64)
    weights, slopes = np.zeros((2, len(at), count + 8))
    for k, (w, s) in enumerate(zip(_weights(at - first), _slopes(at - first), strict=True)):
        weights[np.arange(len(at)), first + k + 3] = w
        slopes[np.arange(len(at)), first + k + 3] = s
    return weights[:, 4:-4], slopes[:, 4:-4]


def _sum(control: Floats, ix: NDArray[np.int64], iy: NDArray[np.int64], wx: Floats, wy: Floats) -> Floats:
    margin = _REACH + 2
    padded = np.pad(control, ((margin, margin), (margin, margin), (0, 0)))
    total = np.zeros((len(ix), 2))
    for j in range(4):
        for i in range(4):
            total += (wy[j] * wx[i])[:, None] * padded[iy + j - 1 + margin, ix + i - 1 + margin]
    return total
