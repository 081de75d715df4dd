"""Dice and AUC of vessel maps on the held-out images of labelled sets, at the images' own resolution."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from fastretina.errors import InvalidInput
from fastretina.training.normalise import field_of_view
from fastretina.training.vessels import held_out, read_label

THRESHOLD = 0.5
BINS = 4096  # of the probability, for the area under the curve

Row = dict[str, Any]


def evaluate(
    maps: Callable[[NDArray[Any]], NDArray[np.float32]],
    folder: Path,
    progress: Callable[[Row], None] = lambda row: None,
) -> list[Row]:
    """One row a held-out image of the labelled sets of ``folder``: ``set``, ``id``, ``dice`` at ``THRESHOLD``, ``auc``.

    ``maps``: image -> probability of a vessel (H, W). Only pixels inside the field of view count: that of the set where
    it has one, else ours. Raises InvalidInput for a folder without labelled sets.
    """
    rows: list[Row] = []
    for name, stem, image, label, seen in _cases(folder):
        probability = maps(image)
        rows.append({"set": name, "id": stem, "dice": dice(probability[seen] > THRESHOLD, label[seen]),
                     "auc": auc(probability[seen], label[seen])})  # fmt: skip
        progress(rows[-1])
    if not rows:
        raise InvalidInput(f"vessels: no held-out image in {folder} has a vessel label")
    return rows


def summarise(rows: list[Row]) -> list[Row]:
    """One row a set: ``images``, mean ``dice`` and ``auc``, lowest ``dice``."""
    found: list[Row] = []
    for name in dict.fromkeys(row["set"] for row in rows):
        of_set = [row for row in rows if row["set"] == name]
        scores = [row["dice"] for row in of_set]
        found.append({"set": name, "images": len(of_set), "dice": float(np.mean(scores)),
                      "lowest_dice": min(scores), "auc": float(np.mean([r["auc"] for r in of_set]))})  # fmt: skip
    return found


def markdown(summary: list[Row]) -> str:
    """The summary as a table."""
    lines = ["| set | held-out images | mean Dice | lowest Dice | mean AUC |", "|---|---|---|---|---|"]
    lines += [
        f"| {r['set']} | {r['images']} | {r['dice']:.3f} | {r['lowest_dice']:.3f} | {r['auc']:.3f} |" for r in summary
    ]
    return "\n".join(lines) + "\n"


def dice(found: NDArray[np.bool_], wanted: NDArray[np.bool_]) -> float:
    """2 |A and B| / (|A| + |B|); 1 if both are empty."""
    total = int(found.sum()) + int(wanted.sum())
    return 2 * int((found & wanted).sum()) / total if total else 1.0


def auc(probability: NDArray[np.float32], wanted: NDArray[np.bool_]) -> float:
    """Area under the receiver operating characteristic: how often a vessel pixel is the more probable one of a vessel
    and a background pixel, a tie counting half. NaN if there is no such pair.
    """
    bins = np.minimum((probability * BINS).astype(int), BINS - 1)
    vessel, other = (np.bincount(bins[chosen], minlength=BINS).astype(float) for chosen in (wanted, ~wanted))
    if not vessel.sum() or not other.sum():
        return float("nan")
    below = np.cumsum(other) - other
    return float((vessel * (below + 0.5 * other)).sum() / (vessel.sum() * other.sum()))


def _cases(folder: Path) -> Iterator[tuple[str, str, NDArray[Any], NDArray[np.bool_], NDArray[np.bool_]]]:
    """Set, file stem, image, label and field of view of every held-out image that has a label."""
    for kind, path in held_out(folder):
        label_path = folder / str(kind.vessels) / f"{path.stem}.png"
        if kind.vessels is None or not label_path.is_file():
            continue
        image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        if image is None:
            raise InvalidInput(f"{path}: not a readable image")
        image = np.ascontiguousarray(image[..., 2::-1]) if image.ndim == 3 else image
        label = read_label(label_path)
        if label.shape != image.shape[:2]:  # of octa_synth
            label = cv2.resize(label, (image.shape[1], image.shape[0]), interpolation=cv2.INTER_AREA)
        yield kind.name, path.stem, image, label > 127, _seen(image, path.parent.parent / "fov" / f"{path.stem}.png")


def _seen(image: NDArray[Any], path: Path) -> NDArray[np.bool_]:
    if path.is_file():
        return np.asarray(cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) > 0)
    plane = image[..., 1] if image.ndim == 3 else image
    return np.asarray(field_of_view(plane.astype(np.float32) / 255) > 0)
