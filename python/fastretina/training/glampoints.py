"""Pairs for GLAMPoints with their exact correspondence, and the reward of the points that a network finds in them.

Source: Truong et al., "GLAMpoints: Greedily Learned Accurate Match Points" (ICCV 2019), sections 3.2 and 3.3.  Both
views of a pair have one polarity: root-SIFT sees it, and registration tries both.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastretina import ops
from fastretina.methods import rootsift
from fastretina.training import simulate
from fastretina.training.pairs import random_scale
from fastretina.training.sample import Sample, draws
from fastretina.training.warp import View, random_centre, random_view, sample_view

Floats32 = NDArray[np.float32]

CROP_PX = 256
RADIUS_PX = 10  # of the window maxima that are key points
TRUE_PX = 3.0  # a match is true if it is as near as this to where the point belongs
EDGE_PX = 8  # no key points nearer than this to the crop's border
MAX_POINTS = 400
LATTICE_PX = 3  # where the polarity of two views is compared
RESTYLED = 0.4  # share of the second views in another style
OTHER_PLANE = 0.5  # share of the pairs in two modalities, where there are several


@dataclass
class Batch:
    """``P`` pairs: ``planes``, ``masks`` ``(2P, 1, S, S)``, all first views before all second ones; ``views``: their
    geometry.
    """

    planes: Tensor
    masks: Tensor
    views: list[tuple[View, View]]


def _views(rng: np.random.Generator, sample: Sample) -> tuple[View, View]:
    scale = random_scale(rng, sample)
    ratio = float(np.exp(np.clip(rng.normal(0, 0.1), -0.25, 0.25)))
    start, turn = float(rng.choice([0, 90, 180, 270]) + rng.normal(0, 10)), float(rng.uniform(-20, 20))
    mirrored = bool(rng.random() < 0.5)
    centre = random_centre(rng, sample.mask, CROP_PX, scale)
    shift = rng.uniform(-0.15, 0.15, 2) * CROP_PX / scale
    first = random_view(rng, CROP_PX, centre, scale, start, mirrored)
    return first, random_view(rng, CROP_PX, centre + shift, scale * ratio, start + turn, mirrored)


def make_pair(rng: np.random.Generator, sample: Sample) -> tuple[Floats32, Floats32, tuple[View, View]]:
    """Planes and masks ``(2, S, S)``, and the views."""
    views = _views(rng, sample)
    first = int(rng.integers(len(sample.planes)))
    second = int(rng.integers(len(sample.planes))) if rng.random() < OTHER_PLANE else first
    seen = [sample_view(sample, view, shown) for view, shown in zip(views, (first, second), strict=True)]
    planes = [simulate.retouch(rng, seen[0][0])]
    if rng.random() < RESTYLED:
        planes.append(simulate.restyle(rng, seen[1][0], seen[1][2]))
    else:
        planes.append(simulate.retouch(rng, seen[1][0]))
    if _opposite(planes, seen[0][1], views):
        planes[1] = 1.0 - planes[1]
    if rng.random() < 0.5:
        planes = [1.0 - plane for plane in planes]
    return np.stack(planes), np.stack([s[1] for s in seen]), views


def _opposite(planes: list[Floats32], mask: Floats32, views: tuple[View, View]) -> bool:
    """Whether what is bright in the first view is dark in the second: by the fine structures that both show."""
    fine = [plane - cv2.blur(plane, (25, 25)) for plane in planes]
    y, x = np.mgrid[:CROP_PX:LATTICE_PX, :CROP_PX:LATTICE_PX].reshape(2, -1)
    there = np.round(across(views, np.stack([x, y], 1))).astype(int)
    inside = (mask[y, x] > 0) & np.all((there >= 0) & (there < CROP_PX), axis=1)
    y, x, there = y[inside], x[inside], there[inside]
    return float(np.dot(fine[0][y, x], fine[1][there[:, 1], there[:, 0]])) < 0


def across(views: tuple[View, View], cells: NDArray[Any]) -> NDArray[np.float64]:
    """Where whole px ``(K, 2)`` of the first view lie in the second."""
    return views[1].to_view(views[0].source_map()[cells[:, 1], cells[:, 0]])


def pairs(samples: list[Sample], count: int, seed: int, start: int) -> Iterator[Batch]:
    """Batches of ``count`` pairs from number ``start`` on; batch ``i`` depends on ``(seed, i)`` only."""
    for rng, chosen in draws(samples, count, seed, start):
        made = [make_pair(rng, sample) for sample in chosen]
        planes = np.stack([m[0][view] for view in (0, 1) for m in made])[:, None]
        masks = np.stack([m[1][view] for view in (0, 1) for m in made])[:, None]
        yield Batch(torch.from_numpy(planes), torch.from_numpy(masks), [m[2] for m in made])


def reward(heat: Floats32, planes: Floats32, batch: Batch, seed: int) -> tuple[Floats32, Floats32, float, float]:
    """What points are worth that the maps ``heat`` ``(2P, S, S)`` show on the batch's normalised ``planes``.

    Returns the reward ``(2P, S, S)``, 1 at true matches; the places that count ``(2P, S, S)``: true matches and, drawn
    at random, as many of the other points; the share of the points that are matched truly; points a view.
    """
    sift = cv2.SIFT_create()
    rng = np.random.default_rng(seed)
    wanted, counts = np.zeros_like(heat), np.zeros_like(heat)
    allowed = _allowed(batch.masks[:, 0].numpy())
    half, true_points, all_points = len(batch.views), 0, 0
    for i, views in enumerate(batch.views):
        ends = (i, i + half)
        at = [points(heat[k], allowed[k]) for k in ends]
        matched = ops.match(*(rootsift.describe(sift, planes[k], xy) for k, xy in zip(ends, at, strict=True)))
        partners = (matched.fixed, matched.moving)
        for k, here, there, view_pair, (mine, other) in (
            (ends[0], at[0], at[1], views, partners),
            (ends[1], at[1], at[0], views[::-1], partners[::-1]),
        ):
            cells = here.astype(int)
            target = across(view_pair, cells)
            true = np.zeros(len(cells), np.bool_)
            true[mine] = np.linalg.norm(target[mine] - there[other], axis=1) <= TRUE_PX
            seen = np.all((target >= EDGE_PX) & (target < CROP_PX - EDGE_PX), axis=1)  # by the other view
            false = rng.permutation(np.flatnonzero(~true & seen))[: max(int(true.sum()), 1)]
            wanted[k][cells[true, 1], cells[true, 0]] = 1
            for chosen in (true, false):
                counts[k][cells[chosen, 1], cells[chosen, 0]] = 1
            true_points, all_points = true_points + int(true.sum()), all_points + len(cells)
    return wanted, counts, true_points / max(all_points, 1), all_points / len(heat)


def _allowed(masks: Floats32) -> NDArray[np.uint8]:
    """Where there may be key points, ``(2P, S, S)``: not at the border, whose surroundings one view does not show."""
    allowed = np.zeros(masks.shape, np.uint8)
    inner = slice(EDGE_PX, -EDGE_PX)
    allowed[:, inner, inner] = masks[:, inner, inner] > 0
    return allowed


def points(heat: Floats32, allowed: NDArray[np.uint8]) -> Floats32:
    """``(K, 2)`` whole px, best first."""
    return ops.nms(heat, allowed, radius=RADIUS_PX, threshold=0.0, max_keypoints=MAX_POINTS).xy
