"""Classical registrars to compare with, in OpenCV: local features, mutual nearest neighbours, RANSAC.

Each works on the plane that shows vessels best (green of a colour image) with its contrast evened out, at a longer side
of 768 px, accepts whatever RANSAC returns, and states no confidence. Settings were chosen on real multi-modal pairs.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastretina.transform import Transform
from fastretina.types import Registration

Plane = NDArray[np.uint8]
Floats32 = NDArray[np.float32]

_LONGER_SIDE_PX = 768
_KEYPOINTS = 4000
_CONTRAST = 0.02  # half of OpenCV's threshold: vessels of angiograms and of the infrared are faint
_RANSAC_PX = 5.0


class Features(NamedTuple):
    xy: Floats32  # (N, 2)
    rows: Floats32  # (N, D), compared by their Euclidean distance


class Fit(NamedTuple):
    matches: NDArray[np.int64]  # (M, 2) indices into the features of FIXED and of MOVING
    matrix: NDArray[np.float64] | None  # (3, 3), MOVING to FIXED
    inliers: NDArray[np.bool_]  # (M,)


@dataclass(frozen=True)
class Classical:
    """Describes both planes, matches, fits a transform."""

    describe: Callable[[Plane], Features]
    kind: str  # homography or similarity
    ratio: float = 1.0  # of the distances to the nearest and the second nearest neighbour, at most
    both_polarities: bool = False  # try MOVING's inverse, too

    def register(self, fixed: NDArray[Any], moving: NDArray[Any]) -> Registration:
        """As ``Registrar.register``, of images only."""
        (plane_f, scale_f), (plane_m, scale_m) = _plane(fixed), _plane(moving)
        f = self.describe(plane_f)
        planes = (plane_m, 255 - plane_m) if self.both_polarities else (plane_m,)
        tries = [(m, _fit(f, m, self.kind, self.ratio)) for m in map(self.describe, planes)]
        m, fit = max(tries, key=lambda t: int(t[1].inliers.sum()))
        transform = None
        if fit.matrix is not None:
            transform = Transform.from_matrix(_resized(scale_f), "affine").inverse @ Transform.from_matrix(fit.matrix)
            transform = transform @ Transform.from_matrix(_resized(scale_m), "affine")
        xy_f, xy_m = _full(f.xy, scale_f), _full(m.xy, scale_m)
        return Registration(
            status="ok" if transform is not None else "too_few_matches",
            confidence=math.nan,
            transform=transform,
            fixed_size=(fixed.shape[1], fixed.shape[0]),
            moving_size=(moving.shape[1], moving.shape[0]),
            matches=np.hstack([xy_f[fit.matches[:, 0]], xy_m[fit.matches[:, 1]]]),
            match_scores=np.zeros(len(fit.matches)),
            inliers=fit.inliers,
            keypoints_fixed=xy_f,
            keypoints_moving=xy_m,
        )


def sift(plane: Plane) -> Features:
    """Lowe, "Distinctive Image Features from Scale-Invariant Keypoints" (2004)."""
    import cv2

    points, rows = cv2.SIFT_create(_KEYPOINTS, contrastThreshold=_CONTRAST).detectAndCompute(plane, None)
    return _features(points, rows)


def root_sift(plane: Plane) -> Features:
    """Arandjelovic and Zisserman, "Three Things Everyone Should Know to Improve Object Retrieval" (2012)."""
    xy, rows = sift(plane)
    return Features(xy, _root(rows))


def symmetric_sift(plane: Plane) -> Features:
    """Upright SIFT that does not see polarity, in the manner of Chen et al., "A Partial Intensity Invariant Feature
    Descriptor for Multimodal Retinal Image Registration" (2010): opposite directions of the gradient are one, a cell's
    histogram over half a turn keeps their sum and the size of their difference.
    """
    import cv2

    detector = cv2.SIFT_create(_KEYPOINTS, contrastThreshold=_CONTRAST)
    unique = {(p.pt, p.size): p for p in detector.detect(plane, None)}  # one a place: its directions do not matter
    for point in unique.values():
        point.angle = 0.0
    points, rows = detector.compute(plane, list(unique.values()))
    xy, rows = _features(points, rows)
    opposite = rows.reshape(-1, 16, 2, 4)  # cell, half turn, direction
    folded = np.stack([opposite.sum(2), np.abs(opposite[:, :, 0] - opposite[:, :, 1])], axis=2)
    return Features(xy, _root(folded.reshape(-1, 128)))


BASELINES = {
    "sift": Classical(sift, "homography", ratio=0.8),
    "rootsift": Classical(root_sift, "similarity", both_polarities=True),
    "symmetric-sift": Classical(symmetric_sift, "similarity"),
}


def _plane(image: NDArray[Any]) -> tuple[Plane, float]:
    """The 8-bit plane that is described, and its size relative to the image."""
    import cv2

    plane = image[..., 1] if image.ndim == 3 else image
    if plane.dtype != np.uint8:
        plane = cv2.normalize(plane.astype(np.float32), None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)
    scale = _LONGER_SIDE_PX / max(plane.shape)
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    plane = cv2.resize(np.ascontiguousarray(plane), None, fx=scale, fy=scale, interpolation=how)
    return np.asarray(cv2.createCLAHE(2.0, (8, 8)).apply(plane), np.uint8), scale


def _resized(scale: float) -> list[list[float]]:
    """Pixel centres: x' = (x + 1/2) s - 1/2."""
    shift = 0.5 * scale - 0.5
    return [[scale, 0, shift], [0, scale, shift]]


def _full(xy: Floats32, scale: float) -> NDArray[np.float64]:
    return (xy.astype(np.float64) + 0.5) / scale - 0.5


def _features(points: Any, rows: Any) -> Features:
    if rows is None or not len(points):
        return Features(np.zeros((0, 2), np.float32), np.zeros((0, 128), np.float32))
    return Features(np.array([p.pt for p in points], np.float32), rows)


def _root(rows: Floats32) -> Floats32:
    return np.sqrt(rows / np.maximum(rows.sum(axis=1, keepdims=True), 1e-6)).astype(np.float32)


def _fit(fixed: Features, moving: Features, kind: str, ratio: float) -> Fit:
    import cv2

    least = 4 if kind == "homography" else 2
    matches = _matched(fixed, moving, ratio)
    nothing = np.zeros(len(matches), bool)
    if len(matches) < least:
        return Fit(matches, None, nothing)
    source, goal = moving.xy[matches[:, 1]], fixed.xy[matches[:, 0]]
    cv2.setRNGSeed(0)  # the same input gives the same answer
    if kind == "homography":
        matrix, inliers = cv2.findHomography(source, goal, cv2.USAC_ACCURATE, _RANSAC_PX, None, 10000, 0.999)
    else:
        matrix, inliers = cv2.estimateAffinePartial2D(
            source, goal, method=cv2.RANSAC, ransacReprojThreshold=_RANSAC_PX, maxIters=10000, confidence=0.999
        )
    if matrix is None or not np.isfinite(matrix).all():
        return Fit(matches, None, nothing)
    return Fit(matches, np.vstack([matrix, [[0, 0, 1]]])[:3], inliers.ravel().astype(bool))


def _matched(fixed: Features, moving: Features, ratio: float) -> NDArray[np.int64]:
    """(M, 2): mutual nearest neighbours that are nearer than ``ratio`` times MOVING's second nearest."""
    import cv2

    if len(moving.xy) < 1 or len(fixed.xy) < 2:
        return np.zeros((0, 2), np.int64)
    matcher = cv2.BFMatcher(cv2.NORM_L2)
    back = {m.queryIdx: m.trainIdx for m in matcher.match(fixed.rows, moving.rows)}
    found = matcher.knnMatch(moving.rows, fixed.rows, k=2)
    clear = [a for a, b in found if a.distance <= ratio * b.distance and back[a.trainIdx] == a.queryIdx]
    return np.array([(a.trainIdx, a.queryIdx) for a in clear], np.int64).reshape(-1, 2)
