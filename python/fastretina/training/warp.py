"""Random geometry of one view of a source image: similarity, anisotropy, perspective, quadratic and elastic parts.

A view maps its own pixels to source pixels, ``source = base(view + bend(view))`` with an affine ``base`` and a small
smooth ``bend``, so that images are sampled directly and points go the other way by a fixed-point iteration.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from fastretina.training.sample import Sample


@dataclass(frozen=True)
class View:
    """``matrix`` ``(2, 3)``: bent view pixel → source pixel.  ``bend`` ``(H, W, 2)``: offset in view pixels."""

    matrix: np.ndarray
    bend: np.ndarray

    def source_map(self) -> np.ndarray:
        """Source position ``(H, W, 2)`` of every view pixel."""
        height, width = self.bend.shape[:2]
        ys, xs = np.mgrid[:height, :width].astype(np.float32)
        x, y = xs + self.bend[..., 0], ys + self.bend[..., 1]
        m = self.matrix.astype(np.float32)
        return np.stack([m[0, 0] * x + m[0, 1] * y + m[0, 2], m[1, 0] * x + m[1, 1] * y + m[1, 2]], -1)

    def to_source(self, points: np.ndarray) -> np.ndarray:
        """View points ``(K, 2)`` → source pixels."""
        return (points + self._bend_at(points)) @ self.matrix[:, :2].T + self.matrix[:, 2]

    def to_view(self, points: np.ndarray) -> np.ndarray:
        """Source points ``(K, 2)`` → view pixels; exact where the point lies inside the view."""
        inverse = np.linalg.inv(self.matrix[:, :2])
        target = (points - self.matrix[:, 2]) @ inverse.T
        view = target.copy()
        for _ in range(8):
            view = target - self._bend_at(view)
        return view

    def _bend_at(self, points: np.ndarray) -> np.ndarray:
        """Bilinear ``bend`` at ``(K, 2)`` view points (edge repeated)."""
        height, width = self.bend.shape[:2]
        x = np.clip(points[:, 0], 0, width - 1.001)
        y = np.clip(points[:, 1], 0, height - 1.001)
        x0, y0 = x.astype(np.int64), y.astype(np.int64)
        fx, fy = (x - x0)[:, None], (y - y0)[:, None]
        b = self.bend
        top = b[y0, x0] * (1 - fx) + b[y0, x0 + 1] * fx
        bottom = b[y0 + 1, x0] * (1 - fx) + b[y0 + 1, x0 + 1] * fx
        return top * (1 - fy) + bottom * fy


def random_view(
    rng: np.random.Generator, size: int, centre: np.ndarray, scale: float, angle_deg: float, mirrored: bool
) -> View:
    """A view of ``size`` pixels about the source point ``centre``; ``scale`` is view pixels per source pixel."""
    angle = np.radians(angle_deg)
    stretch = np.exp(rng.normal(0, 0.04))
    axis = rng.uniform(0, np.pi)
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    turn = np.array([[np.cos(axis), -np.sin(axis)], [np.sin(axis), np.cos(axis)]])
    linear = rotation @ turn @ np.diag([stretch, 1 / stretch]) @ turn.T / scale
    if mirrored:
        linear = np.diag([-1.0, 1.0]) @ linear
    middle = np.full(2, (size - 1) / 2)
    matrix = np.concatenate([linear, (centre - linear @ middle)[:, None]], 1)

    unit = (np.arange(size, dtype=np.float32) - middle[0]) / middle[0]
    u, v = np.meshgrid(unit, unit)
    bend = np.zeros((size, size, 2), np.float32)
    if rng.random() < 0.6:  # quadratic and first-order perspective, a few pixels at the corners
        c = rng.normal(0, 0.012 * size, (2, 3)).astype(np.float32)
        bend += np.stack([k[0] * u * u + k[1] * u * v + k[2] * v * v for k in c], -1)
    if rng.random() < 0.5:
        knots = int(rng.integers(3, 7))
        grid = rng.normal(0, rng.uniform(0.3, 2.0), (knots, knots, 2)).astype(np.float32)
        bend += cv2.resize(grid, (size, size), interpolation=cv2.INTER_CUBIC)
    return View(matrix, bend)


def random_centre(rng: np.random.Generator, mask: np.ndarray, size: int, scale: float) -> np.ndarray:
    """A source point ``(2,)`` inside the mask about which a view of ``size`` pixels shows little beyond the frame."""
    inside = np.argwhere(mask[::8, ::8] > 0) * 8
    centre = inside[int(rng.integers(len(inside)))][::-1].astype(np.float64)
    extent = np.array(mask.shape[::-1], np.float64)
    half = min(size / 2 / scale * 0.8, extent.min() / 2)
    return np.clip(centre, half, extent - half)


def sample_view(sample: Sample, view: View, plane: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Plane in [0, 1], mask and vessel map in [0, 1] of a view, each float32 ``(S, S)``; outside the source: mask 0.

    ``plane`` says which of the sample's planes is seen.
    """
    where = view.source_map()
    step = np.sqrt(abs(np.linalg.det(view.matrix[:, :2])))  # source pixels a view pixel
    planes = []
    for array in (sample.planes[plane], sample.vessels):
        source, points = array, where
        shrink = step
        while shrink > 1.5:
            source = cv2.resize(source, (source.shape[1] // 2, source.shape[0] // 2), interpolation=cv2.INTER_AREA)
            ratio = np.array([source.shape[1] / array.shape[1], source.shape[0] / array.shape[0]], np.float32)
            points = (where + 0.5) * ratio - 0.5
            shrink /= 2
        planes.append(cv2.remap(source, points, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE))
    mask = cv2.remap(sample.mask, where, None, cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT, borderValue=0)
    return planes[0].astype(np.float32) / 255, mask.astype(np.float32), planes[1].astype(np.float32) / 255
