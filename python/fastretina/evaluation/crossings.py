"""Pairs of two different eyes from single images, of which none may be accepted.

Eyes are crossed between the sets of a training data folder, and within a set whose names tell its eyes apart. Half of
the pairs are hard: of one modality and one side, so that disc, arcades and macula lie alike.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastretina.errors import InvalidInput
from fastretina.evaluation.cases import Case
from fastretina.io import read_image
from fastretina.training.sets import SETS, eye, image_files

HARD, ANY = "same modality and side", "any"

_TRIES = 1000  # to find a pair that is not there yet
_DISC_PX = 200  # longer side at which the disc is looked for
_OFF_CENTRE = 0.14  # of the width: nearer to the middle, the disc does not tell the side


@dataclass(frozen=True)
class Single:
    """One image, and which eye it shows as far as that is known."""

    name: str  # <set>/<file stem>
    path: Path
    modality: str
    eye: str
    side: str | None  # L or R

    def like(self, other: Single) -> bool:
        return (self.modality, self.side) == (other.modality, other.side)


def crossing_cases(folder: Path, count: int, seed: int = 0) -> Iterator[Case]:
    """``count`` pairs of different eyes, every second a hard one; the same for the same ``seed``.

    ``folder``: a data folder as training takes it. Sets are drawn alike, whatever their size. Raises InvalidInput if it
    holds too few eyes.
    """
    for kind, a, b in crossings(singles(folder), count, seed):
        yield Case(
            f"{a.name}|{b.name}", kind, f"{a.modality}>{b.modality}", read_image(a.path), read_image(b.path), None
        )


def singles(folder: Path) -> list[Single]:
    """Every image of the folder. Reads the colour photographs whose name does not tell the side."""
    images = []
    for kind, path in image_files(folder):
        name = f"{kind.name}/{path.stem}"
        named = re.search(r"\d([LR])$", path.stem)
        side = named[1] if named else disc_side(read_image(path)) if kind.modality == "CF" else None
        images.append(Single(name, path, kind.modality, eye(name), side))
    if not images:
        raise InvalidInput(f"data: no image in {folder}; expected one of {[k.images for k in SETS]} or plain images")
    return images


def crossings(images: list[Single], count: int, seed: int = 0) -> Iterator[tuple[str, Single, Single]]:
    """(kind, FIXED, MOVING), no two alike."""
    rng = np.random.default_rng(seed)
    seen: set[tuple[str, str]] = set()
    for index in range(count):
        kind = HARD if index % 2 == 0 else ANY
        for _ in range(_TRIES):
            first = _drawn(rng, images)
            others = [o for o in images if o.eye != first.eye and (kind == ANY or o.like(first))]
            if others and (pair := (first, _drawn(rng, others))) and (pair[0].name, pair[1].name) not in seen:
                break
        else:
            raise InvalidInput(f"count: got {count}; the images allow only {index} pairs of different eyes ({kind})")
        seen.add((pair[0].name, pair[1].name))
        yield kind, *pair


def _drawn(rng: np.random.Generator, images: list[Single]) -> Single:
    """A set, then one of its images."""
    sets = sorted({image.name.split("/")[0] for image in images})
    chosen = sets[int(rng.integers(len(sets)))]
    of_set = [image for image in images if image.name.split("/")[0] == chosen]
    return of_set[int(rng.integers(len(of_set)))]


def disc_side(photograph: NDArray[Any]) -> str | None:
    """R if the disc of a colour photograph (H, W, 3) lies to the right of the middle, L to the left, None if near it.

    The disc is where a smooth bright spot and upright edges (its vessels) meet: right for all of DRIVE and HRF.
    """
    import cv2

    plane = photograph[..., 1].astype(np.float32)
    scale = _DISC_PX / max(plane.shape)
    plane = cv2.resize(plane, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    lit = cv2.GaussianBlur(plane, (0, 0), 2) > 0.25 * np.quantile(plane, 0.9)
    mask = cv2.erode(lit.astype(np.float32), np.ones((9, 9)), borderType=cv2.BORDER_CONSTANT, borderValue=1.0)

    def mean(values: NDArray[Any], sigma: float) -> NDArray[Any]:
        blurred = cv2.GaussianBlur(values * mask, (0, 0), sigma)
        return np.asarray(blurred / np.maximum(cv2.GaussianBlur(mask, (0, 0), sigma), 0.05))

    def standard(values: NDArray[Any]) -> NDArray[Any]:
        inside = values[mask > 0]
        return np.asarray((values - inside.mean()) / (inside.std() + 1e-6))

    if not mask.any():
        return None
    bright = mean(plane, 6) - mean(plane, 40)
    edges = np.sqrt(mean(np.abs(cv2.Sobel(plane, cv2.CV_32F, 1, 0, ksize=3)), 6))
    score = np.where(mask > 0, standard(bright) + standard(edges), -np.inf)
    column = int(np.argmax(score)) % score.shape[1]
    offset = (column - float((mask.sum(0) * np.arange(mask.shape[1])).sum() / mask.sum())) / mask.shape[1]
    if abs(offset) < _OFF_CENTRE:
        return None
    return "R" if offset > 0 else "L"
