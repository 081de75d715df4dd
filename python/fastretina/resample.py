"""Full-resolution resampling behind one call: the compiled room where it is there, else the same rule in NumPy.

The rule is that of the room ``warp``: every pixel of the FIXED frame is mapped back into MOVING; it is valid where it
lands within ``[-1/2, size - 1/2]``, on the side of a homography's pole that shows MOVING's centre, and 0 elsewhere;
taps beyond the border repeat the border pixel.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastretina.errors import InvalidInput
from fastretina.transform import SINGLE_KINDS, Transform, is_deformation
from fastretina.transform_math import Floats

INTERPOLATIONS = ("nearest", "linear", "cubic")

_TILE_PIXELS = 1 << 18  # bounds the scratch of the NumPy path
_CUBIC_A = -0.75


def resample(
    image: NDArray[Any], transform: Transform, size: tuple[int, int], interpolation: str = "linear"
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """``image`` (H, W) or (H, W, C), mapped by ``transform`` into a frame of ``size`` (width, height).

    Returns the resampled image, of the type of ``image``, and a boolean (height, width) mask of its valid pixels.
    ``size`` in px; ``interpolation``: "nearest", "linear" or "cubic". Raises InvalidInput for another interpolation, an
    empty image or another number of axes, and a transform that cannot be inverted.
    """
    if interpolation not in INTERPOLATIONS:
        raise InvalidInput(f"interpolation: got {interpolation!r}; allowed: {', '.join(INTERPOLATIONS)}")
    if not isinstance(image, np.ndarray) or image.ndim not in (2, 3) or image.size == 0:
        shape = getattr(image, "shape", type(image).__name__)
        raise InvalidInput(f"image: got {shape}; allowed: a non-empty (H, W) or (H, W, C) array")
    native = _native_warp(image, transform)
    if native is not None:
        warped, valid = native(image, transform, size, interpolation=interpolation)
        return warped, np.asarray(valid).astype(bool)
    return _resample_numpy(image, transform, size, interpolation)


def _native_warp(image: NDArray[Any], transform: Transform) -> Callable[..., tuple[NDArray[Any], NDArray[Any]]] | None:
    """The room ``warp``, if it is there and knows this kind of transform and image."""
    channels = 1 if image.ndim == 2 else image.shape[2]
    if (
        not (transform.kind in SINGLE_KINDS or is_deformation(transform))
        or not 1 <= channels <= 4
        or image.dtype.name not in ("uint8", "uint16", "float32")
    ):
        return None
    try:
        from fastretina import ops
    except ImportError:  # no compiled core
        return None
    return getattr(ops, "warp", None)


def _resample_numpy(
    image: NDArray[Any], transform: Transform, size: tuple[int, int], interpolation: str
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    width, height = size
    planes = image.reshape(*image.shape[:2], -1)
    out = np.zeros((height, width, planes.shape[2]), dtype=image.dtype)
    valid = np.zeros((height, width), dtype=bool)
    back = transform.inverse
    rows = max(1, _TILE_PIXELS // width)
    for top in range(0, height, rows):
        bottom = min(height, top + rows)
        grid = np.stack(np.meshgrid(np.arange(width), np.arange(top, bottom)), axis=-1).reshape(-1, 2)
        source = back(grid.astype(np.float64))
        with np.errstate(invalid="ignore"):
            inside = ((source >= -0.5) & (source <= [image.shape[1] - 0.5, image.shape[0] - 0.5])).all(axis=1)
            inside &= _right_side(transform, source, image.shape)
        where = np.flatnonzero(inside)
        values = _sample(planes, source[where], interpolation)
        if np.issubdtype(image.dtype, np.integer):
            limits = np.iinfo(image.dtype)
            values = np.clip(np.floor(values + 0.5), limits.min, limits.max)
        out[top:bottom].reshape(-1, planes.shape[2])[where] = values.astype(image.dtype)
        valid[top:bottom].reshape(-1)[where] = True
    return out.reshape(height, width, *image.shape[2:]), valid


def _right_side(transform: Transform, source: Floats, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Whether a MOVING point is on the side of the pole on which the centre of MOVING is."""
    first = transform.steps[-1].transform  # the only step that sees MOVING
    if first.kind != "homography":
        return np.ones(len(source), dtype=bool)
    w = first.params[2, :2]
    centre = w @ [(shape[1] - 1) / 2, (shape[0] - 1) / 2] + first.params[2, 2]
    return np.asarray((source @ w + first.params[2, 2]) * centre > 0)


def _sample(planes: NDArray[Any], xy: Floats, interpolation: str) -> Floats:
    if interpolation == "nearest":
        nearest = np.floor(xy + 0.5).astype(np.int64)
        x, y = (np.clip(nearest[:, axis], 0, planes.shape[1 - axis] - 1) for axis in (0, 1))
        return planes[y, x].astype(np.float64)
    taps, weights = (2, _linear) if interpolation == "linear" else (4, _cubic)
    first = np.floor(xy).astype(np.int64) - (taps // 2 - 1)
    fraction = xy - np.floor(xy)
    wx, wy = weights(fraction[:, 0]), weights(fraction[:, 1])
    total = np.zeros((len(xy), planes.shape[2]))
    for j in range(taps):
        y = np.clip(first[:, 1] + j, 0, planes.shape[0] - 1)
        for i in range(taps):
            x = np.clip(first[:, 0] + i, 0, planes.shape[1] - 1)
            total += (wy[j] * wx[i])[:, None] * planes[y, x]
    return total


def _linear(f: Floats) -> list[Floats]:
    return [1 - f, f]


def _cubic(f: Floats) -> list[Floats]:
    a = _CUBIC_A

    def near(t: Floats) -> Floats:  # |t| <= 1
        return ((a + 2) * t - (a + 3)) * t * t + 1

    def far(t: Floats) -> Floats:  # 1 <= |t| <= 2
        return ((a * t - 5 * a) * t + 8 * a) * t - 4 * a

    return [far(1 + f), near(f), near(1 - f), far(2 - f)]
