"""Dice and AUC of vessel maps on the held-out images of labelled sets, at the images' own resolution.

Sets differ in how fine a vessel their labels still draw, and how wide. So each set has its own threshold, chosen on
some of its training images; Dice at one half is given beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from fastretina.errors import InvalidInput
from fastretina.training.normalise import field_of_view
from fastretina.training.sets import ImageSet, image_files
from fastretina.training.vessels import held_out, read_label

THRESHOLDS = np.arange(4, 17) / 20
CALIBRATION_IMAGES = 8  # of a set, at most
BINS = 4096  # of the probability, for the area under the curve

Maps = Callable[[NDArray[Any]], NDArray[np.float32]]  # image -> probability of a vessel (H, W)
Row = dict[str, Any]


class Labelled(NamedTuple):
    """An image as ``Maps`` takes it, its label and where it shows anything."""

    id: str
    image: NDArray[Any]
    vessels: NDArray[np.bool_]
    seen: NDArray[np.bool_]


def evaluate(maps: Maps, folder: Path, progress: Callable[[Row], None] = lambda row: None) -> list[Row]:
    """One row a held-out image of the labelled sets of ``folder``: ``set``, ``id``, ``threshold``, ``dice`` at it,
    ``dice_at_half``, ``auc``.

    Only pixels inside the field of view count: that of the set where it has one, else ours. Raises InvalidInput for a
    folder without labelled sets.
    """
    held = list(held_out(folder))
    paths = {path for _, path in held}
    rows: list[Row] = []
    for name in dict.fromkeys(kind.name for kind, _ in held):
        training = [(k, p) for k, p in image_files(folder) if k.name == name and p not in paths]
        step = max(1, len(training) // CALIBRATION_IMAGES)
        threshold = best_threshold(maps, labelled(folder, training[::step][:CALIBRATION_IMAGES]))
        for case in labelled(folder, (h for h in held if h[0].name == name)):
            probability, wanted = maps(case.image)[case.seen], case.vessels[case.seen]
            row = {"set": name, "id": case.id, "threshold": threshold, "dice": dice(probability > threshold, wanted)}
            rows.append(row | {"dice_at_half": dice(probability > 0.5, wanted), "auc": auc(probability, wanted)})
            progress(rows[-1])
    if not rows:
        raise InvalidInput(f"vessels: no held-out image in {folder} has a vessel label")
    return rows


def best_threshold(maps: Maps, cases: Iterable[Labelled]) -> float:
    """That of ``THRESHOLDS`` with the best mean Dice; one half if there are no cases."""
    scores = []
    for case in cases:
        probability, wanted = maps(case.image)[case.seen], case.vessels[case.seen]
        scores.append([dice(probability > threshold, wanted) for threshold in THRESHOLDS])
    return float(THRESHOLDS[np.mean(scores, axis=0).argmax()]) if scores else 0.5


def labelled(folder: Path, images: Iterable[tuple[ImageSet, Path]]) -> Iterator[Labelled]:
    """Those of the images that have a vessel label."""
    for kind, path in images:
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
        yield Labelled(path.stem, image, label > 127, _seen(image, path.parent.parent / "fov" / f"{path.stem}.png"))


def _seen(image: NDArray[Any], path: Path) -> NDArray[np.bool_]:
    if path.is_file():
        return np.asarray(cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) > 0)
    plane = image[..., 1] if image.ndim == 3 else image
    return np.asarray(field_of_view(plane.astype(np.float32) / 255) > 0)


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


def summarise(rows: list[Row]) -> list[Row]:
    """One row a set: ``images``, ``threshold``, means of ``dice``, ``dice_at_half`` and ``auc``, ``lowest_dice``."""
    found: list[Row] = []
    for name in dict.fromkeys(row["set"] for row in rows):
        of_set = [row for row in rows if row["set"] == name]
        means = {key: float(np.mean([row[key] for row in of_set])) for key in ("dice", "dice_at_half", "auc")}
        lowest = min(row["dice"] for row in of_set)
        found.append(
            {"set": name, "images": len(of_set), "threshold": of_set[0]["threshold"], "lowest_dice": lowest} | means
        )
    return found


def markdown(summary: list[Row]) -> str:
    """The summary as a table."""
    head = "| set | held-out images | threshold | mean Dice | lowest Dice | mean Dice at 0.5 | mean AUC |"
    line = "| {set} | {images} | {threshold:.2f} | {dice:.3f} | {lowest_dice:.3f} | {dice_at_half:.3f} | {auc:.3f} |"
    return "\n".join([head, "|---|---|---|---|---|---|---|", *(line.format(**row) for row in summary)]) + "\n"
