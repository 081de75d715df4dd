"""Training pairs of whole frames with a known map between them, for networks that see both images at once.

Two views of one eye (``pairs.py`` makes crops of two views in the same way), each on ``FRAME_PX`` pixels a side as a
registration would show it: the whole image or a part, turned, enlarged, shifted and bent against the other.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import torch
import torch.nn.functional as functional
from torch import Tensor

from fastretina.errors import InvalidInput
from fastretina.networks.arbicon import FRAME_PX
from fastretina.training import simulate
from fastretina.training.normalise import normalise
from fastretina.training.sample import Sample, draws
from fastretina.training.warp import View, random_view, sample_view

GRID = 20
GRID_STEP_PX, GRID_FIRST_PX = FRAME_PX // GRID, FRAME_PX // (2 * GRID)
LARGEST_TURN_DEG, LARGEST_LOG_SCALE, LARGEST_SHIFT = 30.0, 0.42, 0.25  # between the views; shift in frames
ZOOM_LOG = 0.1, 0.6  # how much of an image a frame leaves out: its own border would tell how it lies
APERTURES = 0.7  # share of the views that show a device's aperture
APERTURE, CUT = (0.38, 0.55), (0.34, 0.5)  # its radius, and where top and bottom are cut off, in frames from its centre
SAME_PLANE = 0.15  # share of the pairs that show one modality twice, where there are several
RESTYLED = 0.25  # share of the views that are restyled, where modalities already differ


@dataclass
class FrameBatch:
    """``N`` pairs, first all FIXED frames, then all MOVING ones: (2N, 1, FRAME_PX, FRAME_PX) each."""

    planes: Tensor  # locally normalised, 0 outside the mask
    masks: Tensor
    vessels: Tensor  # in [0, 1]
    truth: Tensor  # (N, 2, GRID, GRID): where FIXED shows the points of a grid over MOVING, frame units


def frame_units(px: np.ndarray) -> np.ndarray:
    """Pixels (pixel centres at integers) -> [-1, 1] between the frame's outer edges."""
    return (px + 0.5) * (2 / FRAME_PX) - 1


def truth_at(truth: Tensor, points: Tensor) -> Tensor:
    """Where FIXED shows points (N, K, 2) of MOVING by the truth (N, 2, GRID, GRID), bilinear between its points."""
    away = truth - grid_points(len(truth)).transpose(1, 2).reshape(truth.shape)
    where = points[:, :, None] - 1 / FRAME_PX  # the grid's points lie half a pixel beside the centres of its cells
    found = functional.grid_sample(away, where, padding_mode="border", align_corners=False)
    return points + found[..., 0].transpose(1, 2)


def grid_points(count: int) -> Tensor:
    """(N, GRID * GRID, 2): the points of the grid, frame units."""
    axis = torch.from_numpy(frame_units(GRID_FIRST_PX + GRID_STEP_PX * np.arange(GRID))).float()
    points = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), -1)
    return points.reshape(1, -1, 2).expand(count, -1, -1)


def random_views(rng: np.random.Generator, sample: Sample) -> tuple[View, View]:
    """FIXED and MOVING of a pair."""
    height, width = sample.mask.shape
    middle = np.array([width - 1, height - 1]) / 2
    scale = FRAME_PX / max(width, height)
    zoom = float(np.exp(rng.uniform(*ZOOM_LOG)))
    centre = middle + rng.uniform(-0.5, 0.5, 2) * (1 - 1 / zoom) * [width, height]
    scale *= zoom
    start = rng.uniform(-15, 15) + 90 * rng.integers(4)
    mirrored = bool(rng.random() < 0.5)
    far = rng.random()  # how much the views differ
    ratio = float(np.exp(far * rng.uniform(-1, 1) * LARGEST_LOG_SCALE))
    turn = far * rng.uniform(-1, 1) * LARGEST_TURN_DEG
    shift = far * rng.uniform(-1, 1, 2) * LARGEST_SHIFT * FRAME_PX / scale
    fixed = random_view(rng, FRAME_PX, centre, scale, start, mirrored)
    return fixed, random_view(rng, FRAME_PX, centre + shift, scale * ratio, start + turn, mirrored)


def aperture(rng: np.random.Generator) -> np.ndarray:
    """(FRAME_PX, FRAME_PX) 0 or 1: what a device shows of a frame, wherever the eye looks.

    Drawn for each view by itself: two photographs of one device have the same border and not the same content, and a
    network that has only seen borders move with the eye lays them on each other.
    """
    x0, y0 = rng.normal((FRAME_PX - 1) / 2, 0.02 * FRAME_PX, 2)
    y, x = np.ogrid[:FRAME_PX, :FRAME_PX]
    inside = (x - x0) ** 2 + (y - y0) ** 2 < (rng.uniform(*APERTURE) * FRAME_PX) ** 2
    return (inside & (np.abs(y - y0) < rng.uniform(*CUT) * FRAME_PX)).astype(np.float32)


def make_pair(rng: np.random.Generator, sample: Sample) -> dict[str, np.ndarray]:
    """Planes in [0, 1], masks and vessels (2, FRAME_PX, FRAME_PX) of both views, and the truth (2, GRID, GRID)."""
    views = random_views(rng, sample)
    count = len(sample.planes)
    first = int(rng.integers(count))
    other = 0 if count == 1 or rng.random() < SAME_PLANE else int(rng.integers(1, count))
    shown = []
    for view, plane in zip(views, (first, (first + other) % count), strict=True):
        image, mask, vessels = sample_view(sample, view, plane)
        if rng.random() < APERTURES:
            mask = mask * aperture(rng)
        mild = count > 1 and rng.random() > RESTYLED
        image = simulate.retouch(rng, image) if mild else simulate.restyle(rng, image, vessels)
        shown.append((image, mask, vessels))
    planes, masks, vessels = (np.stack(arrays) for arrays in zip(*shown, strict=True))
    there = views[1].source_map()[GRID_FIRST_PX::GRID_STEP_PX, GRID_FIRST_PX::GRID_STEP_PX]
    truth = frame_units(views[0].to_view(there.reshape(-1, 2).astype(np.float64))).reshape(GRID, GRID, 2)
    return {"planes": planes, "masks": masks, "vessels": vessels * masks, "truth": truth.transpose(2, 0, 1)}


def make_batch(rng: np.random.Generator, samples: list[Sample]) -> FrameBatch:
    """A pair of each sample."""
    rows = [make_pair(rng, sample) for sample in samples]

    def both(name: str) -> Tensor:
        arrays = np.stack([row[name] for row in rows], 1)  # (2, N, ...): FIXED first
        return torch.from_numpy(arrays.reshape(-1, 1, FRAME_PX, FRAME_PX)).float()

    masks = both("masks")
    truth = torch.from_numpy(np.stack([row["truth"] for row in rows])).float()
    return FrameBatch(normalise(both("planes"), masks), masks, both("vessels"), truth)


def batches(samples: list[Sample], pairs: int, seed: int, start: int) -> Iterator[FrameBatch]:
    """A batch a step, from step ``start`` on; each depends on ``(seed, step)`` only. InvalidInput without an image."""
    if not samples:
        raise InvalidInput("samples: no training image")
    cv2.setNumThreads(1)
    return (make_batch(rng, drawn) for rng, drawn in draws(samples, pairs, seed, start))
