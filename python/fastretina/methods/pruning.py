"""Pruning: which matches their neighbours confirm, before any transform is known.

The idea of the references of Zhao & Guan (document C, [21] and [22]; NM-Net, Zhao et al. 2019: a match is judged in a
neighbourhood of matches that are consistent with it), without a network: a right match and a right neighbour define a
similarity that predicts the other right neighbours; those of a wrong match agree with nothing.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats32 = NDArray[np.float32]

NEIGHBOURS = 12
SUPPORT = 2  # further neighbours that one similarity has to predict
TOLERANCE_PX = 4.0
TOLERANCE = 0.06  # of the distance over which is predicted: perspective and the eye's curvature
LARGEST_SCALE = 3.0
CHUNK = 512  # matches at a time: bounds the memory


def locally_consistent(fixed: Floats32, moving: Floats32) -> NDArray[np.bool_]:
    """Matched points (M, 2) of FIXED and MOVING, px of the frames -> (M,) which to keep.

    For each match, its ``NEIGHBOURS`` nearest matches in either image are asked: is there one that together with it
    defines a similarity (of a scale within ``LARGEST_SCALE``) under which at least ``SUPPORT`` others fall within the
    tolerance? Too few matches to ask are kept as they are.
    """
    count = len(fixed)
    if count < SUPPORT + 2:
        return np.ones(count, np.bool_)
    # A similarity that does not mirror is one complex factor: MOVING's offsets times it are FIXED's.
    f, m = (points.astype(np.float64) @ np.array([1, 1j]) for points in (fixed, moving))
    keep = np.zeros(count, np.bool_)
    for start in range(0, count, CHUNK):
        own = np.arange(start, min(start + CHUNK, count))
        asked = np.concatenate([_nearest(f, own), _nearest(m, own)], axis=1)  # a neighbour in both counts once, below
        keep[own] = _support(f[asked] - f[own, None], m[asked] - m[own, None], asked) >= SUPPORT
    return keep


def _nearest(points: NDArray[np.complex128], own: NDArray[np.int64]) -> NDArray[np.int64]:
    """The nearest other points of each of ``own``; equal distances in the order of the points."""
    distance = np.abs(points[own, None] - points[None])
    distance[np.arange(len(own)), own] = np.inf
    return np.argsort(distance, axis=1, kind="stable")[:, : min(NEIGHBOURS, len(points) - 1)]


def _support(f: NDArray[np.complex128], m: NDArray[np.complex128], asked: NDArray[np.int64]) -> NDArray[np.int64]:
    """Offsets (C, K) of the neighbours in both images -> the most that one neighbour's similarity predicts."""
    order = np.argsort(asked, axis=1, kind="stable")
    asked = np.take_along_axis(asked, order, axis=1)
    f, m = np.take_along_axis(f, order, axis=1), np.take_along_axis(m, order, axis=1)
    fresh = np.ones(asked.shape, np.bool_)
    fresh[:, 1:] = asked[:, 1:] != asked[:, :-1]
    # One point of an image may be matched to several of the other: such neighbours say nothing of scale and turn.
    apart = (np.abs(f) > TOLERANCE_PX) & (np.abs(m) > TOLERANCE_PX)
    factor = np.divide(f, m, out=np.zeros_like(f), where=apart)
    size = np.abs(factor)
    plausible = fresh & apart & (size < LARGEST_SCALE) & (size > 1 / LARGEST_SCALE)
    predicted = factor[:, :, None] * m[:, None, :]  # (C, by, of)
    off = np.abs(predicted - f[:, None, :])
    agrees = (off < TOLERANCE_PX + TOLERANCE * np.abs(f)[:, None, :]) & (fresh & apart)[:, None, :]
    agrees[:, np.arange(f.shape[1]), np.arange(f.shape[1])] = False
    return (agrees.sum(axis=2) * plausible).max(axis=1)
