"""What a camera can see of one eye: vessels, textures and lesions as layers, at any place and resolution.

Nothing here knows of cameras. Textures are noise on grids in eye units and lesions are shapes in eye units, so two
views of one eye agree exactly whatever their geometry and resolution.
"""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastretina.synth.lesions import Lesion, later, lesions_of
from fastretina.synth.tree import EXTENT, Branch, vessel_tree

Plane = NDArray[np.float32]
Layers = dict[str, Plane]

CAPILLARY_WIDTH = 0.0024  # thinner vessels are seen by angiography and OCT only
_MESH_EXTENT = 0.95
_SUBPIXEL = 4  # bits, of the line drawing
_DENSITY = 1.5  # drawing pixels a camera pixel
_MAX_SIDE = 6000


class Eye:
    """One eye; the same seed is the same eye. ``diseased``: None draws whether it has lesions."""

    def __init__(self, seed: int, diseased: bool | None = None) -> None:
        self.seed = seed
        rng = np.random.default_rng([seed, 1])
        self.tree = vessel_tree(seed)
        self.pigment = float(rng.uniform(0, 1))  # 0: a blond fundus, its choroid shows; 1: a dark one
        self.lesions = lesions_of(self.tree, rng, diseased)
        self.textures = {
            "drift": _noise(rng, 0.12, (0.35, 0.8)),
            "mottle": _noise(rng, 0.012, (0.012, 0.03, 0.08)),
            "grain": _noise(rng, 0.004, (0.004, 0.008)),
            "choroid": _choroid(rng),
        }
        self.mesh = _mesh(rng)
        self.fibres = _noise(rng, 0.012, (0.012, 0.04))
        self.cup = float(rng.uniform(0.25, 0.6))
        self.zone = rng.normal(0, 0.09, (2, 4))  # harmonics of the avascular zone's outline

    def later(self) -> Eye:
        """The same eye at a later visit: vessels stay, lesions change, and so do its pigment and reflexes."""
        rng = np.random.default_rng([self.seed, 3])
        eye = copy.copy(self)
        eye.lesions = later(self.lesions, self.tree, rng)
        eye.textures = self.textures | {"drift": _noise(rng, 0.12, (0.35, 0.8))}
        eye.fibres = _noise(rng, 0.012, (0.012, 0.04))
        return eye

    def look(self, eye_xy: NDArray[np.float64]) -> Layers:
        """The layers, each (H, W) float32, at positions (H, W, 2) in eye units."""
        x, y = (np.ascontiguousarray(eye_xy[..., i], dtype=np.float32) for i in (0, 1))
        layers = {name: _sample(grid, x, y) for name, grid in self.textures.items()}
        layers["mesh"] = _sample(self.mesh, x, y, _MESH_EXTENT)
        tree = self.tree
        to_disc = np.hypot((x - tree.disc[0]) / 0.92, y - tree.disc[1]) / tree.disc_radius
        to_disc *= 1 + 0.04 * layers["drift"]
        to_fovea = np.hypot(x, y)
        layers |= {
            "disc": _soft_step(1 - to_disc, 0.12),
            "cup": _soft_step(self.cup - to_disc, 0.35),
            "halo": np.exp(-((np.maximum(to_disc - 1, 0) / 0.8) ** 2)),
            "macula": np.exp(-((to_fovea / 0.20) ** 2)),
            "fovea": np.exp(-((to_fovea / (1.3 * tree.fovea_radius)) ** 2)),
            "avascular": self._avascular(x, y, to_fovea),
        }
        layers["sheen"] = self._sheen(x, y, to_disc, to_fovea)
        window = _Window(x, y)
        for artery, name in ((True, "artery"), (False, "vein")):
            wide = [b for b in tree.branches if b.artery is artery and b.widths[0] >= CAPILLARY_WIDTH]
            layers[name] = window.vessels(wide)
            layers[name + "_core"] = window.vessels([b for b in wide if b.widths[0] > 0.009], 0.33)
        layers["capillary"] = window.vessels([b for b in tree.branches if b.widths[0] < CAPILLARY_WIDTH])
        for kind in ("drusen", "exudate", "blood", "aneurysm", "scar", "atrophy"):
            layers[kind] = window.spots([s for s in self.lesions if s.kind == kind], layers["mottle"])
        layers["leak"] = window.leak(self.lesions)
        return {name: np.asarray(layer, dtype=np.float32) for name, layer in layers.items()}

    def _avascular(self, x: Plane, y: Plane, to_fovea: Plane) -> Plane:
        """1 in the zone without capillaries, whose outline is irregular."""
        angle = np.arctan2(y, x)
        outline = np.ones_like(x)
        for k, (a, b) in enumerate(self.zone.T):
            outline += (a * np.cos((k + 2) * angle) + b * np.sin((k + 2) * angle)).astype(np.float32)
        return _soft_step(1 - to_fovea / (self.tree.fovea_radius * outline), 0.25)

    def _sheen(self, x: Plane, y: Plane, to_disc: Plane, to_fovea: Plane) -> Plane:
        """Reflex of the nerve fibres: streaks that leave the disc, brightest along the arcades."""
        side = 1.0 if self.tree.right_eye else -1.0  # the seam of the angle is nasal, where there is little to see
        angle = np.arctan2(y - self.tree.disc[1], side * (self.tree.disc[0] - x))
        noise = _sample(self.fibres, 0.5 * angle, 0.02 * to_disc)
        away = np.exp(-(((to_disc - 2.6) / 2.4) ** 2)) * (1 - np.exp(-((to_fovea / 0.45) ** 2)))
        return away * (0.6 + 0.4 * noise)


class _Window:
    """The part of the eye that a camera sees, as a drawing board of its own resolution."""

    def __init__(self, x: Plane, y: Plane) -> None:
        step = math.sqrt(abs(float(_area(x, y))))
        margin = 4 * step
        self.origin = np.array([float(x.min()), float(y.min())]) - margin
        extent = np.array([float(x.max()), float(y.max())]) + margin - self.origin
        self.density = min(_DENSITY / step, _MAX_SIDE / float(extent.max()))
        self.shape = tuple(math.ceil(v * self.density) for v in extent[::-1])
        # A drawing pixel's centre is at an integer, like every pixel's.
        self.x = np.ascontiguousarray((x - np.float32(self.origin[0])) * np.float32(self.density))
        self.y = np.ascontiguousarray((y - np.float32(self.origin[1])) * np.float32(self.density))

    def _pixels(self, points: NDArray[np.float64]) -> NDArray[np.int64]:
        return np.round((points - self.origin) * self.density * 2**_SUBPIXEL).astype(np.int64)

    def _finish(self, image: NDArray[np.uint8], sigma: float) -> Plane:
        import cv2

        soft: Any = cv2.GaussianBlur(image, (0, 0), sigma) if sigma > 0.2 else image
        return np.asarray(cv2.remap(soft, self.x, self.y, cv2.INTER_LINEAR), np.float32) / np.float32(255)

    def vessels(self, branches: list[Branch], share: float = 1.0) -> Plane:
        """Coverage 0 ... 1 of the given vessels, drawn at ``share`` of their width."""
        import cv2

        image = np.zeros(self.shape, np.uint8)
        upper = np.array(self.shape[::-1]) + 20
        for branch in branches:
            at = (branch.points - self.origin) * self.density
            if (at.max(0) < -20).any() or (at.min(0) > upper).any():
                continue
            points = np.round(at * 2**_SUBPIXEL).astype(np.int32)
            widths = branch.widths * (self.density * share)
            thickness = np.maximum(1, np.round(widths)).astype(int)
            strength = np.minimum(255, np.round(255 * np.minimum(1, widths))).astype(int)
            cuts = np.nonzero((np.diff(thickness) != 0) | (np.abs(np.diff(strength // 24)) > 0))[0] + 1
            for first, last in zip([0, *cuts], [*cuts, len(points)], strict=True):
                piece = points[first : last + 1]
                cv2.polylines(
                    image, [piece], False, int(strength[first]), int(thickness[first]), cv2.LINE_AA, _SUBPIXEL
                )
        return self._finish(image, 0.45 * _DENSITY)

    def spots(self, lesions: list[Lesion], rough: Plane) -> Plane:
        """Coverage 0 ... 1 of lesions of one kind, with a rough outline."""
        import cv2

        if not lesions:
            return np.zeros(self.x.shape, np.float32)
        image = np.zeros(self.shape, np.uint8)
        for spot in lesions:
            axes = np.maximum(1, np.round(np.array(spot.radii) * self.density * 2**_SUBPIXEL)).astype(int).tolist()
            centre = self._pixels(np.array(spot.centre)).tolist()
            if max(abs(v) for v in centre) > 2**30:
                continue
            level = int(255 * spot.strength)
            cv2.ellipse(image, centre, axes, spot.angle_deg, 0, 360, level, -1, cv2.LINE_AA, _SUBPIXEL)
        softness = lesions[0].softness * self.density
        layer = self._finish(image, max(0.5, softness))
        return np.clip(layer * (1 + 0.35 * rough), 0, 1)

    def leak(self, lesions: tuple[Lesion, ...]) -> Plane:
        """Fluid that has left the vessels: a wide soft glow about the leaking lesions."""
        import cv2

        image = np.zeros([max(8, s // 4) for s in self.shape], np.float32)
        for spot in lesions:
            if spot.leak:
                centre = np.round((np.array(spot.centre) - self.origin) * self.density / 4).astype(int).tolist()
                if max(abs(v) for v in centre) < 20000:
                    cv2.circle(image, centre, max(1, round(spot.leak * self.density / 4)), 1.0, -1)
        soft = cv2.GaussianBlur(image, (0, 0), max(0.6, 0.012 * self.density / 4))
        return np.asarray(cv2.remap(soft, (self.x - 1.5) / 4, (self.y - 1.5) / 4, cv2.INTER_LINEAR), np.float32)


def _area(x: Plane, y: Plane) -> float:
    """Area, in square eye units, of the middle pixel."""
    i, j = x.shape[0] // 2, x.shape[1] // 2
    du = (float(x[i, j]) - float(x[i, j - 1]), float(y[i, j]) - float(y[i, j - 1]))
    dv = (float(x[i, j]) - float(x[i - 1, j]), float(y[i, j]) - float(y[i - 1, j]))
    return du[0] * dv[1] - du[1] * dv[0]


def _soft_step(distance: NDArray[Any], softness: float) -> Plane:
    return np.asarray(1 / (1 + np.exp(-np.clip(distance / softness * 4, -40, 40))), dtype=np.float32)


def _noise(rng: np.random.Generator, cell: float, scales: tuple[float, ...]) -> Plane:
    """Smooth noise of unit deviation on a grid of ``cell`` eye units: the sum of several grain sizes."""
    import cv2

    side = math.ceil(2 * EXTENT / cell)
    total = np.zeros((side, side), np.float32)
    for scale in scales:
        cells = max(4, round(2 * EXTENT / scale))
        grain = rng.standard_normal((cells, cells), dtype=np.float32)
        total += cv2.resize(grain, (side, side), interpolation=cv2.INTER_CUBIC)
    return np.asarray((total - total.mean()) / total.std(), dtype=np.float32)


def _mesh(rng: np.random.Generator) -> Plane:
    """The capillary network, 0 ... 1: lines where smooth noise is zero, loops of some 80 micrometres."""
    import cv2

    side = math.ceil(2 * _MESH_EXTENT / 0.002)
    grain = cv2.GaussianBlur(rng.standard_normal((side, side), dtype=np.float32), (0, 0), 1.4)
    grain /= grain.std()
    return np.exp(-((grain / 0.42) ** 2)).astype(np.float32)


def _choroid(rng: np.random.Generator) -> Plane:
    """Broad blurred vessels of the choroid: zero lines of smooth noise, twice."""
    fields = [_noise(rng, 0.02, scales) for scales in ((0.22, 0.11), (0.16, 0.09))]
    ridges = sum(np.exp(-((field / 0.28) ** 2)) for field in fields)
    return np.asarray((ridges - np.mean(ridges)) / np.std(ridges), dtype=np.float32)


def _sample(grid: Plane, x: Plane, y: Plane, extent: float = EXTENT) -> Plane:
    """A grid from ``-extent`` to ``extent``, mirrored beyond, at positions in eye units."""
    import cv2

    per_unit = np.float32(grid.shape[0] / (2 * extent))
    at = [(v + np.float32(extent)) * per_unit - np.float32(0.5) for v in (x, y)]
    return np.asarray(cv2.remap(grid, at[0], at[1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT), np.float32)
