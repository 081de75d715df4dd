"""Multi-modal pairs of synthetic eyes, whose truth is known exactly, beside the best that a model could do.

Two cameras of different modality see one eye under a homography, a quadratic or a local deformation; their fields of
view differ by at most a factor of three. Each comes with two bounds: the quadratic and the homography that are nearest
to the truth, by least squares over the points that both cameras see.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from fastretina.config import nearest
from fastretina.errors import InvalidInput
from fastretina.evaluation.cases import FRAME_PX, Case, Target
from fastretina.synth import SyntheticPair, synthetic_pair
from fastretina.synth.cameras import CAMERAS
from fastretina.synth.geometry import GEOMETRIES
from fastretina.transform import Transform

MAX_FIELD_RATIO = 3.0

_FIRST_EYE = 10_000_000  # training and tests take smaller numbers
_POINTS = 2000  # about how many of the visible points the error is a mean of
_MARGIN = 0.1  # around what a cropped image shares with the other, of its size
_MIN_POINTS = 100  # seen by both, of these: 5 % of the frame


@dataclass(frozen=True)
class Suite:
    """What is drawn: the kind that its cases bear, and between which modalities (empty: any two different ones).

    ``cropped``: the image that shows more is cut to what the other one shows, and a tenth more to each side.
    """

    kind: str
    geometry: str = "homography"
    modalities: tuple[tuple[str, str], ...] = ()
    health: str = "any"
    cropped: bool = False


def synthetic_cases(geometries: Sequence[str], count: int, seed: int = 0) -> Iterator[Case]:
    """``count`` pairs of each geometry, the same for the same ``seed``; the kind is the geometry."""
    for geometry in geometries:
        if geometry not in GEOMETRIES:
            raise InvalidInput(f"synthetic: got {geometry!r}; {nearest(geometry, list(GEOMETRIES))}")
    return map(_bounded, suite_cases([Suite(geometry, geometry) for geometry in geometries], count, seed))


def _bounded(case: Case) -> Case:
    assert case.target is not None
    bounds = {"best quadratic": best_quadratic(case.target), "best homography": best_homography(case.target)}
    return replace(case, bounds=bounds)


def suite_cases(suites: Sequence[Suite], count: int, seed: int = 0) -> Iterator[Case]:
    """``count`` pairs of each suite, the same for the same ``seed``."""
    if count < 1:
        raise InvalidInput(f"count: got {count}; allowed: 1 or more")
    return (case for suite in suites for case in _of_suite(suite, count, seed))


def _of_suite(suite: Suite, count: int, seed: int) -> Iterator[Case]:
    rng = np.random.default_rng(seed)
    size = (int(FRAME_PX), int(FRAME_PX))
    made, number = 0, _FIRST_EYE + 100_000 * seed
    while made < count:
        if suite.modalities:
            fixed, moving = suite.modalities[int(rng.integers(len(suite.modalities)))]
        else:
            fixed, moving = (str(m) for m in rng.choice(list(CAMERAS), 2, replace=False))
        pair = synthetic_pair(number, size, (fixed, moving), "moderate", suite.geometry, suite.health)
        goal = _target(pair)
        if len(goal.moving) >= _MIN_POINTS and max(ratio := _scale(pair), 1 / ratio) <= MAX_FIELD_RATIO:
            name = f"{suite.kind[:5]}_{number - _FIRST_EYE:05d}"
            case = Case(name, suite.kind, f"{fixed}>{moving}", pair.fixed, pair.moving, goal)
            yield _cropped(case, ratio < 1) if suite.cropped else case
            made += 1
        number += 1


def _target(pair: SyntheticPair) -> Target:
    """On a lattice over MOVING, where both cameras see."""
    height, width = pair.visible.shape
    step = max(1, round(math.sqrt(width * height / _POINTS)))
    y, x = np.mgrid[step // 2 : height : step, step // 2 : width : step]
    seen = pair.visible[y, x]
    points = np.stack([x[seen], y[seen]], axis=1).astype(np.float64)
    return Target(points, pair.truth(points), pair.truth if isinstance(pair.truth, Transform) else None)


def _cropped(case: Case, fixed: bool) -> Case:
    """FIXED, else MOVING, cut to the points of the target and a margin."""
    assert case.target is not None
    goal, image = case.target, case.fixed if fixed else case.moving
    points = goal.fixed if fixed else goal.moving
    low, high = points.min(0), points.max(0)
    margin = _MARGIN * (high - low)
    left, top = np.maximum(low - margin, 0).astype(int)
    right, bottom = np.minimum(high + margin + 1, image.shape[1::-1]).astype(int)
    part = np.ascontiguousarray(image[top:bottom, left:right])
    if fixed:
        shift = Transform.from_matrix([[1, 0, -left], [0, 1, -top]])
        truth = shift @ goal.truth if goal.truth else None
        return replace(case, fixed=part, target=replace(goal, fixed=goal.fixed - (left, top), truth=truth))
    shift = Transform.from_matrix([[1, 0, left], [0, 1, top]])
    truth = goal.truth @ shift if goal.truth else None
    return replace(case, moving=part, target=replace(goal, moving=goal.moving - (left, top), truth=truth))


def _scale(pair: SyntheticPair) -> float:
    """Px of FIXED to a px of MOVING, in the middle."""
    height, width = pair.visible.shape
    middle = np.array([width / 2, height / 2])
    there = pair.truth(middle + np.array([[-1.0, 0], [1, 0], [0, -1], [0, 1]]))
    (a, b), (c, d) = (there[1] - there[0]) / 2, (there[3] - there[2]) / 2
    return math.sqrt(abs(float(a * d - b * c)))


def best_quadratic(goal: Target) -> Transform:
    """The quadratic with the least squared error at the points of a target."""
    middle, unit = goal.moving.mean(axis=0), float(np.ptp(goal.moving, axis=0).max()) / 2
    x, y = ((goal.moving - middle) / unit).T
    design = np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=1)
    coefficients, *_ = np.linalg.lstsq(design, goal.fixed, rcond=None)
    to_unit = Transform.from_matrix([[1 / unit, 0, -middle[0] / unit], [0, 1 / unit, -middle[1] / unit]])
    return Transform("quadratic", coefficients.T) @ to_unit


def best_homography(goal: Target) -> Transform:
    """The homography with the least squared error at the points of a target."""
    import cv2

    matrix, _ = cv2.findHomography(goal.moving, goal.fixed, 0)  # 0: all points, refined by Levenberg-Marquardt
    return Transform.from_matrix(matrix, "homography")
