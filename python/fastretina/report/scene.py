"""A registered pair at the size of a screen: what every picture of it is drawn from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastretina.types import Registration

Picture = NDArray[np.uint8]  # (H, W, 3) RGB


@dataclass(frozen=True)
class Scene:
    """Display copies of both images, and of MOVING in the FIXED frame (None where there is no transform to show)."""

    result: Registration
    fixed: Picture
    moving: Picture
    warped: Picture | None
    valid: NDArray[np.bool_] | None
    fixed_scale: float  # display px to an image px
    moving_scale: float

    def fixed_points(self, xy: NDArray[np.float64]) -> NDArray[np.float64]:
        """Points of FIXED in display px."""
        return (xy + 0.5) * self.fixed_scale - 0.5

    def moving_points(self, xy: NDArray[np.float64]) -> NDArray[np.float64]:
        """Points of MOVING in display px."""
        return (xy + 0.5) * self.moving_scale - 0.5


def scene(
    fixed: NDArray[Any],
    moving: NDArray[Any],
    result: Registration,
    warped: tuple[NDArray[Any], NDArray[np.bool_]] | None,
    longer_side: int = 768,
) -> Scene:
    """``warped``: what ``result.warp(moving)`` returned, at full resolution; None for a refused pair."""
    fixed_shown, fixed_scale = _shown(fixed, longer_side)
    moving_shown, moving_scale = _shown(moving, longer_side)
    if warped is None:
        return Scene(result, fixed_shown, moving_shown, None, None, fixed_scale, moving_scale)
    size = (fixed_shown.shape[1], fixed_shown.shape[0])
    picture = _rgb(_resized(warped[0], size), like=moving)
    valid = _resized(warped[1].view(np.uint8), size) > 0
    return Scene(result, fixed_shown, moving_shown, picture, valid, fixed_scale, moving_scale)


def luminance(picture: Picture) -> NDArray[np.uint8]:
    """The plane in which vessels show best: green of a colour picture, with its contrast evened out."""
    import cv2

    return np.asarray(cv2.createCLAHE(2.0, (8, 8)).apply(np.ascontiguousarray(picture[..., 1])), dtype=np.uint8)


def _shown(image: NDArray[Any], longer_side: int) -> tuple[Picture, float]:
    height, width = image.shape[:2]
    scale = longer_side / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return _rgb(_resized(image, size), like=image), scale


def _resized(image: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    import cv2

    shrinks = size[0] < image.shape[1]
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR))


def _rgb(image: NDArray[Any], like: NDArray[Any]) -> Picture:
    """8-bit RGB. Deeper images are stretched to the range of ``like``: 12 bits in a 16-bit file would be black."""
    if image.dtype != np.uint8:
        low, high = (float(v) for v in np.percentile(like[:: max(1, like.shape[0] // 512)], (0.1, 99.9)))
        image = np.clip((image.astype(np.float32) - low) * (255 / max(high - low, 1e-12)), 0, 255)
    rgb = image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2)
    return np.ascontiguousarray(rgb, dtype=np.uint8)
