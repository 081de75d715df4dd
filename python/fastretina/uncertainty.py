"""How far a registration may be off, place by place: the covariance of a fit to its inliers, carried to every pixel.

What the inliers leave open is a correction, quadratic in FIXED coordinates, whatever the kind of the result: what a
simpler model cannot bend is an error, too. The residuals of its least-squares fit give the noise, the normal matrix the
covariance of the correction, and that the spread of any mapped point: small amid the inliers, large where none holds
the model. The alignment on the vessels is finer than the key points, the more so the better the vessels agree, and what
is neither noise nor quadratic stays: a factor and a floor fitted on synthetic pairs (docs/TRAINING.md, "Expected
error").
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fastretina.transform_math import Floats

if TYPE_CHECKING:
    from fastretina.types import Registration

_TERMS = 6  # of a quadratic, one coordinate
_STIFFNESS = 2.0  # what a coefficient is known to before any inlier is seen, standard deviations of the noise
_NOISE_PAIRS = 6  # how many residuals of 1 px of a 640-px frame are counted to those that are seen
_FACTOR, _FLOOR_PX = 2.8, 0.25  # fitted; px of a 640-px frame

_LATTICE = 33  # nodes along each side of FIXED, between which the map is interpolated


def error_at(result: Registration, moving: Floats) -> Floats:
    """Expected distance (N,), px of FIXED, of where ``result`` puts MOVING points (N, 2) from where they belong.

    NaN outside of MOVING.
    """
    assert result.transform is not None
    there = result.transform(moving)
    shown = _inside(moving, result.moving_size) & np.isfinite(there).all(axis=1)
    expected = np.full(len(moving), np.nan)
    expected[shown] = _expected(result, there[shown])
    return expected


def error_map(result: Registration, size: tuple[int, int] | None = None) -> NDArray[np.float32]:
    """The same at every pixel of FIXED, or of FIXED resized to ``size`` (width, height), px of FIXED: (H, W).

    NaN where MOVING shows nothing.
    """
    assert result.transform is not None
    nodes = _lattice(result.fixed_size)
    values = np.column_stack([_expected(result, nodes), result.transform.inverse(nodes)]).astype(np.float32)
    shown = size or result.fixed_size
    across, down = (_hats(*sizes) for sizes in zip(result.fixed_size, shown, strict=True))
    expected, x, y = (down @ values[:, i].reshape(_LATTICE, _LATTICE) @ across.T for i in range(3))
    with np.errstate(invalid="ignore"):
        inside = (x >= -0.5) & (x <= result.moving_size[0] - 0.5) & (y >= -0.5) & (y <= result.moving_size[1] - 0.5)
    return np.where(inside, expected, np.nan).astype(np.float32)


def inverse_consistency(result: Registration, back: Registration) -> float:
    """Mean distance, px of FIXED, of FIXED points from where ``back`` and then ``result`` take them; see ``types``."""
    assert result.transform is not None
    assert back.transform is not None
    fixed = _lattice(result.fixed_size)
    there = back.transform(fixed)
    shown = _inside(there, result.moving_size)
    again = result.transform(there[shown])
    distance = np.linalg.norm(again - fixed[shown], axis=1)
    return float(np.nan_to_num(distance, nan=np.inf, posinf=np.inf).mean()) if len(distance) else float("inf")


def _lattice(size: tuple[int, int]) -> Floats:
    """(_LATTICE², 2): nodes over a (width, height) image, row by row."""
    axes = (np.linspace(0, length - 1, _LATTICE) for length in size)
    return np.stack(np.meshgrid(*axes), axis=-1).reshape(-1, 2)


def _inside(xy: Floats, size: tuple[int, int]) -> NDArray[np.bool_]:
    """Which of the points (N, 2) lie on a pixel of a (width, height) image; none of those that are NaN."""
    with np.errstate(invalid="ignore"):
        return np.asarray(((xy >= -0.5) & (xy <= np.array(size) - 0.5)).all(axis=1))


def _expected(result: Registration, fixed: Floats) -> Floats:
    """At FIXED points (N, 2)."""
    agreement = min(max(float(result.quality.get("ridge_correlation", 0.0)), 0.0), 1.0)
    floor = _FLOOR_PX * max(result.fixed_size) / 640
    return np.asarray(np.hypot(floor, _FACTOR * (1 - agreement) * spread(result, fixed)))


def spread(result: Registration, fixed: Floats) -> Floats:
    """Root mean square distance (N,), px of FIXED, by which the inliers' noise moves a fit to them at FIXED points."""
    assert result.transform is not None
    unit, middle = max(result.fixed_size) / 2, (np.array(result.fixed_size) - 1) / 2
    pairs = result.matches[result.inliers]
    offsets = pairs[:, :2] - result.transform(pairs[:, 2:])
    design = _quadratic((pairs[:, :2] - middle) / unit)
    # The same for both coordinates, in units of the noise's variance.
    covariance = np.linalg.inv(design.T @ design + np.eye(_TERMS) / _STIFFNESS**2)
    residuals = offsets - design @ (covariance @ (design.T @ offsets))
    usual = 2 * (unit / 320) ** 2
    variance = (np.sum(residuals**2) + _NOISE_PAIRS * usual) / (2 * (max(len(pairs) - _TERMS, 0) + _NOISE_PAIRS))
    there = _quadratic((fixed - middle) / unit)
    return np.asarray(np.sqrt(2 * variance * ((there @ covariance) * there).sum(axis=1)))


def _quadratic(u: Floats) -> Floats:
    x, y = u[:, 0], u[:, 1]
    return np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=1)


def _hats(size: int, shown: int) -> NDArray[np.float32]:
    """(shown, nodes): the weights of linear interpolation at every pixel of an axis resized to ``shown`` pixels."""
    place = (np.arange(shown) + 0.5) * size / shown - 0.5
    place = np.clip(place / max(size - 1, 1), 0, 1) * (_LATTICE - 1)
    return np.maximum(0, 1 - np.abs(place[:, None] - np.arange(_LATTICE))).astype(np.float32)
