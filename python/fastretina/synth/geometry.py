"""True maps between two pictures of one eye: MOVING (x, y) -> FIXED (x, y)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fastretina.transform import Transform

Floats = NDArray[np.float64]
Rng = np.random.Generator

GEOMETRIES = ("homography", "quadratic", "local")
FRAME_PX = 640  # sizes of deformations are in px of a frame of this size
QUADRATIC_PX = (8.0, 20.0)  # displacement of a corner beyond the best homography
LOCAL_PEAK_PX = 6.0
LOCAL_SIGMA_PX = (60.0, 120.0)


@dataclass(frozen=True)
class LocalWarp:
    """``base`` after a smooth local field: a sum of Gaussian bumps, whose largest displacement is known."""

    base: Transform
    centres: Floats  # (K, 2) px of MOVING
    sigmas: Floats  # (K,) px of MOVING
    heights: Floats  # (K, 2) px of FIXED

    def field(self, points: Floats) -> Floats:
        """Displacement (N, 2) in px of FIXED at (N, 2) points of MOVING."""
        total = np.zeros((len(points), 2))
        for centre, sigma, height in zip(self.centres, self.sigmas, self.heights, strict=True):
            distance_sq = ((points - centre) ** 2).sum(1)
            total += np.exp(-distance_sq / (2 * sigma**2))[:, None] * height
        return total

    def __call__(self, points: Floats) -> Floats:
        points = np.asarray(points, np.float64)
        moved: Floats = self.base(points) + self.field(points)
        return moved


def similarity(size: tuple[int, int], scale: float, angle_deg: float, shift: Floats, tilt: Floats) -> Transform:
    """Scale, turn and tilt about the middle of the frame, then ``shift`` (px of FIXED); ``tilt`` is the relative
    change of scale from the middle to the border."""
    width, height = size
    c, s = scale * math.cos(math.radians(angle_deg)), scale * math.sin(math.radians(angle_deg))
    px, py = tilt / (np.array([width, height]) / 2)
    middle = Transform.from_matrix([[1, 0, (width - 1) / 2], [0, 1, (height - 1) / 2]])
    turn = Transform.from_matrix([[c, -s, shift[0]], [s, c, shift[1]], [px, py, 1]], "homography")
    return middle @ turn @ middle.inverse


def quadratic(base: Transform, size: tuple[int, int], rng: Rng) -> Transform:
    """A quadratic near an affine ``base``, whose corners are displaced by a drawn distance beyond the best homography.

    The distance is in px of FIXED, of a ``FRAME_PX`` frame; less where FIXED shows MOVING smaller than it is.
    """
    linear = base.params[:2] / base.params[2, 2]
    middle = (np.array(size) - 1) / 2
    wanted = rng.uniform(*QUADRATIC_PX) * _pixel(base, size)
    direction = rng.normal(0, 1, (2, 3))
    size_of = 1.0
    for _ in range(6):  # the part that a homography takes is not quite linear in the coefficients
        candidate = _quadratic(linear, direction * size_of, middle)
        size_of *= wanted / beyond_homography(candidate, size)
    return _quadratic(linear, direction * size_of, middle)


def beyond_homography(transform: Transform, size: tuple[int, int]) -> float:
    """Largest distance (px of FIXED) between a corner's place and where the best homography puts it."""
    import cv2

    width, height = size
    x, y = np.meshgrid(np.linspace(0, width - 1, 24), np.linspace(0, height - 1, 24))
    grid = np.stack([x.ravel(), y.ravel()], 1)
    matrix, _ = cv2.findHomography(grid, transform(grid), 0)
    best = Transform.from_matrix(matrix, "homography")
    corners = np.array([[0, 0], [width - 1, 0], [0, height - 1], [width - 1, height - 1]], np.float64)
    return float(np.linalg.norm(best(corners) - transform(corners), axis=1).max())


def local(base: Transform, size: tuple[int, int], rng: Rng) -> LocalWarp:
    """``base`` and a few bumps of alternating direction; the largest displacement in the frame is known."""
    width, height = size
    frame = max(size) / FRAME_PX
    count = int(rng.integers(4, 8))
    centres = rng.uniform(0.15, 0.85, (count, 2)) * (width - 1, height - 1)
    sigmas = rng.uniform(*LOCAL_SIGMA_PX, count) * frame
    angle = rng.uniform(0, 2 * math.pi)
    angles = angle + math.pi * (np.arange(count) % 2) + rng.normal(0, 0.5, count)
    heights = np.stack([np.cos(angles), np.sin(angles)], 1) * rng.uniform(0.6, 1.0, (count, 1))
    warp = LocalWarp(base, centres, sigmas, heights)
    x, y = np.meshgrid(np.linspace(0, width - 1, 64), np.linspace(0, height - 1, 64))
    peak = np.linalg.norm(warp.field(np.stack([x.ravel(), y.ravel()], 1)), axis=1).max()
    return LocalWarp(base, centres, sigmas, heights * LOCAL_PEAK_PX * _pixel(base, size) / peak)


def _pixel(base: Transform, size: tuple[int, int]) -> float:
    """Px of FIXED that a px of a ``FRAME_PX`` frame is, no more than FIXED magnifies it."""
    linear = base.params[:2, :2] / base.params[2, 2]
    return max(size) / FRAME_PX * min(1.0, math.sqrt(abs(float(np.linalg.det(linear)))))


def _quadratic(linear: Floats, terms: Floats, middle: Floats) -> Transform:
    """``linear`` (2, 3) plus ``terms`` (2, 3) of u², u v and v², in (u, v) = (x, y) / middle - 1."""
    mx, my = middle
    params = np.zeros((2, 6))
    for row, (a, b, c) in enumerate(terms):
        params[row] = (
            linear[row, 2] + a + b + c,
            linear[row, 0] - (2 * a + b) / mx,
            linear[row, 1] - (2 * c + b) / my,
            a / mx**2,
            b / (mx * my),
            c / my**2,
        )
    return Transform("quadratic", params)
