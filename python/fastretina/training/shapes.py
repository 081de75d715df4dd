"""Synthetic shapes with known corners: what a detector of key points is first trained on.

Source: DeTone et al. 2018 (SuperPoint), section 4: lines, polygons, checkerboards, stars, cubes and ellipses, which
give "MagicPoint". Two of our own bring the shapes closer to an eye: trees of curved branches, whose forks and
crossings count, and plain texture, where nothing does.

A drawing depends on its random generator only. Points are ``(K, 2)`` px ``(x, y)``, pixel centres at integers.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import cv2
import numpy as np

from fastretina.training.simulate import Rng, band_noise, smooth_field

Canvas = np.ndarray
Shape = Callable[[Rng, Canvas], np.ndarray]

SUBPIXEL_BITS = 4  # OpenCV draws at 1/16 px
LEAST_CONTRAST = 0.25
LEAST_ANGLE_DEG = 25  # flatter corners and crossings are no key points
LEAST_DISTANCE_PX = 4.0
NO_POINTS = np.zeros((0, 2))


def draw(rng: Rng, size: int) -> tuple[np.ndarray, np.ndarray]:
    """One drawing: plane float32 ``(size, size)`` in [0, 1] and its key points ``(K, 2)`` inside it."""
    plane = background(rng, size)
    shape = SHAPES[int(rng.integers(len(SHAPES)))]
    points = shape(rng, plane)
    plane = cv2.GaussianBlur(plane, (0, 0), rng.uniform(0.3, 1.8))
    if rng.random() < 0.7:
        plane = plane + rng.uniform(0.01, 0.1) * band_noise(rng, size, float(rng.choice([0.0, 0.0, 0.8, 1.5])))
    inside = np.all((points >= 0) & (points <= size - 1), axis=1)
    return np.clip(plane, 0, 1).astype(np.float32), points[inside]


def background(rng: Rng, size: int) -> Canvas:
    """Soft shading, in half of the drawings with a texture."""
    plane = rng.uniform(0.2, 0.8) + rng.uniform(0, 0.1) * smooth_field(rng, size, int(rng.integers(2, 5)))
    if rng.random() < 0.5:
        plane = plane + rng.uniform(0, 0.05) * band_noise(rng, size, rng.uniform(2, 8))
    return np.clip(plane, 0, 1).astype(np.float32)


def line_shape(rng: Rng, plane: Canvas) -> np.ndarray:
    """Straight lines: their ends and crossings."""
    size = len(plane)
    ends = np.array([_segment(rng, size) for _ in range(int(rng.integers(1, 8)))])
    for a, b in ends:
        _stroke(plane, np.stack([a, b]), _ink(rng, plane), int(rng.integers(1, 6)))
    return _apart(np.concatenate([ends.reshape(-1, 2), _crossings(ends)]), LEAST_DISTANCE_PX)


def polygon_shape(rng: Rng, plane: Canvas) -> np.ndarray:
    """Up to three convex polygons that do not touch."""
    size = len(plane)
    corners: list[np.ndarray] = []
    taken: list[tuple[np.ndarray, float]] = []
    for _ in range(int(rng.integers(1, 4))):
        radius = size * rng.uniform(0.12, 0.35)
        centre = rng.uniform(0.15, 0.85, 2) * size
        if any(np.hypot(*(centre - other)) < radius + reach for other, reach in taken):
            continue
        angles = _spaced_angles(rng, int(rng.integers(3, 7)))
        at = centre + radius * np.stack([np.cos(angles), np.sin(angles)], 1)
        _fill(plane, at, _ink(rng, plane))
        corners.append(at[_sharp(at)])
        taken.append((centre, radius))
    return np.concatenate([NO_POINTS, *corners])


def star_shape(rng: Rng, plane: Canvas) -> np.ndarray:
    """Rays from one centre: the centre and their ends."""
    size = len(plane)
    centre = rng.uniform(0.25, 0.75, 2) * size
    angles = _spaced_angles(rng, int(rng.integers(3, 7)))
    reach = size * rng.uniform(0.15, 0.5, len(angles))
    ends = centre + reach[:, None] * np.stack([np.cos(angles), np.sin(angles)], 1)
    width, ink = int(rng.integers(1, 6)), _ink(rng, plane)
    for end in ends:
        _stroke(plane, np.stack([centre, end]), ink, width)
    return np.concatenate([centre[None], ends])


def checkerboard_shape(rng: Rng, plane: Canvas) -> np.ndarray:
    """A board in perspective: the corners of its squares."""
    rows, columns = rng.integers(3, 7, 2)
    grid = np.stack(np.meshgrid(np.arange(columns + 1), np.arange(rows + 1)), -1).astype(np.float64)
    corner = _perspective(rng, len(plane), float(columns), float(rows))(grid.reshape(-1, 2)).reshape(grid.shape)
    dark = _ink(rng, plane)
    light = (dark + rng.uniform(LEAST_CONTRAST, 0.8)) % 1.0
    for v in range(rows):
        for u in range(columns):
            square = corner[[v, v, v + 1, v + 1], [u, u + 1, u + 1, u]]
            _fill(plane, square, float(np.clip((dark, light)[(u + v) % 2] + rng.normal(0, 0.03), 0, 1)))
    return corner.reshape(-1, 2)


def stripes_shape(rng: Rng, plane: Canvas) -> np.ndarray:
    """Bands in perspective that leave the plane at both ends, and so have corners nowhere."""
    count, size = int(rng.integers(3, 10)), len(plane)
    turn = rng.uniform(0, np.pi)
    along, across = np.array([np.cos(turn), np.sin(turn)]), np.array([-np.sin(turn), np.cos(turn)])
    edges = np.sort(rng.uniform(-0.7, 0.7, count)) * size
    middle = np.full(2, (size - 1) / 2)
    for low, high in pairwise(edges):
        band = [middle + s * 2 * size * along + e * across for s, e in ((-1, low), (1, low), (1, high), (-1, high))]
        _fill(plane, np.array(band), _ink(rng, plane))
    return NO_POINTS


def cube_shape(rng: Rng, plane: Canvas) -> np.ndarray:
    """Three faces of a box: its seven visible corners."""
    size = len(plane)
    turn, tilt = rng.uniform(0.3, np.pi / 2 - 0.3), rng.uniform(0.4, 1.0)
    axes = np.array([[np.cos(turn), np.sin(turn) * tilt], [-np.sin(turn), np.cos(turn) * tilt], [0, -1]])
    spin = rng.uniform(0, 2 * np.pi)
    rotate = np.array([[np.cos(spin), -np.sin(spin)], [np.sin(spin), np.cos(spin)]])
    x, y, z = (axes * (size * rng.uniform(0.15, 0.35, 3))[:, None]) @ rotate.T
    o = rng.uniform(0.35, 0.65, 2) * size  # the corner where the three faces meet
    tones = rng.permutation(np.linspace(0.1, 0.9, 4))[:3]
    for (a, b), tone in zip(((x, y), (y, z), (z, x)), tones, strict=True):
        _fill(plane, np.array([o, o + a, o + a + b, o + b]), float(tone))
    return np.array([o, o + x, o + y, o + z, o + x + y, o + y + z, o + z + x])


def ellipses_shape(rng: Rng, plane: Canvas) -> np.ndarray:
    """Discs and rings, which have no corners."""
    size = len(plane)
    for _ in range(int(rng.integers(1, 9))):
        centre = tuple(int(v) for v in rng.uniform(0, size, 2))
        radii = tuple(int(v) for v in size * rng.uniform(0.03, 0.2, 2))
        width = -1 if rng.random() < 0.7 else int(rng.integers(1, 5))
        cv2.ellipse(plane, centre, radii, rng.uniform(0, 180), 0, 360, _ink(rng, plane), width, cv2.LINE_8)
    return NO_POINTS


def tree_shape(rng: Rng, plane: Canvas) -> np.ndarray:
    """Curved vessels with branches: the forks, the crossings and the ends."""
    size = len(plane)
    stems = [_curve(rng, *_segment(rng, size, 0.6)) for _ in range(int(rng.integers(1, 4)))]
    ink, width = _ink(rng, plane), int(rng.integers(2, 7))
    found, curves = [], list(stems)
    for stem in stems:
        for _ in range(int(rng.integers(1, 4))):
            at = int(rng.integers(len(stem) // 5, 4 * len(stem) // 5))
            ahead = stem[at + 1] - stem[at]
            angle = np.arctan2(ahead[1], ahead[0]) + rng.choice([-1, 1]) * np.radians(rng.uniform(LEAST_ANGLE_DEG, 90))
            tip = stem[at] + size * rng.uniform(0.15, 0.5) * np.array([np.cos(angle), np.sin(angle)])
            curves.append(_curve(rng, stem[at], tip, 0.05))
            found.append(stem[at])
    for i, curve in enumerate(curves):
        _stroke(plane, curve, ink, width if i < len(stems) else max(1, width - int(rng.integers(0, 3))))
    pieces = np.concatenate([np.stack([c[:-1], c[1:]], 1) for c in curves])
    owner = np.concatenate([np.full(len(c) - 1, i) for i, c in enumerate(curves)])
    ends = [c[-1] for c in curves] + [s[0] for s in stems]
    return _apart(np.concatenate([found, ends, _crossings(pieces, owner)]), LEAST_DISTANCE_PX)


def texture_shape(rng: Rng, plane: Canvas) -> np.ndarray:
    """Noise alone."""
    plane += (rng.uniform(0.05, 0.3) * band_noise(rng, len(plane), rng.uniform(0, 3))).astype(np.float32)
    return NO_POINTS


SHAPES: tuple[Shape, ...] = (
    line_shape, polygon_shape, star_shape, checkerboard_shape, stripes_shape, cube_shape, ellipses_shape,
    tree_shape, tree_shape, texture_shape,
)  # fmt: skip


def _ink(rng: Rng, plane: Canvas) -> float:
    """A tone that stands out of the mean of the plane."""
    mean = float(plane.mean())
    tones = rng.uniform(0, 1, 16)
    clear = tones[np.abs(tones - mean) > LEAST_CONTRAST]
    return float(clear[0]) if len(clear) else (1.0 if mean < 0.5 else 0.0)


def _fixed_point(points: np.ndarray) -> np.ndarray:
    return np.round(points * 2**SUBPIXEL_BITS).astype(np.int32)


def _fill(plane: Canvas, corners: np.ndarray, tone: float) -> None:
    cv2.fillConvexPoly(plane, _fixed_point(corners), tone, cv2.LINE_8, SUBPIXEL_BITS)


def _stroke(plane: Canvas, points: np.ndarray, tone: float, width: int) -> None:
    cv2.polylines(plane, [_fixed_point(points)], False, tone, width, cv2.LINE_8, SUBPIXEL_BITS)


def _segment(rng: Rng, size: int, least: float = 0.2) -> np.ndarray:
    """Both ends (2, 2) of a segment that is not short."""
    while True:
        ends = rng.uniform(0.02, 0.98, (2, 2)) * size
        if np.hypot(*(ends[1] - ends[0])) > least * size:
            return ends


def _curve(rng: Rng, a: np.ndarray, b: np.ndarray, bow: float = 0.15, count: int = 24) -> np.ndarray:
    """A cubic curve (count, 2) from a to b that leaves the straight line by about ``bow`` of its length."""
    along = b - a
    across = np.array([-along[1], along[0]])
    p1, p2 = (a + f * along + rng.normal(0, bow) * across for f in (1 / 3, 2 / 3))
    t = np.linspace(0, 1, count)[:, None]
    return (1 - t) ** 3 * a + 3 * t * (1 - t) ** 2 * p1 + 3 * t**2 * (1 - t) * p2 + t**3 * b


def _spaced_angles(rng: Rng, count: int) -> np.ndarray:
    """Increasing angles about a circle, none nearer than LEAST_ANGLE_DEG to the next."""
    least = np.radians(LEAST_ANGLE_DEG)
    gaps = rng.dirichlet(np.ones(count)) * (2 * np.pi - count * least) + least
    return rng.uniform(0, 2 * np.pi) + np.cumsum(gaps)


def _sharp(corners: np.ndarray) -> np.ndarray:
    """Which corners of a closed polygon turn by more than LEAST_ANGLE_DEG."""
    back, ahead = corners - np.roll(corners, 1, 0), np.roll(corners, -1, 0) - corners
    turn = np.arctan2(back[:, 0] * ahead[:, 1] - back[:, 1] * ahead[:, 0], (back * ahead).sum(1))
    return np.abs(turn) > np.radians(LEAST_ANGLE_DEG)


def _crossings(segments: np.ndarray, owner: np.ndarray | None = None) -> np.ndarray:
    """Where segments (N, 2 ends, 2) of different ``owner`` cross, at LEAST_ANGLE_DEG or more."""
    start, along = segments[:, 0], segments[:, 1] - segments[:, 0]
    first, second = np.triu_indices(len(segments), 1)
    if owner is not None:
        other = owner[first] != owner[second]
        first, second = first[other], second[other]

    def cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]

    u, v, between = along[first], along[second], start[second] - start[first]
    area = cross(u, v)
    steep = np.abs(area) > np.sin(np.radians(LEAST_ANGLE_DEG)) * np.linalg.norm(u, axis=1) * np.linalg.norm(v, axis=1)
    safe = np.where(steep, area, 1.0)
    s, t = cross(between, v) / safe, cross(between, u) / safe
    hit = steep & (s > 0) & (s < 1) & (t > 0) & (t < 1)
    return start[first[hit]] + s[hit, None] * u[hit]


def _apart(points: np.ndarray, least_px: float) -> np.ndarray:
    """Points in order, without those nearer than ``least_px`` to one before."""
    kept: list[np.ndarray] = []
    for point in points:
        if all(np.hypot(*(point - other)) >= least_px for other in kept):
            kept.append(point)
    return np.array(kept).reshape(-1, 2)


def _perspective(rng: Rng, size: int, width: float, height: float) -> Callable[[np.ndarray], np.ndarray]:
    """A map of the rectangle [0, width] x [0, height] to a tilted quadrilateral in the plane."""
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]])
    square = (np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) + rng.uniform(-0.35, 0.35, (4, 2))) * 0.5
    spin = rng.uniform(0, 2 * np.pi)
    rotate = np.array([[np.cos(spin), -np.sin(spin)], [np.sin(spin), np.cos(spin)]])
    there = square @ rotate.T * size * rng.uniform(0.5, 1.0) + rng.uniform(0.4, 0.6, 2) * size
    matrix = cv2.getPerspectiveTransform(corners.astype(np.float32), there.astype(np.float32))
    return lambda points: cv2.perspectiveTransform(points.reshape(-1, 1, 2), matrix).reshape(-1, 2)
