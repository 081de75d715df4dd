"""What a ``Transform`` is made from and applied to, checked: InvalidInput says what was got and what is allowed."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from fastretina import displacement
from fastretina.errors import InvalidInput
from fastretina.transform_math import MATRIX_KINDS, Floats, special_kind


def checked_floats(name: str, value: ArrayLike) -> Floats:
    try:
        array = np.array(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"{name}: not an array of numbers ({error})") from error
    if not np.isfinite(array).all():
        raise InvalidInput(f"{name}: NaN or infinity; allowed: finite numbers")
    return array + 0.0  # no negative zeros: equal maps have equal bytes


def checked_points(points: ArrayLike) -> tuple[Floats, bool]:
    xy = checked_floats("points", points)
    if xy.shape == (2,):
        return xy[None], True
    if xy.ndim == 1 and xy.size == 0:
        xy = xy.reshape(0, 2)
    if xy.ndim != 2 or xy.shape[1] != 2:
        raise InvalidInput(f"points: got shape {xy.shape}; allowed: (N, 2) or (2,)")
    return xy, False


def checked_params(kind: str, params: ArrayLike) -> Floats:
    p = checked_floats("parameters", params)
    if kind == "quadratic":
        if p.size != 12 or p.ndim > 2 or p.shape not in ((2, 6), (12,)):
            raise InvalidInput(f"parameters: got shape {p.shape}; a quadratic needs (2, 6)")
        return p.reshape(2, 6)
    if p.shape not in ((3, 3), (9,)):
        raise InvalidInput(f"parameters: got shape {p.shape}; {kind} needs (3, 3)")
    p = p.reshape(3, 3)
    if kind == "homography":
        return p / p[2, 2] if p[2, 2] != 1 and abs(p[2, 2]) > 1e-12 * np.abs(p).max() else p
    if MATRIX_KINDS.index(special_kind(p)) > MATRIX_KINDS.index(kind):
        raise InvalidInput(f"parameters: the matrix {p.tolist()} is no {kind}, but a {special_kind(p)}")
    return p


def checked_field(params: ArrayLike, rectangle: ArrayLike | None) -> tuple[Floats, displacement.Rectangle]:
    p, r = checked_floats("parameters", params), checked_floats("rectangle", () if rectangle is None else rectangle)
    if p.ndim != 3 or p.shape[2] != 2 or min(p.shape[:2]) < 2:
        raise InvalidInput(f"parameters: got shape {p.shape}; dense needs (rows, columns, 2), 2 or more of each")
    if r.shape != (4,) or not (r[0] < r[2] and r[1] < r[3]):
        raise InvalidInput(f"rectangle: got {rectangle!r}; dense needs (x0, y0, x1, y1) with x0 < x1 and y0 < y1")
    corners = (float(r[0]), float(r[1]), float(r[2]), float(r[3]))
    least, at = displacement.least_jacobian(p, corners)
    if not least > 0:
        raise InvalidInput(
            f"parameters: the field folds: its Jacobian determinant is {least:.3g} near ({at[0]:.1f}, {at[1]:.1f}); "
            "allowed: above 0 everywhere"
        )
    return p, corners
