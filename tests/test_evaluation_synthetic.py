"""Synthetic suites: the truth is exact, the bounds are the best of their model, and both eyes are seen."""

import numpy as np
import pytest
from fastretina import InvalidInput, Registration, Transform
from fastretina.evaluation import Target, evaluate, markdown, summarise
from fastretina.evaluation.synthetic import best_homography, best_quadratic, synthetic_cases

pytest.importorskip("cv2")

POINTS = np.random.default_rng(0).uniform(100, 540, (300, 2))
BENT = Transform("quadratic", [[5, 1.1, 0.02, 3e-5, -2e-5, 1e-5], [-3, 0.1, 0.9, 1e-5, 2e-5, -4e-5]])


def rms(transform: Transform, goal: Target) -> float:
    return float(np.sqrt(((transform(goal.moving) - goal.fixed) ** 2).sum(1).mean()))


def test_a_model_finds_itself() -> None:
    goal = Target(POINTS, BENT(POINTS))
    assert rms(best_quadratic(goal), goal) < 1e-9
    flat = Transform("homography", [[1.1, 0.1, 5], [-0.1, 0.9, 3], [1e-5, -2e-5, 1]])
    goal = Target(POINTS, flat(POINTS))
    assert rms(best_homography(goal), goal) < 1e-4  # OpenCV iterates to this
    assert best_homography(goal).kind == "homography"


@pytest.mark.parametrize("fit", [best_quadratic, best_homography])
def test_no_neighbour_is_better(fit) -> None:
    wave = np.stack([np.sin(POINTS[:, 1] / 60), np.cos(POINTS[:, 0] / 50)], axis=1)
    goal = Target(POINTS, BENT(POINTS) + wave)
    best = fit(goal)
    least = rms(best, goal)
    assert 0.2 < least < 3
    for index in np.ndindex(best.params.shape):
        if best.kind == "homography" and index == (2, 2):
            continue  # the scale of the matrix
        for step in (-1e-5, 1e-5):
            changed = best.params.copy()
            changed[index] += step * max(abs(changed[index]), 1e-6)
            assert rms(Transform(best.kind, changed), goal) > least * (1 - 1e-9)


class Perfect:
    """Answers with what the case in hand is known to be."""

    def __init__(self, truth) -> None:
        self.truth = truth

    def register(self, fixed: np.ndarray, moving: np.ndarray) -> Registration:
        size = (640, 640)
        return Registration(status="ok", confidence=1.0, transform=self.truth, fixed_size=size, moving_size=size)


def test_cases_of_a_geometry() -> None:
    case = next(iter(synthetic_cases(["quadratic"], 1, seed=3)))
    assert (case.kind, max(case.fixed.shape[:2]), max(case.moving.shape[:2])) == ("quadratic", 640, 640)
    first, second = case.modalities.split(">")
    assert first != second
    assert case.target is not None
    assert case.target.truth is not None
    assert case.target.truth.kind == "quadratic"
    assert len(case.target.moving) >= 100
    rows = evaluate({"ours": Perfect(case.target.truth)}, [case])
    error = {row["method"]: row["error"] for row in rows}
    assert error["ours"] == 0
    assert error["best quadratic"] < 1e-6
    assert error["best homography"] > 0.2  # corners reach 8 px and more beyond it
    table = markdown(summarise(rows))
    assert [line.split("|")[1].strip() for line in table.splitlines()[2:5]] == [
        "ours",
        "best quadratic",
        "best homography",
    ]


def test_a_local_deformation_is_beyond_a_quadratic() -> None:
    case = next(iter(synthetic_cases(["local"], 1)))
    assert case.target is not None
    assert case.target.truth is None  # no transform of ours
    row = next(r for r in evaluate({}, [case]) if r["method"] == "best quadratic")
    assert 0.1 < row["error"] < 6


def test_misuse() -> None:
    with pytest.raises(InvalidInput, match=r"synthetic: got 'affine'; .*allowed: homography, quadratic, local"):
        synthetic_cases(["affine"], 3)
    with pytest.raises(InvalidInput, match="count: got 0"):
        synthetic_cases(["local"], 0)
