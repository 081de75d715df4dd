"""A prepared training image: the appearance of one eye in one geometry, and what is known about it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

REFERENCE_PX_PER_DEG = 14.0
"""Labels are made at this resolution (a 45-degree field on about 630 px), where the ridge scales fit the vessels."""


@dataclass
class Sample:
    """Every array is at ``px_per_deg``; the planes show the same eye in the same geometry."""

    name: str
    weight: float
    px_per_deg: float
    planes: np.ndarray  # (M, H, W) uint8, one a modality; real images have one
    mask: np.ndarray  # (H, W) uint8, 0 or 1
    vessels: np.ndarray  # (H, W) uint8, 255 = vessel
    points: np.ndarray  # (K, 2) float32: positive keypoints
    ignored: np.ndarray  # (L, 2) float32: doubtful ones, neither vessel nor background
    bright: bool


def draws(
    samples: list[Sample], count: int, seed: int, start: int
) -> Iterator[tuple[np.random.Generator, list[Sample]]]:
    """``count`` samples a step by their weights, from step ``start`` on, and the generator for what is made of them;
    both depend on ``(seed, step)`` only.
    """
    weight = np.array([s.weight for s in samples])
    weight /= weight.sum()
    for step in itertools.count(start):
        rng = np.random.default_rng([seed, step])
        yield rng, [samples[i] for i in rng.choice(len(samples), count, p=weight)]
