"""Two pictures of one synthetic eye, and the true map between them."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastretina.config import nearest
from fastretina.errors import InvalidInput
from fastretina.synth import geometry as maps
from fastretina.synth.cameras import CAMERAS, Camera, aperture, photograph
from fastretina.synth.eye import Eye
from fastretina.synth.tree import DEG_PER_UNIT
from fastretina.transform import Transform

Floats = NDArray[np.float64]


class _Difficulty(NamedTuple):
    rotation_deg: tuple[float, float]  # size of the turn; its sign is drawn
    scale: tuple[float, float]
    shift: float  # of the frame
    perspective: float  # relative change of scale from the centre to the border
    noise: float  # of the camera, 1 = a usual one
    fields: bool  # each camera has a field of view of its own


HEALTH = ("any", "healthy", "diseased", "later")
DIFFICULTIES = {
    "easy": _Difficulty((0, 3), (0.98, 1.02), 0.03, 0.0, 0.7, False),
    "moderate": _Difficulty((5, 10), (1.02, 1.08), 0.06, 0.01, 1.0, True),
    "hard": _Difficulty((15, 25), (1.15, 1.30), 0.12, 0.02, 2.0, True),
}


class SyntheticPair(NamedTuple):
    """``truth`` maps MOVING (N, 2) to FIXED (N, 2) exactly; ``visible`` marks the MOVING pixels that both see."""

    fixed: NDArray[np.uint8]  # (H, W, 3) for CF, (H, W) else
    moving: NDArray[np.uint8]
    truth: Transform | maps.LocalWarp
    visible: NDArray[np.bool_]

    @property
    def transform(self) -> Transform:
        """The truth, where it is of one of Transform's kinds; ``InvalidInput`` for a local deformation."""
        if not isinstance(self.truth, Transform):
            raise InvalidInput("transform: a local deformation has none; use truth, a callable on points")
        return self.truth

    def mean_error(self, candidate: Callable[[Floats], Floats]) -> float:
        """Mean distance (px of FIXED) between where a candidate and the truth put the visible pixels of MOVING."""
        y, x = np.nonzero(self.visible)
        points = np.stack([x, y], axis=1)[:: max(1, len(x) // 10000)].astype(np.float64)
        return float(np.linalg.norm(candidate(points) - self.truth(points), axis=1).mean())


def synthetic_pair(
    seed: int = 0,
    size: tuple[int, int] = (768, 768),
    modalities: tuple[str, str] = ("CF", "FA"),
    difficulty: str = "moderate",
    geometry: str = "homography",
    health: str = "any",
) -> SyntheticPair:
    """One eye seen by two cameras.

    ``size``: (width, height) of both pictures, each side at least 64 px. ``modalities`` of FIXED and MOVING: CF, RF,
    FA, ICGA, IR, FAF, OCT or OCTA, each with its own field of view (the same for both if ``difficulty`` is easy).
    ``difficulty``: easy, moderate or hard. ``geometry``: homography; quadratic, with corners 8 to 20 px (of a 640-px
    frame) beyond the best homography; or local, a similarity and a smooth field of 6 px at its peak. ``health``: any
    (drawn), healthy, diseased, or later: diseased, and MOVING taken at a later visit, when lesions have changed, gone
    and come. The same arguments give the same pixels.
    """
    _check(size, modalities, difficulty, geometry, health)
    level = DIFFICULTIES[difficulty]
    rng = np.random.default_rng([seed, 1])
    eye = Eye(seed, None if health == "any" else health != "healthy")
    visits = (eye, eye.later() if health == "later" else eye)
    cameras = [CAMERAS[m] for m in modalities]
    fields = [float(rng.choice(c.fields_deg)) for c in cameras]
    if not level.fields:
        fields = [min(fields)] * 2
    units = [0.97 * min(size) * DEG_PER_UNIT / field for field in fields]  # px to an eye unit
    centre = _centre(eye, cameras, rng)
    truth = _truth(size, level, geometry, units[0] / units[1], rng)

    width, height = size
    grid = np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=-1).astype(np.float64)
    in_fixed = truth(grid.reshape(-1, 2)).reshape(grid.shape)
    pictures, apertures = [], []
    for seen_eye, camera, at, unit in zip(visits, cameras, (grid, in_fixed), units, strict=True):
        layers = seen_eye.look((at - [(width - 1) / 2, (height - 1) / 2]) / units[0] + centre)
        picture = photograph(camera, layers, eye.pigment, DEG_PER_UNIT / unit, level.noise, rng)
        seen = aperture(height, width, camera, rng)
        picture = picture * seen.reshape(seen.shape + (1,) * (picture.ndim - 2))
        pictures.append(np.clip(np.rint(picture * 255), 0, 255).astype(np.uint8))
        apertures.append(seen > 0.5)
    visible = apertures[1] & _at(apertures[0], in_fixed)
    return SyntheticPair(pictures[0], pictures[1], truth, visible)


def _check(size: tuple[int, int], modalities: tuple[str, str], difficulty: str, geometry: str, health: str) -> None:
    if len(size) != 2 or not all(isinstance(s, (int, np.integer)) and 64 <= s <= 8192 for s in size):
        raise InvalidInput(f"size: got {size!r}; allowed: (width, height), each 64 ... 8192 px")
    if len(modalities) != 2:
        raise InvalidInput(f"modalities: got {modalities!r}; allowed: two, of FIXED and MOVING")
    for modality in modalities:
        if modality not in CAMERAS:
            raise InvalidInput(f"modalities: got {modality!r}; {nearest(modality, list(CAMERAS))}")
    if difficulty not in DIFFICULTIES:
        raise InvalidInput(f"difficulty: got {difficulty!r}; {nearest(difficulty, list(DIFFICULTIES))}")
    if geometry not in maps.GEOMETRIES:
        raise InvalidInput(f"geometry: got {geometry!r}; {nearest(geometry, list(maps.GEOMETRIES))}")
    if health not in HEALTH:
        raise InvalidInput(f"health: got {health!r}; {nearest(health, list(HEALTH))}")


def _centre(eye: Eye, cameras: list[Camera], rng: np.random.Generator) -> Floats:
    """Where FIXED looks: at the fovea with OCT, else between fovea and disc."""
    side = 1.0 if eye.tree.right_eye else -1.0
    toward_disc = 0.04 if any(c.at_fovea for c in cameras) else rng.uniform(0.1, 0.4)
    return np.array([side * toward_disc, rng.normal(0, 0.03)])


def _truth(
    size: tuple[int, int], level: _Difficulty, geometry: str, scale: float, rng: np.random.Generator
) -> Transform | maps.LocalWarp:
    """A map of MOVING, of which a px is ``scale`` px of FIXED, to FIXED."""
    angle = rng.uniform(*level.rotation_deg) * rng.choice([-1.0, 1.0])
    scale *= rng.uniform(*level.scale)
    shift = rng.uniform(-level.shift, level.shift, 2) * size * min(1.0, scale)
    tilt = rng.uniform(-level.perspective, level.perspective, 2)
    if geometry == "quadratic":
        return maps.quadratic(maps.similarity(size, scale, angle, shift, np.zeros(2)), size, rng)
    base = maps.similarity(size, scale, angle, shift, tilt)
    return maps.local(base, size, rng) if geometry == "local" else base


def _at(mask: NDArray[np.bool_], xy: Floats) -> NDArray[np.bool_]:
    height, width = mask.shape
    x, y = np.rint(xy[..., 0]).astype(int), np.rint(xy[..., 1]).astype(int)
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    return np.asarray(inside & mask[np.clip(y, 0, height - 1), np.clip(x, 0, width - 1)])
