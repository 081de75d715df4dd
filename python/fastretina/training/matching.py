"""Batches and loss of a matcher's training, from described views."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastretina.errors import InvalidInput
from fastretina.networks.superglue import Points, normalised
from fastretina.training.views import DescribedView

RIGHT_PX, WRONG_PX = 4.0, 8.0  # nearer: a match; farther from all points of the other view: the dustbin; else ignored
LEAST_POINTS = 32
POOL = 1.4  # points are drawn from the best POOL times as many
TURN_DEG, STRETCH, SHIFT = 8.0, 0.08, 0.05  # by which the places that the network is told are moved, all alike


class MatchBatch(NamedTuple):
    """``B`` pairs of ``K`` points each."""

    fixed: Points
    moving: Points
    match: Tensor  # (T, 3) pair, FIXED, MOVING: the same place
    alone_fixed: Tensor  # (B, K) whether a point of FIXED has no partner
    alone_moving: Tensor  # (B, K)


class PairSource:
    """Draws pairs of views of one image. ``weights``: of the images."""

    def __init__(self, views: list[DescribedView], weights: NDArray[np.float64], pairs: int, points: int, seed: int):
        self.pairs, self.points, self.seed = pairs, points, seed
        groups: dict[int, list[DescribedView]] = {}
        for view in views:
            if len(view.xy) >= LEAST_POINTS:
                groups.setdefault(view.sample, []).append(view)
        self.groups = [(weights[number], group) for number, group in sorted(groups.items()) if len(group) > 1]
        if not self.groups:
            raise InvalidInput(f"samples: no image has two views with {LEAST_POINTS} points or more")
        share = np.array([weight for weight, _ in self.groups])
        self.cumulative = np.cumsum(share / share.sum())

    def batches(self, start: int) -> Iterator[MatchBatch]:
        """Batch ``i`` depends on the seed and ``i`` only."""
        step = start
        while True:
            yield self.batch(step)
            step += 1

    def batch(self, step: int) -> MatchBatch:
        """Of one step: all its pairs have as many points as the poorest view, at most ``points``."""
        rng = np.random.default_rng([self.seed, step])
        views = [self._pair(rng) for _ in range(self.pairs)]
        count = min(self.points, *(len(view.xy) for pair in views for view in pair))
        picks = [[_pick(rng, view, count) for view in pair] for pair in views]
        fixed, moving = (
            collate([told(rng, pair[side], at[side]) for pair, at in zip(views, picks, strict=True)]) for side in (0, 1)
        )
        found = [labels(pair, at) for pair, at in zip(views, picks, strict=True)]
        match = np.concatenate([np.insert(rows, 0, number, axis=1) for number, (rows, _, _) in enumerate(found)])
        alone = (torch.from_numpy(np.stack([f[side] for f in found])) for side in (1, 2))
        return MatchBatch(fixed, moving, torch.from_numpy(match), *alone)

    def _pair(self, rng: np.random.Generator) -> tuple[DescribedView, DescribedView]:
        group = self.groups[min(int(np.searchsorted(self.cumulative, rng.random())), len(self.groups) - 1)][1]
        first, second = rng.choice(len(group), 2, replace=False)
        return group[first], group[second]


def _pick(rng: np.random.Generator, view: DescribedView, count: int) -> NDArray[np.int64]:
    """Points to show, in random order."""
    pool = min(len(view.xy), round(POOL * count))
    return rng.permutation(pool)[:count]


def told(rng: np.random.Generator, view: DescribedView, at: NDArray[np.int64]) -> Points:
    """Points of a view as the network takes them, their places moved by one random similarity."""
    xy = normalised(torch.from_numpy(view.xy[at]), view.size).numpy()
    angle, size = np.radians(rng.uniform(-TURN_DEG, TURN_DEG)), 1 + rng.uniform(-STRETCH, STRETCH)
    turn = size * np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    xy = (xy @ turn + rng.uniform(-SHIFT, SHIFT, 2)).astype(np.float32)
    return Points(*(torch.from_numpy(np.asarray(a, np.float32)) for a in (xy, view.rows[at], view.score[at])))


def collate(points: list[Points]) -> Points:
    """Of single images -> a batch."""
    return Points(*(torch.stack(parts) for parts in zip(*points, strict=True)))


def labels(
    pair: tuple[DescribedView, DescribedView], at: list[NDArray[np.int64]]
) -> tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.bool_]]:
    """(T, 2) mutual nearest points that show the same place, and which points of either view have no partner."""
    first, second = (view.source[pick].astype(np.float64) for view, pick in zip(pair, at, strict=True))
    px = np.sqrt(pair[0].scale * pair[1].scale)  # view px to a px of the image
    distance = px * np.sqrt(np.maximum(_squared(first, second), 0))
    nearest, back = distance.argmin(1), distance.argmin(0)
    row = np.arange(len(first))
    good = (back[nearest] == row) & (distance[row, nearest] < RIGHT_PX)
    rows = np.stack([row[good], nearest[good]], axis=1)
    return rows, distance.min(1) > WRONG_PX, distance.min(0) > WRONG_PX


def _squared(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    cross = first @ second.T
    return (first**2).sum(1)[:, None] - 2 * cross + (second**2).sum(1)[None]


def assignment_loss(found: Tensor, batch: MatchBatch) -> Tensor:
    """Negative log-likelihood of the assignment (Sarlin et al. 2020, section 3.3), matches and dustbins alike.

    ``found``: (B, K + 1, K + 1) log assignment. The paper sums all; there are several times as many points without a
    partner as matches, and their sum would teach the network to match too few.
    """
    pair, row, column = batch.match.T
    matched = -found[pair, row, column]
    alone = -torch.cat([found[:, :-1, -1][batch.alone_fixed], found[:, -1, :-1][batch.alone_moving]])
    parts = [part.mean() for part in (matched, alone) if len(part)]
    return torch.stack(parts).mean() if parts else found.sum() * 0


@torch.no_grad()
def judged(found: Tensor, batch: MatchBatch, threshold: float) -> tuple[float, float]:
    """(precision, recall) of the matches; one whose points are neither matched nor alone does not count."""
    inner = found[:, :-1, :-1]
    best, column = inner.max(2)
    row = torch.arange(inner.shape[1]).expand_as(column)
    good = (inner.argmax(1).gather(1, column) == row) & (best.exp() > threshold)
    truth = torch.full_like(column, -1).masked_fill(~batch.alone_fixed, -2)  # -1: alone, -2: unknown
    truth[batch.match[:, 0], batch.match[:, 1]] = batch.match[:, 2]
    right = good & (truth == column)
    wrong = good & ~right & ((truth >= -1) | batch.alone_moving.gather(1, column))
    hits, misses = int(right.sum()), int(wrong.sum())
    return hits / max(hits + misses, 1), hits / max(len(batch.match), 1)
