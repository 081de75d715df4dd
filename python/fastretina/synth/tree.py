"""The vessels of one eye, grown from the optic disc.

Eye units: the fovea is (0, 0), y points down, 1 is the radius of a 45-degree field (22.5 degrees, about 6.5 mm). The
arcades, each an artery and a vein, follow curves around the macula. Everything else fills the space that is left, from
coarse to fine: the middle of the largest gap between vessels of one kind becomes the end of a new branch, which leaves
the nearest vessel at an acute angle. So trees of one kind hardly touch, arteries and veins cross freely, and the
mesh grows finer towards the avascular zone, as retinae do it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

EXTENT = 1.9  # how far from the fovea vessels are grown: two cameras do not look at the same place
DEG_PER_UNIT = 22.5
_STEP = 0.005
_CELL = 0.008  # of the grid in which gaps are measured
_GAPS = (0.36, 0.28, 0.22, 0.17, 0.135, 0.105, 0.085, 0.068)  # half the width of gaps that are still filled, in turn
_FINE_GAPS = (0.055, 0.045, 0.037, 0.030, 0.024)  # in the macula only
_MACULA = 0.5
_WAVES = np.array([(0.075, 0.0009), (0.13, 0.0024), (0.23, 0.0050), (0.40, 0.009)])  # of a vessel: length, height


@dataclass(frozen=True)
class Branch:
    """A vessel from where it leaves another (or the disc) to its end."""

    points: Floats  # (N, 2) eye units, from the disc outwards
    widths: Floats  # (N,) diameters
    artery: bool


@dataclass(frozen=True)
class VesselTree:
    """All vessels of one eye."""

    branches: tuple[Branch, ...]
    bifurcations: Floats  # (M, 2) where a branch leaves another
    bifurcation_widths: Floats  # (M,) of the branch that leaves
    disc: tuple[float, float]
    disc_radius: float
    fovea_radius: float  # of the zone without vessels
    right_eye: bool


class Habit(NamedTuple):
    """How the vessels of one eye differ from those of another: factors about 1."""

    calibre: float
    artery: float  # its width as a share of the vein's
    tortuosity: float
    gaps: float  # the larger, the fewer branches


def vessel_tree(seed: int) -> VesselTree:
    """Grow the vessels of one eye; the same seed grows the same eye."""
    return _Gardener(np.random.default_rng(seed)).tree()


class _Gardener:
    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.right_eye = bool(rng.random() < 0.5)
        self.side = 1.0 if self.right_eye else -1.0  # where the disc is
        self.disc = (self.side * rng.uniform(0.62, 0.72), rng.uniform(-0.11, 0.01))
        self.disc_radius = rng.uniform(0.11, 0.15)
        self.fovea_radius = rng.uniform(0.032, 0.055)
        self.habit = Habit(
            calibre=rng.uniform(0.8, 1.15),
            artery=rng.uniform(0.65, 0.85),
            tortuosity=float(np.exp(rng.normal(0, 0.4))),
            gaps=rng.uniform(0.85, 1.3),
        )
        self.branches: list[Branch] = []
        self.bifurcations: list[tuple[float, float, float]] = []
        side = round(2 * EXTENT / _CELL)
        self.owner = np.full((2, side, side), -1, np.int32)  # node that passes here, of each kind
        self.nodes: list[tuple[int, int]] = []  # (branch, index) of a node
        centres = (np.arange(side) + 0.5) * _CELL - EXTENT
        x, y = centres[None, :], centres[:, None]
        to_fovea = np.hypot(x, y)
        # Gaps are narrower towards the fovea and wider in the periphery.
        self.scale = np.clip(0.62 + 0.5 * to_fovea, 0.55, 1.25) * self.habit.gaps
        self.macula = to_fovea < _MACULA
        self.barred = (to_fovea < 1.25 * self.fovea_radius) | (
            np.hypot(x - self.disc[0], y - self.disc[1]) < 1.1 * self.disc_radius
        )
        edge = 12
        self.barred[:edge] = self.barred[-edge:] = True
        self.barred[:, :edge] = self.barred[:, -edge:] = True

    def tree(self) -> VesselTree:
        for artery in (False, True):
            for vertical in (-1.0, 1.0):
                for temporal in (True, False):
                    self._arcade(artery, vertical, temporal)
            for _ in range(int(self.rng.integers(2, 5))):
                self._from_disc(artery)
        for gap in (*_GAPS, *_FINE_GAPS):
            for artery in (False, True):
                self._fill(artery, gap, self.macula if gap in _FINE_GAPS else None)
        at = np.array(self.bifurcations).reshape(-1, 3)
        return VesselTree(
            branches=tuple(self.branches),
            bifurcations=at[:, :2],
            bifurcation_widths=at[:, 2],
            disc=self.disc,
            disc_radius=self.disc_radius,
            fovea_radius=self.fovea_radius,
            right_eye=self.right_eye,
        )

    # -- vessels from the disc ----------------------------------------------------------------------------------

    def _arcade(self, artery: bool, vertical: float, temporal: bool) -> None:
        u = self.rng.uniform
        s, (dx, dy) = self.side, self.disc
        shift = u(-0.10, 0.10)
        if temporal:
            control = [
                (dx + s * u(0.0, 0.03), dy + vertical * 0.01),
                (dx + s * u(-0.08, 0.08), dy + vertical * u(0.34, 0.50)),
                (s * u(0.05, 0.28), vertical * (u(0.58, 0.78) + shift)),
                (-s * u(0.70, 0.95), vertical * (u(0.40, 0.66) + shift)),
                (-s * 1.75, vertical * (u(0.35, 1.1) + shift)),
            ]
        else:
            control = [
                (dx + s * u(0.0, 0.03), dy + vertical * 0.01),
                (dx + s * u(0.06, 0.2), dy + vertical * u(0.2, 0.32)),
                (dx + s * u(0.3, 0.45), dy + vertical * (u(0.35, 0.6) + shift)),
                (dx + s * u(0.65, 0.8), dy + vertical * (u(0.5, 0.9) + shift)),
                (dx + s * 1.15, dy + vertical * (u(0.7, 1.2) + shift)),
            ]
        width = u(0.0185, 0.0235) * (1.0 if temporal else 0.72) * (self.habit.artery if artery else 1.0)
        path = self._wobble(_spline(np.array(control)), 1.0)
        self._add(path, width * self.habit.calibre, 0.45, artery)

    def _from_disc(self, artery: bool) -> None:
        """A small vessel straight from the disc, to the macula or to the nasal side."""
        nasal = self.rng.random() < 0.4
        heading = math.pi * (self.side > 0) + math.pi * nasal + self.rng.uniform(-0.75, 0.75)
        length = self.rng.uniform(0.30, 0.5)
        if nasal:
            length *= 1.8
        end = np.array(self.disc) + length * np.array([math.cos(heading), math.sin(heading)])
        path = self._wobble(_hermite(np.array(self.disc), end, heading, heading + self.rng.normal(0, 0.4)), 0.8)
        self._add(path, self.rng.uniform(0.006, 0.011) * self.habit.calibre, 0.5, artery)

    # -- the rest -----------------------------------------------------------------------------------------------

    def _fill(self, artery: bool, gap: float, where: NDArray[np.bool_] | None) -> None:
        """One branch into the middle of each gap of this half width or wider."""
        import cv2

        own = self.owner[int(artery)]
        distance, label = cv2.distanceTransformWithLabels(
            (own < 0).astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
        )
        other = cv2.distanceTransform((self.owner[int(not artery)] < 0).astype(np.uint8), cv2.DIST_L2, 5)
        free = np.minimum(distance, 1.7 * other) * _CELL / self.scale
        free[self.barred] = 0
        if where is not None:
            free[~where] = 0
        jittered = free * self.rng.uniform(0.9, 1.0, free.shape).astype(np.float32)
        reach = 2 * max(2, int(0.9 * gap / _CELL)) + 1
        peak = (jittered >= cv2.dilate(jittered, np.ones((reach, reach), np.uint8))) & (free > gap)
        node_of_label = np.zeros(int(label.max()) + 1, np.int32)
        node_of_label[label[own >= 0]] = own[own >= 0]
        for row, column in np.argwhere(peak):
            target = (np.array([column, row]) + self.rng.uniform(0, 1, 2)) * _CELL - EXTENT
            self._branch_to(target, int(node_of_label[label[row, column]]), artery)

    def _branch_to(self, target: Floats, node: int, artery: bool) -> None:
        number, index = self.nodes[node]
        stem = self.branches[number]
        away = float(np.hypot(*(target - stem.points[index])))
        # The nearest point is across from the target: leaving upstream of it makes the angle acute.
        index = max(2, index - round(self.rng.uniform(0.4, 1.1) * away / _STEP))
        if index >= len(stem.points) - 1:
            return
        start = stem.points[index]
        if math.hypot(start[0] - self.disc[0], start[1] - self.disc[1]) < 0.4 * self.disc_radius:
            return
        tangent = stem.points[min(index + 2, len(stem.points) - 1)] - stem.points[max(index - 2, 0)]
        along = math.atan2(tangent[1], tangent[0])
        straight = math.atan2(target[1] - start[1], target[0] - start[0])
        turn = (straight - along + math.pi) % (2 * math.pi) - math.pi
        heading = along + float(np.clip(turn, -1.3, 1.3)) * self.rng.uniform(0.75, 1.1)
        path = _hermite(start, target, heading, straight + self.rng.normal(0, 0.35))
        path = self._shun_fovea(self._wobble(path, 1.0))
        if len(path) < 5:
            return
        length = len(path) * _STEP
        wanted = (0.0018 + 0.021 * length) * self.rng.uniform(0.8, 1.2) * self.habit.calibre
        width = max(0.0016, min(wanted, 0.8 * float(stem.widths[index])))
        self.bifurcations.append((float(start[0]), float(start[1]), width))
        self._add(path, width, 0.45, artery)

    def _shun_fovea(self, path: Floats) -> Floats:
        radius = np.hypot(path[:, 0], path[:, 1])
        inside = np.nonzero(radius < 1.06 * self.fovea_radius)[0]
        return path[: inside[0]] if len(inside) else path

    def _add(self, path: Floats, width: float, end_share: float, artery: bool) -> None:
        inside = np.nonzero(np.abs(path).max(1) >= EXTENT - 0.05)[0]
        path = path[: inside[0]] if len(inside) else path
        if len(path) < 5:
            return
        number = len(self.branches)
        self.branches.append(Branch(path, width * np.linspace(1.0, end_share, len(path)), artery))
        column, row = ((path[1:] + EXTENT) / _CELL).astype(int).T
        own = self.owner[int(artery)]
        free = np.nonzero(own[row, column] < 0)[0]
        own[row[free], column[free]] = np.arange(len(free)) + len(self.nodes)
        self.nodes.extend((number, int(i) + 1) for i in free)

    def _wobble(self, path: Floats, amount: float) -> Floats:
        """Tortuosity: a smooth sideways displacement, 0 at the start."""
        length = np.arange(len(path)) * _STEP
        phase, size, stretch = self.rng.uniform((0, 0.3, 0.8), (2 * math.pi, 1.3, 1.2), (len(_WAVES), 3)).T
        wavelength, amplitude = _WAVES.T
        turns = length[:, None] * (2 * math.pi / (wavelength * stretch)) + phase
        shift = np.sin(turns) @ (amplitude * size) * (amount * self.habit.tortuosity)
        shift *= np.minimum(1, length / 0.08)
        along = np.empty_like(path)
        along[1:-1] = path[2:] - path[:-2]
        along[0], along[-1] = path[1] - path[0], path[-1] - path[-2]
        shift /= np.hypot(along[:, 0], along[:, 1]) + 1e-12
        wobbled: Floats = path + np.stack([-along[:, 1] * shift, along[:, 0] * shift], axis=1)
        return wobbled


def _hermite(start: Floats, end: Floats, heading: float, arrival: float) -> Floats:
    """A cubic from ``start`` to ``end`` with given directions, in about equal steps."""
    span = float(np.hypot(*(end - start)))
    count = max(4, round(1.05 * span / _STEP))
    t = np.arange(count)[:, None] / (count - 1)
    leave = span * np.array([math.cos(heading), math.sin(heading)])
    arrive = 0.7 * span * np.array([math.cos(arrival), math.sin(arrival)])
    curve: Floats = (
        (2 * t**3 - 3 * t**2 + 1) * start + (t**3 - 2 * t**2 + t) * leave + (3 * t**2 - 2 * t**3) * end
    ) + (t**3 - t**2) * arrive
    return curve


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
