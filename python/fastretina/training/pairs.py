"""Training pairs: two independently warped and restyled views of one eye, with their common keypoints.

The views of a synthetic eye mostly show two modalities; those of a real image show the image twice.

Pair ``i`` depends on ``(seed, i)`` only, so that a run can be resumed anywhere and repeated exactly.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from fastretina.errors import InvalidInput
from fastretina.networks.retina_craquelure import STRIDE
from fastretina.training import simulate
from fastretina.training.sample import Sample
from fastretina.training.warp import View, random_view, sample_view

CROP_PX = 192
MARGIN_PX = 4
RING_PX = 8.0
TARGET_SIGMA_PX = 3.0
PEAK = 0.95
PX_PER_DEG = (8.5, 27.0)
"""Range of the training resolution: 55 degrees on 480 px to 30 degrees on 800 px."""
MAX_POINTS = 48
EXTRA_POINTS = 24
EXTRA_SPACING_PX = 9.0
SMALL_FIELD_PX = 620  # a field of 20 degrees at 30 px per degree, and no more
SAME_PLANE = 0.15  # share of the pairs that show one modality twice, where there are several
RESTYLED = 0.5  # share of the views that are restyled, where modalities already differ


@dataclass
class Batch:
    """``P`` pairs as ``2 P`` crops (all first views, then all second views).

    ``planes``, ``masks``: ``(2P, 1, S, S)``.  ``target``, ``weight``: ``(2P, S/4, S/4)``, probability of "vessel" and
    1 / 2 / 0 for background / near a keypoint / ignored.  ``points``: ``(K, 2, 2)`` view pixels of common points in
    the first and second view; ``pair``: ``(K,)`` their pair; ``is_key``: ``(K,)`` False for extra vessel points, which
    only train descriptors.
    """

    planes: Tensor
    masks: Tensor
    target: Tensor
    weight: Tensor
    points: Tensor
    pair: Tensor
    is_key: Tensor


def random_scale(rng: np.random.Generator, sample: Sample) -> float:
    """View pixels to a pixel of the sample: any resolution that registration sees."""
    lowest = max(PX_PER_DEG[0] / sample.px_per_deg, 0.3)
    highest = max(min(PX_PER_DEG[1] / sample.px_per_deg, 1.7), lowest * 1.3)
    if sample.px_per_deg > 24.5 and sample.mask.shape[0] < SMALL_FIELD_PX:  # OCT angiography: as it is enlarged in use
        lowest, highest = 0.5, 1.8
    return float(np.exp(rng.uniform(np.log(lowest), np.log(highest))))


def random_views(rng: np.random.Generator, sample: Sample) -> tuple[View, View]:
    """Geometry of a pair: place, resolution, relative scale (about 0.6 to 1.6), relative turn (up to 50 degrees)."""
    scale = random_scale(rng, sample)
    ratio = float(np.exp(np.clip(rng.normal(0, 0.2), -0.5, 0.5)))
    turn = rng.uniform(-15, 15) if rng.random() < 0.5 else rng.uniform(-50, 50)
    # Both mirrorings and half turns are as likely as none: whatever bias labels have (thinning prefers one side of
    # an even line) then averages out instead of being learned.
    start = rng.uniform(-180, 180) if rng.random() < 0.5 else rng.uniform(-10, 10) + rng.choice([0, 180])
    mirrored = bool(rng.random() < 0.5)
    inside = np.argwhere(sample.mask[::8, ::8] > 0) * 8
    centre = inside[int(rng.integers(len(inside)))][::-1].astype(np.float64)
    if len(sample.points) and rng.random() < 0.5:
        centre = sample.points[int(rng.integers(len(sample.points)))] + rng.uniform(-30, 30, 2)
    extent = np.array(sample.mask.shape[::-1], np.float64)
    half = min(CROP_PX / 2 / scale * 0.8, extent.min() / 2)
    centre = np.clip(centre, half, extent - half)
    shift = rng.uniform(-0.2, 0.2, 2) * CROP_PX / scale
    first = random_view(rng, CROP_PX, centre, scale, start, mirrored)
    second = random_view(rng, CROP_PX, centre + shift, scale * ratio, start + turn, mirrored)
    return first, second


def _two_planes(rng: np.random.Generator, count: int) -> tuple[int, int]:
    """Which plane each view shows: mostly two different ones."""
    if count == 1:
        return 0, 0
    first = int(rng.integers(count))
    other = 0 if rng.random() < SAME_PLANE else int(rng.integers(1, count))
    return first, (first + other) % count


def _common(views: tuple[View, View], masks: list[np.ndarray], points: np.ndarray) -> np.ndarray:
    """Points that both views show, as ``(K, 2 views, 2)`` view pixels."""
    seen = np.stack([view.to_view(points) for view in views], 1)
    good = np.all((seen > MARGIN_PX) & (seen < CROP_PX - 1 - MARGIN_PX), axis=(1, 2))
    seen = seen[good]
    cell = np.clip(np.round(seen), 0, CROP_PX - 1).astype(np.int64)
    valid = (masks[0][cell[:, 0, 1], cell[:, 0, 0]] > 0) & (masks[1][cell[:, 1, 1], cell[:, 1, 0]] > 0)
    return seen[valid]


def _spread(points: np.ndarray, kept: list[np.ndarray], limit: int, spacing: float) -> list[np.ndarray]:
    """Take points in order while none kept before lies nearer than ``spacing`` in the first view."""
    taken = list(kept)
    for point in points:
        if len(taken) - len(kept) >= limit:
            break
        if not taken or np.min(np.sum((np.array(taken)[:, 0] - point[0]) ** 2, 1)) >= spacing**2:
            taken.append(point)
    return taken[len(kept) :]


def make_pair(
    rng: np.random.Generator, sample: Sample, views: tuple[View, View] | None = None
) -> dict[str, np.ndarray]:
    """One pair: planes and masks ``(2, S, S)``, detector targets ``(2, S/4, S/4)``, common points ``(K, 2, 2)``.

    ``views`` fixes the geometry (validation needs to know it); by default it is drawn from ``rng``.
    """
    views = views or random_views(rng, sample)
    planes, masks, ridges = [], [], []
    for view, shown in zip(views, _two_planes(rng, len(sample.planes)), strict=True):
        plane, mask, vessels = sample_view(sample, view, shown)
        mild = len(sample.planes) > 1 and rng.random() > RESTYLED
        planes.append(simulate.retouch(rng, plane) if mild else simulate.restyle(rng, plane, vessels))
        masks.append(mask)
        ridges.append(vessels)
    keys = _common(views, masks, sample.points)
    keys = keys[rng.permutation(len(keys))]
    ys, xs = np.nonzero(sample.vessels[::3, ::3] > 110)
    pick = rng.integers(0, max(len(ys), 1), min(len(ys), 600))
    jitter = rng.uniform(-2, 2, (len(pick), 2))
    extra = _common(views, masks, np.stack([xs[pick], ys[pick]], 1) * 3 + jitter)
    described = list(keys[:MAX_POINTS])
    spread = _spread(extra, described, EXTRA_POINTS, EXTRA_SPACING_PX)
    detector = [_detector_target(view.to_view(sample.points), view.to_view(sample.ignored)) for view in views]
    return {
        "planes": np.stack(planes),
        "masks": np.stack(masks),
        "target": np.stack([d[0] for d in detector]),
        "weight": np.stack([d[1] for d in detector]),
        "points": np.array(described + spread, np.float32).reshape(-1, 2, 2),
        "is_key": np.arange(len(described) + len(spread)) < len(described),
    }


def _nearest_sq(points: np.ndarray) -> np.ndarray:
    """Squared distance in pixels of every cell centre (pixel ``4 i + 1.5``) to the nearest point, ``(S/4, S/4)``."""
    cells = CROP_PX // STRIDE
    best = np.full((cells, cells), np.inf, np.float32)
    reach = 4
    for x, y in points:
        cx, cy = (x - 1.5) / STRIDE, (y - 1.5) / STRIDE
        x0, x1 = max(0, int(cx) - reach), min(cells, int(cx) + reach + 2)
        y0, y1 = max(0, int(cy) - reach), min(cells, int(cy) + reach + 2)
        if x0 < x1 and y0 < y1:
            dx = STRIDE * (np.arange(x0, x1) - cx)
            dy = STRIDE * (np.arange(y0, y1) - cy)
            window = best[y0:y1, x0:x1]
            np.minimum(window, dy[:, None] ** 2 + dx[None, :] ** 2, out=window, casting="same_kind")
    return best


def _detector_target(points: np.ndarray, ignored: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Soft class target and kind (1 background, 2 near a keypoint, 0 ignored) of every cell."""
    frame = (-RING_PX, CROP_PX + RING_PX)
    near = _nearest_sq(points[np.all((points > frame[0]) & (points < frame[1]), 1)])
    doubt = _nearest_sq(ignored[np.all((ignored > frame[0]) & (ignored < frame[1]), 1)])
    target = PEAK * np.exp(-near / (2 * TARGET_SIGMA_PX**2))
    kind = np.where(near < RING_PX**2, 2.0, np.where(doubt < RING_PX**2, 0.0, 1.0))
    return target.astype(np.float32), kind.astype(np.float32)


class PairStream(Dataset["Batch"]):
    """Map-style data set of whole batches: item ``i`` is the batch of step ``i``."""

    def __init__(self, samples: list[Sample], pairs: int, steps: int, seed: int) -> None:
        if not samples:
            raise InvalidInput("samples: no training image")
        self.samples = samples
        self.pairs = pairs
        self.steps = steps
        self.seed = seed
        weights = np.array([s.weight for s in samples], np.float64)
        self.cumulative = np.cumsum(weights / weights.sum())

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, step: int) -> Batch:
        cv2.setNumThreads(1)
        rows = []
        for i in range(self.pairs):
            rng = np.random.default_rng([self.seed, step, i])
            index = min(int(np.searchsorted(self.cumulative, rng.random())), len(self.samples) - 1)
            rows.append(make_pair(rng, self.samples[index]))
        return collate(rows)


def collate(rows: list[dict[str, np.ndarray]]) -> Batch:
    """Pairs of :func:`make_pair` → one batch."""

    def both(name: str) -> Tensor:
        return torch.from_numpy(np.concatenate([np.stack([r[name][v] for r in rows]) for v in (0, 1)]))

    counts = [len(r["points"]) for r in rows]
    return Batch(
        planes=both("planes")[:, None],
        masks=both("masks")[:, None],
        target=both("target"),
        weight=both("weight"),
        points=torch.from_numpy(np.concatenate([r["points"] for r in rows])),
        pair=torch.repeat_interleave(torch.arange(len(rows)), torch.tensor(counts)),
        is_key=torch.from_numpy(np.concatenate([r["is_key"] for r in rows])),
    )


def stream(dataset: Any, start: int, workers: int) -> Iterator[Any]:
    """Batches of ``dataset`` from step ``start`` on, made ahead in ``workers`` processes (0: in this one)."""
    order = range(start, len(dataset))
    loader = DataLoader(
        dataset,
        batch_size=None,
        sampler=order,
        num_workers=workers,
        prefetch_factor=6 if workers else None,
        worker_init_fn=_one_thread,
    )
    return iter(loader)


def _one_thread(_: int) -> None:
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
