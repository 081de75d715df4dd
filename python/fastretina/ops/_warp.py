"""The room warp."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from fastretina import _core
from fastretina.errors import InvalidInput
from fastretina.ops._call import checked_size
from fastretina.ops._device import Array, place
from fastretina.transform import SINGLE_KINDS, Transform
from fastretina.transform_layout import base_and_field, kind_and_params

_INTERPOLATIONS = ("nearest", "linear", "cubic")  # the order of csrc/warp/warp.h


class Warped(NamedTuple):
    """An image in the FIXED frame."""

    image: Array
    """(height, width) or (height, width, C), of the type of the moving image; 0 where not valid."""
    valid: Array
    """(height, width) bool: the source position lies inside the moving image."""


def warp(
    moving: Array,
    transform: Transform,
    size: tuple[int, int],
    *,
    interpolation: str = "linear",
    threads: int = 1,
    stream: Any = None,
) -> Warped:
    """``moving`` (H, W) or (H, W, 1...4), uint8, uint16 or float32, resampled into a frame of ``size`` (width, height).

    ``transform`` maps MOVING -> FIXED: a :class:`fastretina.transform.Transform` of one kind, or dense @ one of the
    others. Every pixel is mapped back, exactly for matrices, by Newton's method for quadratics, to 1e-4 px for dense
    maps; it is valid where it lands within [-1/2, size - 1/2] on the side of a homography's pole, or of a quadratic's
    fold, that shows the moving centre. ``interpolation``: "nearest", "linear" or "cubic" (Keys, a = -0.75); taps
    outside repeat the border pixel. Integers are clamped to their range and rounded half up. Frames of any size (no
    32767-px limit); nothing but the result is allocated.

    Raises InvalidInput for another dtype or shape, a transform that cannot be inverted, an unknown interpolation.
    """
    if interpolation not in _INTERPOLATIONS:
        raise InvalidInput(f"interpolation: got {interpolation!r}, expected one of {', '.join(_INTERPOLATIONS)}")
    base, field = base_and_field(transform)
    width, height = checked_size("size", size)
    order = _INTERPOLATIONS.index(interpolation)
    session, moving = place(threads, stream, moving=moving)
    image, valid = _core.warp(session, moving, *base, field, height, width, interpolation=order)
    return Warped(image, valid.view(np.bool_))


def warp_points(points: np.ndarray, transform: Transform, *, inverse: bool = False) -> np.ndarray:
    """MOVING points (N, 2) float64 -> FIXED points (N, 2) float64, or back with ``inverse``.

    On a homography's pole, and where the inverse of a quadratic does not exist, the result is infinite or NaN.
    Raises InvalidInput for another dtype or shape, or a matrix that cannot be inverted.
    """
    kind, params = kind_and_params(transform)
    if not inverse:
        return _core.transform_apply(kind, params, points)
    if transform.kind != "quadratic":
        back = _core.transform_invert(kind, params)
        if back is None:
            raise InvalidInput("transform: got a singular matrix, expected an invertible transform")
        return _core.transform_apply(*back, points)
    affine = np.array([params[1], params[2], params[0], params[7], params[8], params[6], 0, 0, 1, 0, 0, 0])
    start = _core.transform_invert(SINGLE_KINDS.index("affine"), affine)
    starts = points if start is None else _core.transform_apply(*start, points)
    return _core.transform_invert_points(kind, params, points, starts)
