"""Pairs with known transforms: where they come from, and how they are made harder.

A folder of pairs holds its images and ``pairs.json``: ``{"pairs": [{"id", "group", "fixed", "moving", ...}]}`` with,
each mapping MOVING to FIXED px, ``H_refined`` or ``H_author`` (3 x 3), or ``landmarks_moving`` and ``landmarks_fixed``
(N x 2). Pairs of one ``group`` are of one eye; ``"quality": "exclude"`` leaves a pair out.
"""

from __future__ import annotations

import json
import math
import os
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastretina.errors import InvalidInput
from fastretina.io import read_image
from fastretina.resample import resample
from fastretina.transform import Transform
from fastretina.transform_math import Floats

PERTURBATIONS = "none, mirror, rot<degrees>, scale<factor>, crop<share>"

_GRID = 25  # points along each side of MOVING at which the error is measured
_MIN_POINTS = 6


@dataclass(frozen=True)
class Pair:
    """Two images of one eye, and what is known of the transform between them."""

    id: str
    group: str
    modalities: str  # of FIXED and MOVING, such as "CF>FA"
    fixed: Path
    moving: Path
    truth: Transform | None
    landmarks_fixed: Floats  # (N, 2), maybe empty
    landmarks_moving: Floats

    def read(self) -> tuple[NDArray[Any], NDArray[Any]]:
        """FIXED and MOVING."""
        return read_image(self.fixed), read_image(self.moving)


@dataclass(frozen=True)
class Target:
    """Where points of a (perturbed) MOVING image belong in FIXED."""

    moving: Floats  # (N, 2)
    fixed: Floats
    truth: Transform | None  # None if only landmarks are known


def load_pairs(folder: str | os.PathLike[str]) -> list[Pair]:
    """The pairs of a folder. InvalidInput names what is missing or malformed."""
    root = Path(folder)
    listing = root / "pairs.json"
    try:
        entries = json.loads(listing.read_text(encoding="utf-8"))["pairs"]
        return [_pair(root, entry) for entry in entries if entry.get("quality") != "exclude"]
    except OSError as error:
        raise InvalidInput(f"{listing}: cannot be read ({error.strerror}); a folder of pairs needs it") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InvalidInput(f"{listing}: malformed ({type(error).__name__}: {error})") from error


def _pair(root: Path, entry: dict[str, Any]) -> Pair:
    matrix = entry.get("H_refined") or entry.get("H_author")
    fixed, moving = (np.array(entry.get(f"landmarks_{k}") or [], float).reshape(-1, 2) for k in ("fixed", "moving"))
    if matrix is None and (len(fixed) < _MIN_POINTS or len(fixed) != len(moving)):
        raise InvalidInput(f"{root}: pair {entry['id']!r} has neither a matrix nor {_MIN_POINTS} landmark pairs")
    return Pair(
        id=str(entry["id"]),
        group=str(entry.get("group", entry["id"])),
        modalities=f"{entry.get('modality_fixed', '?')}>{entry.get('modality_moving', '?')}",
        fixed=root / entry["fixed"],
        moving=root / entry["moving"],
        truth=None if matrix is None else Transform.from_matrix(matrix),
        landmarks_fixed=fixed,
        landmarks_moving=moving,
    )


def target(pair: Pair, fixed: NDArray[Any], moving: NDArray[Any], change: Transform) -> Target | None:
    """Where the error of a pair is measured, ``moving`` being MOVING after ``change``; None if too little is in common.

    On a grid over MOVING, where both images show something; on the landmarks, where only these are known.
    """
    if pair.truth is None:
        source, goal, truth = change(pair.landmarks_moving), pair.landmarks_fixed, None
        keep = _inside(source, moving)
    else:
        truth = pair.truth @ change.inverse
        width, height = moving.shape[1], moving.shape[0]
        axes = (np.linspace(0, width - 1, _GRID), np.linspace(0, height - 1, _GRID))
        source = np.stack(np.meshgrid(*axes), axis=-1).reshape(-1, 2)
        goal = truth(source)
        keep = _inside(goal, fixed)
        keep[keep] &= _at(_content(fixed), goal[keep])
        keep &= _at(_content(moving), source)
    return Target(source[keep], goal[keep], truth) if keep.sum() >= _MIN_POINTS else None


def perturb(image: NDArray[Any], kind: str, name: str, keep: Floats | None = None) -> tuple[NDArray[Any], Transform]:
    """A harder MOVING image and the transform from the old pixels to the new; the same for the same ``name``.

    ``kind``: none, mirror, rot30 (up to 30 degrees; rot180: 120 to 180), scale1.5 (or its inverse), crop0.5
    (half of each side). ``keep``: points (N, 2) of which a crop should hold many.
    """
    rng = np.random.default_rng(zlib.crc32(f"{kind}:{name}".encode()))
    height, width = image.shape[:2]
    if kind == "none":
        return image, Transform.identity()
    if kind == "mirror":
        return np.ascontiguousarray(image[:, ::-1]), Transform.from_matrix([[-1, 0, width - 1], [0, 1, 0]])
    for prefix, change in (("rot", _rotated), ("scale", _scaled)):
        if (amount := _amount(kind, prefix)) is not None:
            return change(image, amount, rng)
    if (share := _amount(kind, "crop")) is not None and share < 1:
        h, w = int(height * share), int(width * share)
        corners = rng.integers(0, [width - w + 1, height - h + 1], (8, 2))
        far = corners + np.array([w, h])
        inside = [
            keep is not None and ((keep >= c) & (keep < f)).all(axis=1) for c, f in zip(corners, far, strict=True)
        ]
        held = [int(np.sum(i)) for i in inside]
        x, y = (int(v) for v in corners[int(np.argmax(held))])
        cropped = np.ascontiguousarray(image[y : y + h, x : x + w])
        return cropped, Transform.from_matrix([[1, 0, -x], [0, 1, -y]])
    raise InvalidInput(f"perturb: got {kind!r}; allowed: {PERTURBATIONS}")


def _amount(kind: str, prefix: str) -> float | None:
    try:
        amount = float(kind.removeprefix(prefix)) if kind.startswith(prefix) else 0.0
    except ValueError:
        return None
    return amount if 0 < amount < 1000 else None


def _rotated(image: NDArray[Any], limit: float, rng: np.random.Generator) -> tuple[NDArray[Any], Transform]:
    """About the centre, on a frame that holds every corner."""
    degrees = rng.uniform(0.8 * limit, limit) if limit < 180 else rng.uniform(120, 180)
    angle = math.radians(float(degrees) * float(rng.choice([-1, 1])))
    c, s = math.cos(angle), math.sin(angle)
    height, width = image.shape[:2]
    new_width, new_height = math.ceil(abs(c) * width + abs(s) * height), math.ceil(abs(s) * width + abs(c) * height)
    to_middle = Transform.from_matrix([[1, 0, -(width - 1) / 2], [0, 1, -(height - 1) / 2]])
    from_middle = Transform.from_matrix([[1, 0, (new_width - 1) / 2], [0, 1, (new_height - 1) / 2]])
    change = from_middle @ Transform.from_matrix([[c, s, 0], [-s, c, 0]], "similarity") @ to_middle
    return resample(image, change, (new_width, new_height))[0], change


def _scaled(image: NDArray[Any], factor: float, rng: np.random.Generator) -> tuple[NDArray[Any], Transform]:
    import cv2

    factor = factor ** float(rng.choice([-1, 1]))
    height, width = image.shape[:2]
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    scaled = cv2.resize(image, size, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR)
    sx, sy = size[0] / width, size[1] / height  # pixel centres: x' = (x + 1/2) s - 1/2
    return scaled, Transform.from_matrix([[sx, 0, 0.5 * sx - 0.5], [0, sy, 0.5 * sy - 0.5]])


def _content(image: NDArray[Any]) -> NDArray[np.bool_]:
    """Where an image shows something: neither dark nor flat."""
    import cv2

    gray = image.max(axis=2) if image.ndim == 3 else image
    full = {"uint8": 1.0, "uint16": 1 / 257}.get(gray.dtype.name, 255.0)
    plane = gray.astype(np.float32) * np.float32(full)
    mean, square = cv2.blur(plane, (21, 21)), cv2.blur(plane * plane, (21, 21))
    return np.asarray((cv2.dilate(plane, np.ones((9, 9), np.uint8)) > 12) & (square - mean * mean > 1))


def _inside(xy: Floats, image: NDArray[Any]) -> NDArray[np.bool_]:
    with np.errstate(invalid="ignore"):
        return np.asarray(((xy >= 0) & (xy <= [image.shape[1] - 1, image.shape[0] - 1])).all(axis=1))


def _at(mask: NDArray[np.bool_], xy: Floats) -> NDArray[np.bool_]:
    x, y = np.rint(xy).astype(int).T
    return np.asarray(mask[np.clip(y, 0, mask.shape[0] - 1), np.clip(x, 0, mask.shape[1] - 1)])
