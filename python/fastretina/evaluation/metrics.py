"""The numbers by which registrations are judged.

Success rates by mean and by maximum error, repeatability and matching inlier ratio follow Sindel et al., "A Keypoint
Detection and Description Network Based on the Vessel Structure for Multi-Modal Retinal Image Registration" (2022).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastretina.transform import Transform

Floats = NDArray[np.float64]

LOST = 1e5  # px; what a point counts that is mapped to infinity


def point_errors(transform: Callable[[Floats], Floats] | None, moving: Floats, fixed: Floats) -> Floats:
    """Distance of every mapped MOVING point (N, 2) from its FIXED place, px of FIXED; infinite without a transform."""
    if transform is None:
        return np.full(len(moving), np.inf)
    distance = np.linalg.norm(transform(moving) - fixed, axis=1)
    return np.asarray(np.minimum(np.nan_to_num(distance, nan=LOST, posinf=LOST), LOST))


def success_rate(errors: ArrayLike, threshold: float) -> float:
    """Share of ALL pairs with an error below the threshold; refused pairs have an infinite one."""
    return float(np.mean(np.asarray(errors, dtype=float) < threshold))


def auc(errors: ArrayLike, limit: int = 25) -> float:
    """Mean success rate over the thresholds 1, 2 ... limit px."""
    return float(np.mean([success_rate(errors, t) for t in range(1, limit + 1)]))


def repeatability(
    keypoints_fixed: Floats,
    keypoints_moving: Floats,
    truth: Transform,
    sizes: tuple[tuple[int, int], tuple[int, int]],
    radius: float,
) -> float:
    """Share of the keypoints in the common area that have one of the other image within ``radius`` px of FIXED.

    ``sizes``: (width, height) of FIXED and MOVING. NaN if no keypoint lies in the common area.
    """
    there = truth(keypoints_moving)
    back = truth.inverse(keypoints_fixed)
    common_moving = there[_inside(there, sizes[0])]
    common_fixed = keypoints_fixed[_inside(back, sizes[1])]
    total = len(common_moving) + len(common_fixed)
    if total == 0:
        return float("nan")
    found = _near(common_moving, keypoints_fixed, radius).sum() + _near(common_fixed, there, radius).sum()
    return float(found / total)


def inlier_ratio(inliers: NDArray[np.bool_]) -> float:
    """Inliers among the matches; 0 if there are none."""
    return float(inliers.mean()) if len(inliers) else 0.0


def auroc(score: ArrayLike, good: ArrayLike) -> float:
    """Probability that a good item has a higher score than a bad one (ties count half); NaN if one kind is missing."""
    rank, is_good = _ranks(np.asarray(score, dtype=float)), np.asarray(good, dtype=bool)
    n = int(is_good.sum())
    if n in (0, len(is_good)):
        return float("nan")
    return float((rank[is_good].sum() - n * (n + 1) / 2) / (n * (len(is_good) - n)))


def calibration_error(confidence: ArrayLike, good: ArrayLike, bins: int = 15) -> float:
    """Mean gap between confidence and success over bins of equal count, weighted by count."""
    values, is_good = np.asarray(confidence, dtype=float), np.asarray(good, dtype=float)
    order = np.argsort(values, kind="stable")
    gaps = [abs(values[part].sum() - is_good[part].sum()) for part in np.array_split(order, bins)]
    return float(sum(gaps) / len(values))


def rank_correlation(a: ArrayLike, b: ArrayLike) -> float:
    """Spearman's: of the ranks, equal values sharing theirs; NaN if all values of one are equal."""
    ranks = [_ranks(np.asarray(v, dtype=float)) for v in (a, b)]
    centred = [r - r.mean() for r in ranks]
    norm = float(np.sqrt((centred[0] ** 2).sum() * (centred[1] ** 2).sum()))
    return float((centred[0] * centred[1]).sum()) / norm if norm > 0 else float("nan")


def _ranks(values: Floats) -> Floats:
    _, inverse, count = np.unique(values, return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(count) - (count - 1) / 2)[inverse])


def calibration_bins(expected: ArrayLike, actual: ArrayLike, bins: int = 10) -> list[tuple[float, float]]:
    """(mean expected, mean actual) of equally many values, from the smallest expected to the largest."""
    e, a = np.asarray(expected, dtype=float), np.asarray(actual, dtype=float)
    parts = [part for part in np.array_split(np.argsort(e, kind="stable"), bins) if len(part)]
    return [(float(e[part].mean()), float(a[part].mean())) for part in parts]


def median(values: Sequence[float]) -> float:
    """The median, infinite if half of the values are."""
    ordered = sorted(values)
    middle = len(ordered) // 2
    if not ordered:
        return float("nan")
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def _inside(xy: Floats, size: tuple[int, int]) -> NDArray[np.bool_]:
    width, height = size
    with np.errstate(invalid="ignore"):
        return np.asarray(((xy >= 0) & (xy <= [width - 1, height - 1])).all(axis=1))


def _near(points: Floats, others: Floats, radius: float) -> NDArray[np.bool_]:
    """Which points have a neighbour among the others."""
    if not len(points) or not len(others):
        return np.zeros(len(points), dtype=bool)
    found = [((others - p) ** 2).sum(axis=1).min() <= radius**2 for p in points]
    return np.array(found)
