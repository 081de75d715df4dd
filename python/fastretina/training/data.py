"""Training images in memory, each with its mask, vessel map and keypoint labels.

A data folder holds one folder per set (see ``sets.py``); only folders that are there are used. Synthetic eyes (see
``synthetic.py``) need no folder.  Preparing an image costs a few tenths of a second, so the result is kept in a cache
file beside the run.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from fastretina.config import nearest
from fastretina.errors import InvalidInput
from fastretina.training import cache as cached
from fastretina.training import labels, normalise
from fastretina.training.sample import REFERENCE_PX_PER_DEG, Sample
from fastretina.training.sets import CHOICES, CLEAN, SETS, SYNTHETIC, ImageSet, image_files
from fastretina.training.synthetic import prepare_all

CACHE_VERSION = 9
HELD_OUT_EVERY = 10


def prepare(path: Path, vessel_path: Path | None, kind: ImageSet) -> Sample:
    """Read one image and make its labels."""
    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if image is None:
        raise InvalidInput(f"{path}: not a readable image")
    plane = np.ascontiguousarray(image[..., 1] if image.ndim == 3 else image)
    if plane.dtype != np.uint8:
        plane = cv2.normalize(plane, None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)
    px_per_deg = max(plane.shape) / kind.field_deg
    # Arrays finer than twice the reference are never needed: the largest training scale stays below that.
    shrink = min(1.0, 2.0 * REFERENCE_PX_PER_DEG / px_per_deg)
    if kind.field_deg < 20:
        shrink = 1.0
    plane = normalise.resize_longer(plane.astype(np.float32) / 255, round(max(plane.shape) * shrink))
    size = (plane.shape[1], plane.shape[0])
    px_per_deg *= shrink
    mask = normalise.field_of_view(plane)

    # Labels at the reference resolution; OCT angiography shows so small a field that its own resolution is the limit.
    scale = 1.0 if kind.field_deg < 20 else min(1.0, REFERENCE_PX_PER_DEG / px_per_deg)
    small = normalise.resize_longer(plane, round(max(size) * scale))
    small_mask = cv2.resize(mask, small.shape[::-1], interpolation=cv2.INTER_NEAREST)
    # Labels need a stricter field of view than the network: some frames have a gray surround.
    lit = cv2.GaussianBlur(small, (0, 0), 2.0) > 0.2 * np.quantile(small, 0.9)
    if kind.field_deg >= 20:
        small_mask = small_mask * lit
    ridges = labels.ridge_map(small, small_mask, kind.bright_vessels)
    weak, _ = labels.ridge_corners(ridges)
    points = labels.skeleton_points(ridges > labels.RIDGE_ON)
    vessels = ridges
    if vessel_path is not None and vessel_path.is_file():
        label = cv2.imread(str(vessel_path), cv2.IMREAD_GRAYSCALE)
        label = cv2.resize((label > 0).astype(np.float32), small.shape[::-1], interpolation=cv2.INTER_AREA)
        vessels = np.maximum(label, 0.7 * ridges)
        junctions = labels.skeleton_points(label > 0.5)
        points = labels.thin_points(np.concatenate([junctions, points]), labels.THIN_PX)
    ratio = np.array([size[0] / small.shape[1], size[1] / small.shape[0]], np.float32)
    return Sample(
        name=f"{kind.name}/{path.stem}",
        weight=kind.weight,
        px_per_deg=px_per_deg,
        planes=np.round(plane * 255).astype(np.uint8)[None],
        mask=mask.astype(np.uint8),
        vessels=np.round(cv2.resize(vessels, size, interpolation=cv2.INTER_LINEAR) * 255).astype(np.uint8),
        points=((points + 0.5) * ratio - 0.5).astype(np.float32),
        ignored=((weak + 0.5) * ratio - 0.5).astype(np.float32),
        bright=kind.bright_vessels,
    )


def load(
    folder: Path,
    cache: Path | None = None,
    sets: str = "research",
    synthetic: int = 0,
    synthetic_share: float = 0.5,
) -> tuple[list[Sample], list[Sample]]:
    """All images of a data folder and ``synthetic`` eyes -> (training, held out); every tenth of a set is held out.

    ``sets``: "research" (all that the folder holds) or "clean" (only those that are free for any use).
    ``synthetic_share``: part of the training pairs that synthetic eyes give, if there are any, in (0, 1); it sets their
    sampling weights. Raises ``InvalidInput`` for options outside these and when there is nothing to train on.
    """
    _check(sets, synthetic, synthetic_share)
    entries = _entries(folder, sets)
    if not entries and not synthetic:
        raise InvalidInput(
            f"data: no image in {folder} (sets={sets!r}); expected one of {[k.images for k in SETS]} or plain images"
        )
    listing = repr(([(str(p.relative_to(folder)), p.stat().st_size) for p, _, _ in entries], synthetic))
    key = hashlib.sha256(f"{CACHE_VERSION}{listing}".encode()).hexdigest()[:16]
    kept = cached.read(cache, key) if cache else None
    if kept is not None:
        return _split(_samples(kept), synthetic_share)
    samples = [prepare(*entry) for entry in entries] + prepare_all(range(synthetic))
    if cache:
        cached.write(cache, key, _arrays(samples))
    return _split(samples, synthetic_share)


def _check(sets: str, synthetic: int, synthetic_share: float) -> None:
    if sets not in CHOICES:
        raise InvalidInput(f"sets: got {sets!r}; {nearest(sets, list(CHOICES))}")
    if synthetic < 0:
        raise InvalidInput(f"synthetic: got {synthetic}; allowed: 0, 1, 2 ...")
    if not 0 < synthetic_share < 1:
        raise InvalidInput(f"synthetic_share: got {synthetic_share}; allowed: between 0 and 1, both excluded")


def _entries(folder: Path, sets: str) -> list[tuple[Path, Path | None, ImageSet]]:
    """Image, vessel label and set of every file to prepare."""
    return [
        (path, folder / kind.vessels / f"{path.stem}.png" if kind.vessels else None, kind)
        for kind, path in image_files(folder)
        if sets == "research" or kind.name in CLEAN
    ]


def _split(samples: list[Sample], synthetic_share: float) -> tuple[list[Sample], list[Sample]]:
    """(training, held out), with the sampling weights of the training images."""
    groups: dict[str, list[Sample]] = {}
    train: list[Sample] = []
    held_out: list[Sample] = []
    for sample in samples:
        group = groups.setdefault(sample.name.split("/")[0], [])
        group.append(sample)
        (held_out if len(group) % HELD_OUT_EVERY == 0 else train).append(sample)
    sizes = {name: len(group) - len(group) // HELD_OUT_EVERY for name, group in groups.items()}
    for sample in train:
        sample.weight /= sizes[sample.name.split("/")[0]]
    real = sum(s.weight for s in train if not s.name.startswith(f"{SYNTHETIC}/"))
    for sample in train:
        if sample.name.startswith(f"{SYNTHETIC}/") and real > 0:
            sample.weight *= real * synthetic_share / (1 - synthetic_share)
    return train, held_out


def _arrays(samples: list[Sample]) -> dict[str, Any]:
    arrays: dict[str, Any] = {"count": np.array(len(samples))}
    for i, sample in enumerate(samples):
        for name, value in vars(sample).items():
            arrays[f"{i}.{name}"] = np.asarray(value)
    return arrays


def _samples(arrays: dict[str, Any]) -> list[Sample]:
    fields = list(Sample.__dataclass_fields__)
    rows = [{f: arrays[f"{i}.{f}"] for f in fields} for i in range(int(arrays["count"]))]
    for row in rows:
        row.update({f: row[f].item() for f in fields if row[f].ndim == 0})
    return [Sample(**row) for row in rows]
