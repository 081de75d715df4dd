"""The classical registrars: what each was made for, on synthetic eyes and on a picture turned, inverted and cut."""

import numpy as np
import pytest
from fastretina import Transform
from fastretina.evaluation import evaluate
from fastretina.evaluation.baselines import BASELINES
from fastretina.evaluation.cases import Case, Target
from fastretina.evaluation.perturb import perturb
from fastretina.synth import SyntheticPair, synthetic_pair

pytest.importorskip("cv2")

SIDE = 420


@pytest.fixture(scope="module")
def pair() -> SyntheticPair:
    return synthetic_pair(5, (SIDE, SIDE), ("CF", "FA"), "easy")


@pytest.fixture(scope="module")
def eye(pair: SyntheticPair) -> np.ndarray:
    return pair.fixed[..., 1].copy()


def error(name: str, fixed: np.ndarray, moving: np.ndarray, truth: Transform) -> float:
    points = np.random.default_rng(0).uniform(120, 300, (50, 2))
    case = Case("a", "k", "", fixed, moving, Target(points, truth.inverse(points), truth.inverse))
    return evaluate({name: BASELINES[name]}, [case])[0]["error"]


@pytest.mark.parametrize("name", BASELINES)
def test_a_cut_image_is_found_to_a_tenth_of_a_pixel(eye: np.ndarray, name: str) -> None:
    cut = eye[10:, 7:]
    assert error(name, eye, cut, Transform.from_matrix([[1, 0, -7], [0, 1, -10]])) < 0.15  # px of a 640-px frame


@pytest.mark.parametrize(("name", "finds"), [("sift", True), ("rootsift", True), ("symmetric-sift", False)])
def test_the_upright_one_does_not_turn(eye: np.ndarray, name: str, finds: bool) -> None:
    turned, change = perturb(eye, "rot90", "a")
    assert (error(name, eye, turned, change) < 2) == finds


@pytest.mark.parametrize(("name", "finds"), [("sift", False), ("rootsift", True), ("symmetric-sift", True)])
def test_polarity(eye: np.ndarray, name: str, finds: bool) -> None:
    cut = 255 - eye[10:, 7:]
    assert (error(name, eye, cut, Transform.from_matrix([[1, 0, -7], [0, 1, -10]])) < 1) == finds


@pytest.mark.parametrize("name", BASELINES)
def test_sizes_and_depths_may_differ(eye: np.ndarray, name: str) -> None:
    moving = np.repeat(eye[::2, ::2, None].astype(np.uint16) * 257, 3, axis=2)  # pixel i shows pixel 2i
    assert error(name, eye, moving, Transform.from_matrix([[0.5, 0, 0], [0, 0.5, 0]])) < 3


@pytest.mark.parametrize("name", BASELINES)
def test_nothing_to_see_is_refused(eye: np.ndarray, name: str) -> None:
    result = BASELINES[name].register(eye, np.zeros((100, 120), np.uint8))
    assert result.status == "too_few_matches"
    assert result.transform is None
    assert np.isnan(result.confidence)
    assert result.moving_size == (120, 100)


@pytest.mark.parametrize("name", BASELINES)
def test_the_same_every_time(pair: SyntheticPair, name: str) -> None:
    first, second = (BASELINES[name].register(pair.fixed, pair.moving) for _ in range(2))
    assert first.transform == second.transform
    np.testing.assert_array_equal(first.inliers, second.inliers)
