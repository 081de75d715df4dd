"""The vessels of one eye, grown from the optic disc.

Eye units: the fovea is (0, 0), y points down, 1 is the radius of a 45-degree field (about 6.5 mm). Four arcades,
each an artery and a vein, follow fixed curves around the macula; everything else branches off and grows by a biased
random walk that thins by Murray's law (the cubes of the widths add up), shuns its own kind and stops before the fovea.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

EXTENT = 1.9  # how far from the fovea vessels are grown: two cameras do not look at the same place
_STEP = 0.008
_MIN_WIDTH = 0.0024
_CELL = 0.008  # of the grid in which vessels see each other


@dataclass(frozen=True)
class Branch:
    """A piece of vessel between two branchings (or an end)."""

    points: Floats  # (N, 2) eye units, from the disc outwards
    widths: Floats  # (N,) diameters
    artery: bool


@dataclass(frozen=True)
class VesselTree:
    """All vessels of one eye."""

    branches: tuple[Branch, ...]
    bifurcations: Floats  # (M, 2) where a branch leaves another
    disc: tuple[float, float]
    disc_radius: float
    fovea_radius: float  # of the zone without vessels
    right_eye: bool


def vessel_tree(seed: int) -> VesselTree:
    """Grow the vessels of one eye; the same seed grows the same eye."""
    return _Gardener(np.random.default_rng(seed)).tree()


class _Gardener:
    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.right_eye = bool(rng.random() < 0.5)
        self.side = 1.0 if self.right_eye else -1.0  # where the disc is
        self.disc = (self.side * rng.uniform(0.62, 0.70), rng.uniform(-0.10, 0.0))
        self.fovea_radius = rng.uniform(0.07, 0.10)
        cells = int(2 * EXTENT / _CELL) + 1
        self.taken = np.zeros((2, cells, cells), dtype=np.int32)  # which branch passes here, per kind; 0 none
        self.branches: list[Branch] = []
        self.bifurcations: list[tuple[float, float]] = []

    def tree(self) -> VesselTree:
        for artery in (False, True):
            for vertical in (-1.0, 1.0):
                for temporal in (True, False):
                    self._arcade(artery, vertical, temporal)
            for angle in self.rng.uniform(-0.5, 0.5, 3):  # small vessels straight from the disc to the macula
                heading = (math.pi if self.side > 0 else 0.0) + float(angle)
                self._grow(self.disc, heading, self.rng.uniform(0.004, 0.007), 0.6, artery, 0)
        radius = self.rng.uniform(0.125, 0.145)
        bifurcations = np.array(self.bifurcations).reshape(-1, 2)
        branches = tuple(self.branches)
        return VesselTree(branches, bifurcations, self.disc, radius, self.fovea_radius, self.right_eye)

    def _arcade(self, artery: bool, vertical: float, temporal: bool) -> None:
        u = self.rng.uniform
        s, (dx, dy) = self.side, self.disc
        shift = u(-0.07, 0.07)
        if temporal:
            control = [
                (dx + s * 0.02, dy),
                (dx + s * u(-0.06, 0.10), dy + vertical * u(0.38, 0.52)),
                (s * u(0.05, 0.25), vertical * (u(0.66, 0.80) + shift)),
                (-s * u(0.75, 0.95), vertical * (u(0.42, 0.62) + shift)),
                (-s * 1.7, vertical * (u(0.55, 1.0) + shift)),
            ]
        else:
            control = [
                (dx + s * 0.02, dy),
                (dx + s * u(0.08, 0.2), dy + vertical * u(0.2, 0.32)),
                (dx + s * u(0.3, 0.45), dy + vertical * (u(0.35, 0.6) + shift)),
                (dx + s * u(0.65, 0.8), dy + vertical * (u(0.5, 0.9) + shift)),
                (dx + s * 1.1, dy + vertical * (u(0.7, 1.2) + shift)),
            ]
        path = self._wobble(_spline(np.array(control)))
        width = u(0.021, 0.026) if not artery else u(0.015, 0.019)
        if not temporal:
            width *= 0.75
        self._follow(path, width, artery)

    def _wobble(self, path: Floats) -> Floats:
        """Tortuosity: a smooth sideways displacement, 0 at the disc."""
        length = np.arange(len(path)) * _STEP
        shift = np.zeros(len(path))
        for wavelength, amplitude in ((0.11, 0.0022), (0.21, 0.005), (0.37, 0.009)):
            phase = self.rng.uniform(0, 2 * math.pi)
            amplitude *= self.rng.uniform(0.4, 1.3)
            shift += amplitude * np.sin(2 * math.pi * length / (wavelength * self.rng.uniform(0.8, 1.2)) + phase)
        tangent = np.gradient(path, axis=0)
        tangent /= np.linalg.norm(tangent, axis=1, keepdims=True) + 1e-12
        normal = np.stack([-tangent[:, 1], tangent[:, 0]], axis=1)
        wobbled: Floats = path + normal * (shift * np.minimum(1, length / 0.15))[:, None]
        return wobbled

    def _follow(self, path: Floats, width: float, artery: bool) -> None:
        """A main vessel along a given path, with side branches on both sides."""
        branch = len(self.branches) + 1
        widths = np.empty(len(path))
        children: list[tuple[int, float, float]] = []
        next_child, side = self.rng.uniform(0.16, 0.24), float(self.rng.choice([-1, 1]))
        for i, point in enumerate(path):
            if max(abs(point)) >= EXTENT - 0.05:
                path, widths = path[:i], widths[:i]
                break
            if i * _STEP >= next_child and width > 2 * _MIN_WIDTH:
                child = width * self.rng.uniform(0.32, 0.66)
                children.append((i, side, child))
                width = (width**3 - child**3) ** (1 / 3)
                side = -side if self.rng.random() < 0.75 else side
                next_child += self.rng.uniform(0.10, 0.22)
            widths[i] = width
            self._mark(point[0], point[1], artery, branch)
        self.branches.append(Branch(path, _smooth(widths), artery))
        for i, side, child in children:
            if 2 < i < len(path) - 2:
                tangent = path[i + 2] - path[i - 2]
                heading = math.atan2(tangent[1], tangent[0]) + side * math.radians(self.rng.uniform(35, 70))
                self._branch_off(path[i], heading, child, artery, 1)

    def _branch_off(self, point: Floats, heading: float, width: float, artery: bool, level: int) -> None:
        start = (float(point[0]), float(point[1]))
        length = min(1.0, 0.10 + width * self.rng.uniform(50, 90))
        if self._grow(start, heading, width, length, artery, level):
            self.bifurcations.append(start)

    def _grow(
        self, start: tuple[float, float], heading: float, width: float, length: float, artery: bool, level: int
    ) -> bool:
        """A biased random walk; False if it ended at once. Its own branches grow after it."""
        (x, y), turn, branch = start, 0.0, len(self.branches) + 1
        points, widths, children = [(x, y)], [width], []
        next_child = self.rng.uniform(0.06, 0.14)
        side = float(self.rng.choice([-1, 1]))
        for i in range(1, int(length / _STEP)):
            turn = 0.80 * turn + 0.030 * float(self.rng.normal())
            heading += turn + 0.045 * math.sin(self._goal(x, y) - heading)
            x, y = x + _STEP * math.cos(heading), y + _STEP * math.sin(heading)
            if self._blocked(x, y, heading, width, artery, branch, i):
                break
            if i * _STEP >= next_child and level < 5 and width > 1.25 * _MIN_WIDTH:
                child = width * self.rng.uniform(0.45, 0.78)
                children.append((i, side, max(child, _MIN_WIDTH)))
                width = max(_MIN_WIDTH, (width**3 - child**3) ** (1 / 3))
                heading -= side * math.radians(self.rng.uniform(5, 18))  # the stem leans the other way
                side = -side if self.rng.random() < 0.7 else side
                next_child += self.rng.uniform(0.07, 0.18)
            width = max(_MIN_WIDTH, width * 0.998)
            points.append((x, y))
            widths.append(width)
            self._mark(x, y, artery, branch)
        if len(points) < 6:
            return False
        path = np.array(points)
        self.branches.append(Branch(path, _smooth(np.array(widths)), artery))
        for i, side, child in children:
            if i < len(path) - 1:
                tangent = path[i] - path[i - 1]
                angle = math.atan2(tangent[1], tangent[0]) + side * math.radians(self.rng.uniform(30, 60))
                self._branch_off(path[i], angle, child, artery, level + 1)
        return True

    def _goal(self, x: float, y: float) -> float:
        """Where a small vessel wants to go: to the fovea within the arcades, away from the disc elsewhere."""
        if math.hypot(x + 0.1 * self.side, y) < 0.62:
            return math.atan2(-y, -x)
        return math.atan2(y - self.disc[1], x - self.disc[0])

    def _blocked(self, x: float, y: float, heading: float, width: float, artery: bool, branch: int, step: int) -> bool:
        if max(abs(x), abs(y)) >= EXTENT - 0.05:
            return True
        if math.hypot(x, y) < self.fovea_radius * 1.15:
            return True
        if step * _STEP < 0.035:  # still beside the stem
            return False
        reach = 0.020 + width
        for turn in (-0.6, 0.0, 0.6):
            row, column = self._cell(x + reach * math.cos(heading + turn), y + reach * math.sin(heading + turn))
            if self.taken[int(artery), row, column] not in (0, branch):
                return True
        return False

    def _mark(self, x: float, y: float, artery: bool, branch: int) -> None:
        row, column = self._cell(x, y)
        self.taken[int(artery), row, column] = branch

    @staticmethod
    def _cell(x: float, y: float) -> tuple[int, int]:
        return int((y + EXTENT) / _CELL), int((x + EXTENT) / _CELL)


def _smooth(widths: Floats) -> Floats:
    """No steps in the width where a branch leaves."""
    if len(widths) < 3:
        return widths
    k = min(9, len(widths) // 2 * 2 - 1)
    padded = np.pad(widths, k // 2, mode="edge")
    return np.convolve(padded, np.full(k, 1 / k), mode="valid")


def _spline(control: Floats) -> Floats:
    """A Catmull-Rom curve through the control points, resampled to equal steps."""
    padded = np.vstack([2 * control[0] - control[1], control, 2 * control[-1] - control[-2]])
    t = np.linspace(0, 1, 200, endpoint=False)[:, None]
    pieces = []
    for p0, p1, p2, p3 in zip(padded, padded[1:], padded[2:], padded[3:], strict=False):
        pieces.append(p1 + 0.5 * t * (p2 - p0 + t * (2 * p0 - 5 * p1 + 4 * p2 - p3 + t * (3 * (p1 - p2) + p3 - p0))))
    curve = np.vstack(pieces)
    length = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(curve, axis=0), axis=1))])
    steps = np.arange(0, length[-1], _STEP)
    return np.stack([np.interp(steps, length, curve[:, axis]) for axis in (0, 1)], axis=1)
