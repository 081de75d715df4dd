"""How far a registration may be off, place by place: the covariance of a fit to its inliers, carried to every pixel.

The result is taken for the minimum of a least-squares fit to its inliers whose corrections are quadratic in FIXED
coordinates, whatever the kind of the result: what a simpler model cannot bend is an error, too. The residuals give the
noise, the normal matrix the covariance of the corrections, and that the spread of any mapped point: small amid the
inliers, large where none holds the model. The alignment on the vessels is finer than the key points, the more so the
better the vessels agree; how much finer was fitted on synthetic pairs (docs/TRAINING.md, "Expected error").
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fastretina.transform_math import Floats

if TYPE_CHECKING:
    from fastretina.types import Registration

# In units of half the longer side of FIXED, as the coordinates of the fit are.
_NOISE = 1 / 320  # of a residual's coordinate, before any is seen: 1 px of a 640-px frame
_NOISE_PAIRS = 6  # how many residuals that is worth
_STIFFNESS = 20 / 320  # standard deviation of a correction's coefficient, before any inlier is seen
_FLOOR = 0.02 / 320  # what is always left

_FACTOR = 2.1  # of the spread, fitted
_LATTICE = 33  # nodes along each side of FIXED, between which the map is interpolated


def error_at(result: Registration, moving: Floats) -> Floats:
    """Expected distance (N,), px of FIXED, of where ``result`` puts MOVING points (N, 2) from where they belong.

    NaN outside of MOVING.
    """
    assert result.transform is not None
    there = result.transform(moving)
    with np.errstate(invalid="ignore"):
        shown = ((moving >= -0.5) & (moving <= np.array(result.moving_size) - 0.5)).all(axis=1)
        shown &= np.isfinite(there).all(axis=1)
    expected = np.full(len(moving), np.nan)
    expected[shown] = _expected(result, there[shown])
    return expected


def error_map(result: Registration, size: tuple[int, int] | None = None) -> NDArray[np.float32]:
    """The same at every pixel of FIXED, or of FIXED resized to ``size`` (width, height), px of FIXED: (H, W).

    NaN where MOVING shows nothing.
    """
    assert result.transform is not None
    width, height = result.fixed_size
    axes = (np.linspace(0, width - 1, _LATTICE), np.linspace(0, height - 1, _LATTICE))
    nodes = np.stack(np.meshgrid(*axes), axis=-1).reshape(-1, 2)
    values = np.column_stack([_expected(result, nodes), result.transform.inverse(nodes)]).astype(np.float32)
    shown = size or result.fixed_size
    across, down = _hats(width, shown[0]), _hats(height, shown[1])
    expected, x, y = (down @ values[:, i].reshape(_LATTICE, _LATTICE) @ across.T for i in range(3))
    with np.errstate(invalid="ignore"):
        inside = (x >= -0.5) & (x <= result.moving_size[0] - 0.5) & (y >= -0.5) & (y <= result.moving_size[1] - 0.5)
    return np.where(inside, expected, np.nan).astype(np.float32)


def _expected(result: Registration, fixed: Floats) -> Floats:
    """At FIXED points (N, 2)."""
    agreement = min(max(float(result.quality.get("ridge_correlation", 0.0)), 0.0), 1.0)
    unit = max(result.fixed_size) / 2
    return np.asarray(unit * np.hypot(_FLOOR, _FACTOR * (1 - agreement) * spread(result, fixed)))


def spread(result: Registration, fixed: Floats) -> Floats:
    """Root mean square distance (N,) by which noise of the inliers moves FIXED points (N, 2), half longer sides."""
    assert result.transform is not None
    unit, middle = max(result.fixed_size) / 2, (np.array(result.fixed_size) - 1) / 2
    pairs = result.matches[result.inliers]
    residuals = (pairs[:, :2] - result.transform(pairs[:, 2:])) / unit
    noise = np.sum(residuals**2) + 2 * _NOISE_PAIRS * _NOISE**2
    noise /= 2 * (len(pairs) + _NOISE_PAIRS)
    design = _quadratic((pairs[:, :2] - middle) / unit)
    # One coordinate's six coefficients; the other's have the same covariance, and none with them.
    covariance = noise * np.linalg.inv(design.T @ design + noise / _STIFFNESS**2 * np.eye(6))
    there = _quadratic((fixed - middle) / unit)
    return np.asarray(np.sqrt(2 * ((there @ covariance) * there).sum(axis=1)))


def _quadratic(u: Floats) -> Floats:
    x, y = u[:, 0], u[:, 1]
    return np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=1)


def _hats(size: int, shown: int) -> NDArray[np.float32]:
    """(shown, nodes): the weights of linear interpolation at every pixel of an axis resized to ``shown`` pixels."""
    place = (np.arange(shown) + 0.5) * size / shown - 0.5
    place = np.clip(place / max(size - 1, 1), 0, 1) * (_LATTICE - 1)
    return np.maximum(0, 1 - np.abs(place[:, None] - np.arange(_LATTICE))).astype(np.float32)
