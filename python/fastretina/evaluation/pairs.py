"""Pairs with known transforms: where they come from, as they are, perturbed and crossed.

A folder of pairs holds its images and ``pairs.json``: ``{"pairs": [{"id", "group", "fixed", "moving", ...}]}`` with,
each mapping MOVING to FIXED px, ``H_refined`` or ``H_author`` (3 x 3), or ``landmarks_moving`` and ``landmarks_fixed``
(N x 2). Pairs of one ``group`` are of one eye; ``"quality": "exclude"`` leaves a pair out.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastretina.errors import InvalidInput
from fastretina.evaluation.cases import Case, Target
from fastretina.evaluation.perturb import perturb
from fastretina.io import read_image
from fastretina.transform import Transform
from fastretina.transform_math import Floats

WRONG = "wrong"  # the kind of crossed pairs

_GRID = 25  # points along each side of MOVING at which the error is measured
_MIN_POINTS = 6
_WRONG_STEPS = (1, 2, 3)  # how far apart in the list two pairs are that are crossed


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


def pair_cases(pairs: Sequence[Pair], kinds: Sequence[str] = ("none",), wrong: bool = False) -> Iterator[Case]:
    """Every pair under every perturbation, without those that then show too little in common to be scored.

    ``wrong``: also FIXED of one eye with MOVING of another.
    """
    images = {pair.id: pair.read() for pair in pairs}
    for kind in kinds:
        for pair in pairs:
            fixed, moving = images[pair.id]
            whole = target(pair, fixed, moving, Transform.identity())
            changed, change = perturb(moving, kind, pair.id, keep=None if whole is None else whole.moving)
            goal = target(pair, fixed, changed, change)
            if goal is not None:
                yield Case(pair.id, kind, pair.modalities, fixed, changed, goal)
    for a, b in _crossings(pairs) if wrong else ():
        yield Case(f"{a.id}|{b.id}", WRONG, WRONG, images[a.id][0], images[b.id][1], None)


def _crossings(pairs: Sequence[Pair]) -> list[tuple[Pair, Pair]]:
    n = len(pairs)
    crossed = [(pairs[i], pairs[(i + step) % n]) for step in _WRONG_STEPS if step < n for i in range(n)]
    return [(a, b) for a, b in crossed if a.group != b.group]


def target(pair: Pair, fixed: NDArray[Any], moving: NDArray[Any], change: Transform) -> Target | None:
    """Where the error of a pair is measured, ``moving`` being MOVING after ``change``; None if too little is in common.

    On a grid over MOVING, where both images show something. Where only landmarks are known, on those that MOVING still
    shows, or, if these are too few, on the grid under the homography of all landmarks.
    """
    there = change(pair.landmarks_moving)
    shown = _inside(there, moving)
    landmarks = (there[shown], pair.landmarks_fixed[shown])
    if pair.truth is None and shown.sum() >= _MIN_POINTS:
        return Target(*landmarks, None, *landmarks)
    truth = (pair.truth or _homography(pair)) @ change.inverse
    width, height = moving.shape[1], moving.shape[0]
    axes = (np.linspace(0, width - 1, _GRID), np.linspace(0, height - 1, _GRID))
    source = np.stack(np.meshgrid(*axes), axis=-1).reshape(-1, 2)
    goal = truth(source)
    keep = _inside(goal, fixed)
    keep[keep] &= _at(_content(fixed), goal[keep])
    keep &= _at(_content(moving), source)
    return Target(source[keep], goal[keep], truth, *landmarks) if keep.sum() >= _MIN_POINTS else None


def _homography(pair: Pair) -> Transform:
    import cv2

    matrix, _ = cv2.findHomography(pair.landmarks_moving, pair.landmarks_fixed)
    return Transform.from_matrix(matrix)


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
