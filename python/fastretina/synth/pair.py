"""Two pictures of one synthetic eye, and the true transform between them."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastretina.config import nearest
from fastretina.errors import InvalidInput
from fastretina.synth.render import CAMERAS, field_of_view, paint
from fastretina.synth.tree import vessel_tree
from fastretina.transform import Transform


class _Difficulty(NamedTuple):
    rotation_deg: tuple[float, float]  # size of the turn; its sign is drawn
    scale: tuple[float, float]
    shift: float  # of the frame
    perspective: float  # relative change of scale from the centre to the border
    noise: float  # of the camera, 1 = a good one


DIFFICULTIES = {
    "easy": _Difficulty((0, 3), (0.98, 1.02), 0.03, 0.0, 0.7),
    "moderate": _Difficulty((5, 10), (1.02, 1.08), 0.06, 0.01, 1.0),
    "hard": _Difficulty((15, 25), (1.15, 1.30), 0.12, 0.02, 2.0),
}


class SyntheticPair(NamedTuple):
    """``transform`` maps MOVING to FIXED exactly; ``visible`` marks the MOVING pixels that both cameras see."""

    fixed: NDArray[np.uint8]  # (H, W, 3) for CF, (H, W) else
    moving: NDArray[np.uint8]
    transform: Transform
    visible: NDArray[np.bool_]

    def mean_error(self, candidate: Transform) -> float:
        """Mean distance (px of FIXED) between where a candidate and the truth put the visible pixels of MOVING."""
        y, x = np.nonzero(self.visible)
        points = np.stack([x, y], axis=1)[:: max(1, len(x) // 10000)].astype(np.float64)
        return float(np.linalg.norm(candidate(points) - self.transform(points), axis=1).mean())


def synthetic_pair(
    seed: int = 0,
    size: tuple[int, int] = (768, 768),
    modalities: tuple[str, str] = ("CF", "FA"),
    difficulty: str = "moderate",
) -> SyntheticPair:
    """One eye seen by two cameras.

    ``size``: (width, height) of both pictures, each side at least 64 px. ``modalities`` of FIXED and MOVING: CF
    (colour), FA (angiography) or IR. ``difficulty``: easy, moderate or hard. The same arguments give the same pixels.
    """
    _check(size, modalities, difficulty)
    level = DIFFICULTIES[difficulty]
    rng = np.random.default_rng([seed, 1])
    width, height = size
    tree = vessel_tree(seed)
    unit = 0.485 * min(width, height)  # px to an eye unit: the field of the colour camera is 45 degrees
    canvas = paint(tree, 1.6 * unit, rng)
    truth = _geometry(size, level, rng)
    centre = ((0.22 if tree.right_eye else -0.22), 0.0)  # cameras look between fovea and disc

    grid = np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=-1).astype(np.float64)
    in_fixed = truth(grid.reshape(-1, 2)).reshape(grid.shape)
    pictures, apertures = [], []
    for modality, at in zip(modalities, (grid, in_fixed), strict=True):
        layers = canvas.look((at - [(width - 1) / 2, (height - 1) / 2]) / unit + centre)
        aperture, shading = field_of_view(height, width, modality, rng)
        picture = CAMERAS[modality](layers, rng, level.noise)
        shape = (height, width, 1) if picture.ndim == 3 else (height, width)
        picture = picture * (aperture * shading).reshape(shape)
        pictures.append(np.clip(np.rint(picture * 255), 0, 255).astype(np.uint8))
        apertures.append(aperture > 0.5)
    visible = apertures[1] & _at(apertures[0], in_fixed)
    return SyntheticPair(pictures[0], pictures[1], truth, visible)


def _check(size: tuple[int, int], modalities: tuple[str, str], difficulty: str) -> None:
    if len(size) != 2 or not all(isinstance(s, (int, np.integer)) and 64 <= s <= 8192 for s in size):
        raise InvalidInput(f"size: got {size!r}; allowed: (width, height), each 64 ... 8192 px")
    for modality in modalities:
        if modality not in CAMERAS:
            raise InvalidInput(f"modalities: got {modality!r}; {nearest(modality, list(CAMERAS))}")
    if difficulty not in DIFFICULTIES:
        raise InvalidInput(f"difficulty: got {difficulty!r}; {nearest(difficulty, list(DIFFICULTIES))}")


def _geometry(size: tuple[int, int], level: _Difficulty, rng: np.random.Generator) -> Transform:
    """A homography about the middle of the frame."""
    width, height = size
    angle = math.radians(rng.uniform(*level.rotation_deg)) * rng.choice([-1.0, 1.0])
    scale = rng.uniform(*level.scale)
    dx, dy = rng.uniform(-level.shift, level.shift, 2) * (width, height)
    c, s = scale * math.cos(angle), scale * math.sin(angle)
    px, py = rng.uniform(-level.perspective, level.perspective, 2) / (width / 2, height / 2)
    middle = Transform.from_matrix([[1, 0, (width - 1) / 2], [0, 1, (height - 1) / 2]])
    return middle @ Transform.from_matrix([[c, -s, dx], [s, c, dy], [px, py, 1]], "homography") @ middle.inverse


def _at(mask: NDArray[np.bool_], xy: NDArray[np.float64]) -> NDArray[np.bool_]:
    height, width = mask.shape
    x, y = np.rint(xy[..., 0]).astype(int), np.rint(xy[..., 1]).astype(int)
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    return np.asarray(inside & mask[np.clip(y, 0, height - 1), np.clip(x, 0, width - 1)])
