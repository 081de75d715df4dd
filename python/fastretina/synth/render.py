"""How cameras of different modality see one eye.

The eye is drawn once as layers (vessels, disc, textures) on a fine canvas; a view resamples the layers through its own
geometry and only then becomes a picture, so that noise, vignetting and the field of view belong to the camera.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastretina.synth.tree import EXTENT, VesselTree

Plane = NDArray[np.float32]
Layers = dict[str, Plane]

_SUBPIXEL = 4  # bits, of the line drawing


@dataclass(frozen=True)
class Canvas:
    """The layers of one eye; ``pixels_per_unit`` of them to an eye unit, the fovea in the middle."""

    layers: Layers
    pixels_per_unit: float

    def look(self, eye_xy: NDArray[np.float64]) -> Layers:
        """The layers at positions (H, W, 2) in eye units."""
        import cv2

        maps = ((eye_xy + EXTENT) * self.pixels_per_unit).astype(np.float32)
        x, y = np.ascontiguousarray(maps[..., 0]), np.ascontiguousarray(maps[..., 1])
        return {
            name: cv2.remap(layer, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE).astype(np.float32)
            for name, layer in self.layers.items()
        }


def paint(tree: VesselTree, pixels_per_unit: float, rng: np.random.Generator) -> Canvas:
    """Draw the layers of an eye."""
    side = math.ceil(2 * EXTENT * pixels_per_unit)
    coordinates = np.arange(side, dtype=np.float32) / pixels_per_unit - EXTENT
    x, y = coordinates[None, :], coordinates[:, None]
    to_disc = np.hypot((x - tree.disc[0]) / 0.92, y - tree.disc[1]) / tree.disc_radius
    to_fovea = np.hypot(x, y)
    layers: Layers = {
        "artery": _vessels(tree, side, pixels_per_unit, True, 1.0),
        "vein": _vessels(tree, side, pixels_per_unit, False, 1.0),
        "reflex": _vessels(tree, side, pixels_per_unit, True, 0.3),
        "disc": _soft_step(1 - to_disc, 0.16),
        "cup": _soft_step(0.48 - to_disc, 0.30),
        "macula": np.exp(-((to_fovea / 0.20) ** 2)).astype(np.float32),
        "fovea": np.exp(-((to_fovea / (1.2 * tree.fovea_radius)) ** 2)).astype(np.float32),
        "choroid": _choroid(side, rng),
        "mottle": _noise(side, (0.012, 0.03, 0.08), rng),
        "drift": _noise(side, (0.35, 0.8), rng),
        "spots": _spots(tree, side, pixels_per_unit, rng, 25, (0.006, 0.014)),
        "dots": _spots(tree, side, pixels_per_unit, rng, 40, (0.004, 0.007)),
    }
    return Canvas(
        {name: np.ascontiguousarray(np.broadcast_to(v, (side, side))) for name, v in layers.items()}, pixels_per_unit
    )


def colour_fundus(layers: Layers, rng: np.random.Generator, noise: float) -> NDArray[np.float64]:
    """Reflected white light: blood absorbs green and blue, the disc is pale, the macula dark."""
    artery, vein, disc = layers["artery"], layers["vein"], layers["disc"]
    melanin = 0.06 * layers["drift"] + 0.03 * layers["choroid"] + 0.022 * layers["mottle"]
    tint = rng.uniform(0.94, 1.06, 3)
    planes = []
    for base, blood, pale, dark, texture in (
        (0.68 * tint[0], 0.20, 0.96, 0.22, 0.9),
        (0.36 * tint[1], 0.50, 0.74, 0.36, 1.2),
        (0.17 * tint[2], 0.34, 0.42, 0.34, 1.0),
    ):
        plane = base * (1 + texture * melanin) * (1 - dark * layers["macula"]) * (1 - 0.25 * dark * layers["fovea"])
        plane = plane * (1 - disc) + pale * (0.80 + 0.20 * layers["cup"]) * disc
        plane = plane * (1 + 0.35 * layers["spots"])  # drusen
        plane = plane * (1 - 1.1 * blood * layers["dots"])  # microaneurysms
        plane = plane * (1 - 0.78 * blood * artery) * (1 - blood * vein) * (1 + 0.16 * layers["reflex"])
        planes.append(plane)
    return _sensor(np.stack(planes, axis=-1), rng, sigma=0.9, noise=0.010 * noise)


def angiography(layers: Layers, rng: np.random.Generator, noise: float) -> NDArray[np.float64]:
    """Fluorescein: blood shines before a mottled glow of the choroid, the macula hides it, the disc rim stains."""
    blood = np.maximum(rng.uniform(0.85, 1.0) * layers["artery"], layers["vein"])
    glow = 0.20 * (1 + 0.22 * layers["drift"] + 0.10 * layers["mottle"] + 0.10 * layers["choroid"])
    plane = glow * (1 - 0.60 * layers["macula"]) * (1 - 0.35 * layers["fovea"])
    plane = plane * (1 - 0.2 * layers["disc"]) + 0.12 * layers["disc"] * (1 - layers["cup"])
    plane = plane + 0.30 * layers["dots"] + 0.05 * layers["spots"]  # microaneurysms shine, drusen hardly
    plane = plane + (0.80 - plane) * 0.88 * blood
    return _sensor(plane, rng, sigma=1.0, noise=0.022 * noise)


def infrared(layers: Layers, rng: np.random.Generator, noise: float) -> NDArray[np.float64]:
    """A scanning laser at 820 nm: gray, little absorption by blood, much by nothing; choroid shows through."""
    plane = 0.48 * (1 + 0.10 * layers["drift"] + 0.14 * layers["choroid"] + 0.06 * layers["mottle"])
    plane = plane * (1 - 0.10 * layers["macula"]) * (1 - 0.12 * layers["disc"]) * (1 + 0.3 * layers["cup"])
    plane = plane * (1 - 0.34 * layers["artery"]) * (1 - 0.42 * layers["vein"]) * (1 + 0.22 * layers["reflex"])
    return _sensor(plane, rng, sigma=0.8, noise=0.035 * noise)


CAMERAS: dict[str, Callable[[Layers, np.random.Generator, float], NDArray[np.float64]]] = {
    "CF": colour_fundus,
    "FA": angiography,
    "IR": infrared,
}


def field_of_view(height: int, width: int, modality: str, rng: np.random.Generator) -> tuple[Plane, Plane]:
    """(aperture, shading) of a camera: where it sees anything, and how its light falls off."""
    radius = {"CF": 0.485, "FA": 0.56}.get(modality, 1.0) * min(height, width)
    y, x = np.mgrid[:height, :width].astype(np.float32)
    distance = np.hypot(x - (width - 1) / 2, y - (height - 1) / 2)
    aperture = np.clip(radius - distance + 0.5, 0, 1).astype(np.float32)
    cx, cy = rng.uniform(0.4, 0.6, 2) * (width, height)
    off = np.hypot(x - cx, y - cy) / (0.5 * min(height, width))
    shading = 1.06 - rng.uniform(0.14, 0.26) * off**2
    return aperture, np.clip(shading, 0.3, 1.2).astype(np.float32)


def _sensor(plane: NDArray[Any], rng: np.random.Generator, sigma: float, noise: float) -> NDArray[np.float64]:
    """Optics blur, then shot and read noise with a grain of about a pixel."""
    import cv2

    blurred = np.asarray(cv2.GaussianBlur(plane.astype(np.float32), (0, 0), sigma), dtype=np.float64)
    white = rng.standard_normal(blurred.shape, dtype=np.float32)
    grain = np.asarray(cv2.GaussianBlur(white, (0, 0), 0.6)) * 1.6
    return blurred + noise * grain * np.sqrt(0.3 + np.clip(blurred, 0, 1))


def _vessels(tree: VesselTree, side: int, pixels_per_unit: float, artery: bool, share: float) -> Plane:
    """Coverage 0 ... 1 of the vessels of one kind, drawn at ``share`` of their width."""
    import cv2

    image = np.zeros((side, side), np.uint8)
    for branch in tree.branches:
        if branch.artery != artery:
            continue
        points = np.round((branch.points + EXTENT) * pixels_per_unit * 2**_SUBPIXEL).astype(int).tolist()
        widths = branch.widths * pixels_per_unit * share
        if share < 1 and widths.max() < 1.2:
            continue
        for a, b, width in zip(points, points[1:], widths, strict=False):
            strength = min(1.0, float(width) / 2)  # what is thinner than the grid is fainter
            cv2.line(image, a, b, round(255 * strength), max(1, round(float(width))), cv2.LINE_AA, _SUBPIXEL)
    soft: Any = cv2.GaussianBlur(image, (0, 0), max(0.6, 0.0016 * pixels_per_unit))
    return np.asarray(soft / np.float32(255), dtype=np.float32)


def _soft_step(distance: NDArray[Any], softness: float) -> Plane:
    return np.asarray(1 / (1 + np.exp(-np.clip(distance / softness * 4, -40, 40))), dtype=np.float32)


def _noise(side: int, scales: tuple[float, ...], rng: np.random.Generator) -> Plane:
    """Smooth noise of unit deviation: the sum of several grain sizes (eye units)."""
    import cv2

    total = np.zeros((side, side), np.float32)
    for scale in scales:
        cells = max(4, round(2 * EXTENT / scale))
        grain = rng.standard_normal((cells, cells)).astype(np.float32)
        total += cv2.resize(grain, (side, side), interpolation=cv2.INTER_CUBIC)
    return np.asarray((total - total.mean()) / total.std(), dtype=np.float32)


def _choroid(side: int, rng: np.random.Generator) -> Plane:
    """Broad blurred vessels of the choroid: zero lines of smooth noise, twice."""
    fields = [_noise(side, scales, rng) for scales in ((0.22, 0.11), (0.16, 0.09))]
    ridges = sum(np.exp(-((field / 0.28) ** 2)) for field in fields)
    return np.asarray((ridges - np.mean(ridges)) / np.std(ridges), dtype=np.float32)


def _spots(
    tree: VesselTree,
    side: int,
    pixels_per_unit: float,
    rng: np.random.Generator,
    count: int,
    radii: tuple[float, float],
) -> Plane:
    """Round blobs around the macula, coverage 0 ... 1."""
    import cv2

    image = np.zeros((side, side), np.uint8)
    for _ in range(count):
        x, y = rng.normal(0, 0.35, 2)
        if math.hypot(x - tree.disc[0], y - tree.disc[1]) < 1.3 * tree.disc_radius:
            continue
        centre = np.round((np.clip((x, y), -1, 1) + EXTENT) * pixels_per_unit * 2**_SUBPIXEL).astype(int).tolist()
        radius = round(rng.uniform(*radii) * pixels_per_unit * 2**_SUBPIXEL)
        cv2.circle(image, centre, radius, int(rng.integers(90, 255)), -1, cv2.LINE_AA, _SUBPIXEL)
    soft: Any = cv2.GaussianBlur(image, (0, 0), 0.003 * pixels_per_unit)
    return np.asarray(soft / np.float32(255), dtype=np.float32)
