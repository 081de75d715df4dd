"""Training images in memory, each with its mask, vessel map and keypoint labels.

A data folder holds one folder per set (see ``sets.py``); only folders that are there are used.  Preparing an image
costs a few tenths of a second, so the result is kept in a cache file beside the run.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from fastretina.errors import InvalidInput
from fastretina.training import labels, normalise
from fastretina.training.sets import ImageSet, image_files

CACHE_VERSION = 6
HELD_OUT_EVERY = 10
REFERENCE_PX_PER_DEG = 14.0
"""Labels are made at this resolution (a 45-degree field on about 630 px), where the ridge scales fit the vessels."""


@dataclass
class Sample:
    """One prepared image; every array is at ``scale`` times the native resolution."""

    name: str
    weight: float
    px_per_deg: float
    plane: np.ndarray  # (H, W) uint8
    mask: np.ndarray  # (H, W) uint8, 0 or 1
    vessels: np.ndarray  # (H, W) uint8, 255 = vessel
    points: np.ndarray  # (K, 2) float32: positive keypoints
    ignored: np.ndarray  # (L, 2) float32: doubtful ones, neither vessel nor background
    bright: bool


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
        plane=np.round(plane * 255).astype(np.uint8),
        mask=mask.astype(np.uint8),
        vessels=np.round(cv2.resize(vessels, size, interpolation=cv2.INTER_LINEAR) * 255).astype(np.uint8),
        points=((points + 0.5) * ratio - 0.5).astype(np.float32),
        ignored=((weak + 0.5) * ratio - 0.5).astype(np.float32),
        bright=kind.bright_vessels,
    )


def load(folder: Path, cache: Path | None = None) -> tuple[list[Sample], list[Sample]]:
    """All images of a data folder → (training, held out); every tenth image of a set is held out.

    Raises ``InvalidInput`` when the folder holds no known set and no image.
    """
    entries = [
        (path, folder / kind.vessels / f"{path.stem}.png" if kind.vessels else None, kind)
        for kind, path in image_files(folder)
    ]
    listing = repr([(str(p.relative_to(folder)), p.stat().st_size) for p, _, _ in entries])
    key = hashlib.sha256(f"{CACHE_VERSION}{listing}".encode()).hexdigest()[:16]
    samples = _read_cache(cache, key) if cache else None
    if samples is None:
        samples = [prepare(*entry) for entry in entries]
        if cache:
            _write_cache(cache, key, samples)
    counts: dict[str, int] = {}
    train: list[Sample] = []
    held_out: list[Sample] = []
    for sample in samples:
        group = sample.name.split("/")[0]
        counts[group] = counts.get(group, 0) + 1
        (held_out if counts[group] % HELD_OUT_EVERY == 0 else train).append(sample)
    group_size = {g: sum(1 for s in train if s.name.split("/")[0] == g) for g in counts}
    for sample in train:
        sample.weight = sample.weight / max(group_size[sample.name.split("/")[0]], 1)
    return train, held_out


def _write_cache(path: Path, key: str, samples: list[Sample]) -> None:
    arrays: dict[str, Any] = {"key": np.array(key), "count": np.array(len(samples))}
    for i, sample in enumerate(samples):
        for name, value in vars(sample).items():
            arrays[f"{i}.{name}"] = np.asarray(value)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".partial.npz")
    np.savez(temporary, **arrays)
    temporary.replace(path)


def _read_cache(path: Path, key: str) -> list[Sample] | None:
    if not path.is_file():
        return None
    with np.load(path) as file:
        if str(file["key"]) != key:
            return None
        fields = list(Sample.__dataclass_fields__)
        rows = [{f: file[f"{i}.{f}"] for f in fields} for i in range(int(file["count"]))]
    for row in rows:
        row.update({f: row[f].item() for f in fields if row[f].ndim == 0})
    return [Sample(**row) for row in rows]
