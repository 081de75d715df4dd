"""Metrics by hand tables; perturbations by where they put a marked spot; the evaluation with a known registrar."""

import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
from fastretina import InvalidInput, Registration, Transform
from fastretina.evaluation import (
    Case,
    Target,
    evaluate,
    load_pairs,
    markdown,
    metrics,
    pair_cases,
    perturb,
    plot,
    summarise,
)
from fastretina.evaluation.pairs import target
from fastretina.io import write_image
from fastretina.synth import synthetic_pair

pytest.importorskip("cv2")


def test_success_and_auc_by_hand() -> None:
    errors = [0.5, 2.0, 4.9, math.inf]
    assert metrics.success_rate(errors, 2) == 0.25  # below, not at
    assert metrics.success_rate(errors, 5) == 0.75
    # thresholds 1, 2: one pair; 3, 4: two; 5 ... 25: three
    assert metrics.auc(errors) == pytest.approx((2 * 0.25 + 2 * 0.5 + 21 * 0.75) / 25)
    assert metrics.median(errors) == pytest.approx(3.45)
    assert metrics.median([1, math.inf, math.inf]) == math.inf
    assert math.isnan(metrics.median([]))


def test_auroc_and_calibration_by_hand() -> None:
    assert metrics.auroc([0.9, 0.8, 0.3, 0.1], [1, 1, 0, 0]) == 1
    assert metrics.auroc([0.9, 0.5, 0.5, 0.1], [1, 1, 0, 0]) == 0.875
    assert metrics.auroc([0.1, 0.4, 0.35, 0.8], [0, 0, 1, 1]) == 0.75
    assert metrics.auroc([0.5, 0.5], [0, 1]) == 0.5
    assert metrics.auroc([0.9, 0.1], [0, 1]) == 0
    assert math.isnan(metrics.auroc([0.9], [1]))
    assert metrics.calibration_error([0.2, 0.2, 0.9, 0.9], [0, 0, 1, 1], bins=2) == pytest.approx(0.15)
    assert metrics.calibration_error([0.5, 0.5], [0, 1], bins=1) == 0


def test_ranks_and_bins_by_hand() -> None:
    assert metrics.rank_correlation([1, 2, 3], [10, 400, 500]) == pytest.approx(1)
    assert metrics.rank_correlation([1, 2, 3], [3, 2, 1]) == pytest.approx(-1)
    assert metrics.rank_correlation([1, 2, 3, 4], [1, 3, 2, 4]) == pytest.approx(0.8)  # 1 - 6 * 2 / (4 * 15)
    assert metrics.rank_correlation([1, 1, 2], [5, 6, 7]) == pytest.approx(1.5 / np.sqrt(1.5 * 2))
    assert math.isnan(metrics.rank_correlation([1, 1], [1, 2]))
    assert metrics.calibration_bins([0.4, 0.1, 0.2, 0.3], [4, 1, 2, 6], bins=2) == [
        (pytest.approx(0.15), 1.5),
        (pytest.approx(0.35), 5.0),
    ]


def test_repeatability_by_hand() -> None:
    truth = Transform.from_matrix([[1, 0, 10], [0, 1, 0]])
    fixed = np.array([[20.0, 5.0], [50.0, 50.0], [3.0, 3.0]])  # the last is left of MOVING
    moving = np.array([[11.0, 5.0], [80.0, 20.0], [95.0, 3.0]])  # the last is right of FIXED
    sizes = ((100, 100), (100, 100))
    # common: two of FIXED, two of MOVING; (20, 5) and (21, 5) find each other
    assert metrics.repeatability(fixed, moving, truth, sizes, radius=2) == 0.5
    assert metrics.repeatability(fixed, moving, truth, sizes, radius=0.5) == 0
    assert math.isnan(metrics.repeatability(fixed[:0], moving[:0], truth, sizes, radius=2))


def test_lost_points_are_far_but_finite() -> None:
    pole = Transform("homography", [[1, 0, 0], [0, 1, 0], [1, 0, 0]])
    errors = metrics.point_errors(pole, np.array([[0.0, 1.0], [2.0, 2.0]]), np.array([[0.0, 0.0], [1.0, 1.0]]))
    assert errors.tolist() == [metrics.LOST, 0.0]
    assert np.isinf(metrics.point_errors(None, np.zeros((2, 2)), np.zeros((2, 2)))).all()


@pytest.mark.parametrize("kind", ["none", "mirror", "rot30", "rot180", "scale1.5", "crop0.5"])
def test_perturbed_pixels_are_where_the_transform_says(kind: str) -> None:
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:90, :120]
    spot = np.array([rng.uniform(55, 65), rng.uniform(40, 50)])
    image = (250 * np.exp(-((x - spot[0]) ** 2 + (y - spot[1]) ** 2) / 18)).astype(np.uint8)
    keep = spot + np.random.default_rng(1).normal(0, 8, (200, 2))  # a crop holds the whole spot
    changed, transform = perturb(image, kind, "a pair", keep)
    weights = changed.astype(float) ** 2
    yy, xx = np.mgrid[: changed.shape[0], : changed.shape[1]]
    centre = [(weights * xx).sum() / weights.sum(), (weights * yy).sum() / weights.sum()]
    np.testing.assert_allclose(centre, transform(spot), atol=0.1)
    again, same = perturb(image, kind, "a pair", keep)
    np.testing.assert_array_equal(changed, again)
    assert same == transform


@pytest.mark.parametrize("kind", ["", "rot", "rotx", "crop1", "crop-1", "scale0", "blur3", "scalenan"])
def test_unknown_perturbations(kind: str) -> None:
    with pytest.raises(InvalidInput, match="allowed: none, mirror, rot<degrees>"):
        perturb(np.zeros((9, 9)), kind, "a")


class Oracle:
    """Knows the truth of unperturbed pairs, and never doubts itself."""

    def __init__(self, truth: Transform) -> None:
        self.truth = truth

    def register(self, fixed: np.ndarray, moving: np.ndarray) -> Registration:
        if moving.mean() < 1:
            raise RuntimeError("a crash")
        sizes = {"fixed_size": (fixed.shape[1], fixed.shape[0]), "moving_size": (moving.shape[1], moving.shape[0])}
        return Registration(status="ok", confidence=0.8, transform=self.truth, **sizes)


@pytest.fixture
def folder(tmp_path: Path) -> tuple[Path, Transform]:
    pair = synthetic_pair(1, size=(200, 200))
    truth = pair.transform
    entries = []
    for name in ("a", "b"):
        write_image(tmp_path / f"{name}_f.png", pair.fixed)
        write_image(tmp_path / f"{name}_m.png", pair.moving)
        entries.append({"id": name, "group": name, "fixed": f"{name}_f.png", "moving": f"{name}_m.png",
                        "modality_fixed": "CF", "modality_moving": "FA",
                        "H_refined": truth.params.tolist()})  # fmt: skip
    points = np.random.default_rng(0).uniform(60, 140, (8, 2))
    del entries[1]["H_refined"]
    entries[1] |= {"landmarks_moving": points.tolist(), "landmarks_fixed": truth(points).tolist()}
    entries.append({"id": "c", "quality": "exclude"})
    (tmp_path / "pairs.json").write_text(json.dumps({"pairs": entries}))
    return tmp_path, truth


def scored(truth: Transform, pairs: list, kinds: tuple = ("none",), wrong: bool = False) -> list[dict]:
    return evaluate({"oracle": Oracle(truth)}, pair_cases(pairs, kinds, wrong))


def test_an_oracle_scores_full_marks(folder: tuple[Path, Transform]) -> None:
    pairs = load_pairs(folder[0])
    assert [p.id for p in pairs] == ["a", "b"]
    summary = summarise(scored(folder[1], pairs, ("none", "mirror"), wrong=True))["oracle"]
    assert summary["none"]["sr_me_2"] == summary["none"]["sr_mae_2"] == 1
    assert summary["none"]["auc25"] == 1
    assert summary["none"]["silent_failures"] == summary["none"]["refused"] == 0
    assert summary["mirror"]["silent_failures"] == 2
    assert summary["all"]["n"] == 4
    assert summary["all"]["sr_me_2"] == summary["mean of none, mirror"]["sr_me_2"] == 0.5
    assert "none CF>FA" not in summary  # all are of it
    wrong = summary["wrong"]
    assert (wrong["n"], wrong["false_accepts"], wrong["exceptions"]) == (2, 2, 0)
    assert wrong["highest"][0] == {"id": "a|b", "confidence": 0.8, "ok": True}
    table = markdown({"oracle": summary})
    assert re.search(r"\| oracle \| none +\| 2 +\| 100.0% \|", table)
    assert "Wrong pairs (oracle): 2 of 2 accepted, 0 crashed." in table
    assert "Most confident of them: a|b 0.800, b|a 0.800." in table


class Fixed:
    """Answers with one transform, sure of it or not."""

    def __init__(self, transform: Transform, status: str = "ok", confidence: float = 0.5) -> None:
        self.transform, self.status, self.confidence = transform, status, confidence

    def register(self, fixed: np.ndarray, moving: np.ndarray) -> Registration:
        sizes = {"fixed_size": fixed.shape[1::-1], "moving_size": moving.shape[1::-1]}
        return Registration(status=self.status, confidence=self.confidence, transform=self.transform, **sizes)


def shift(pixels: float) -> Transform:
    return Transform.from_matrix([[1, 0, pixels], [0, 1, 0]])


def test_methods_and_bounds_share_a_table_in_px_of_the_frame() -> None:
    image, points = np.zeros((100, 200), np.uint8), np.array([[3.0, 4.0], [50.0, 60.0]])
    goal = Target(points, points, Transform.identity(), np.repeat(points, 3, axis=0), np.repeat(points, 3, axis=0))
    cases = [Case("a", "k", "CF>FA", image, image, goal, 2000.0, {"best shift": shift(0.3)}),
             Case("b", "k", "CF>IR", image, image, goal, 2000.0)]  # fmt: skip
    methods = {
        "near": Fixed(shift(2)),
        "far": Fixed(shift(4), confidence=math.nan),
        "shy": Fixed(shift(1), "implausible"),
    }
    rows = evaluate(methods, cases)
    # 200 px wide, judged at 2000: each px counts 10; 10 px of 640 are 31.25 of 2000, 5 px are 15.6
    assert {r["method"]: r["candidate_error"] for r in rows} == pytest.approx(
        {"near": 20, "far": 40, "shy": 10, "best shift": 3}
    )
    assert {r["method"]: r["silent"] for r in rows} == {"near": False, "far": True, "shy": False, "best shift": False}
    assert {r["method"]: r["good"] for r in rows} == {"near": False, "far": False, "shy": True, "best shift": True}
    assert {r["landmark_error"] for r in rows if r["method"] == "near"} == {20.0}
    summary = summarise(rows)
    assert list(summary) == ["near", "far", "shy", "best shift"]
    assert summary["shy"]["k"]["refused"] == 2
    assert summary["shy"]["k"]["auc25"] == 0
    assert summary["shy"]["k"]["auc25_raw"] == pytest.approx(15 / 25)  # thresholds 11 ... 25
    assert summary["best shift"]["k"]["n"] == 1
    assert "confidence" in summary["near"]
    assert "confidence" not in summary["far"]  # it states none
    assert summary["near"]["k CF>IR"]["n"] == 1
    lines = markdown(summary).splitlines()
    assert [line.split("|")[1].strip() for line in lines[2:12:3]] == ["near", "far", "shy", "best shift"]
    assert all(len(line) == len(lines[0]) for line in lines[:12])


def test_landmarks_of_a_crop_stay_on_their_pixels(folder: tuple[Path, Transform]) -> None:
    pair = load_pairs(folder[0])[1]
    fixed, moving = pair.read()
    changed, change = perturb(moving, "crop0.5", "b", keep=pair.landmarks_moving)
    goal = target(pair, fixed, changed, change)
    assert goal is not None
    np.testing.assert_allclose(folder[1](change.inverse(goal.moving)), goal.fixed, atol=1e-9)


def test_few_landmarks_left_are_replaced_by_their_homography(folder: tuple[Path, Transform]) -> None:
    pair = load_pairs(folder[0])[1]
    fixed, moving = pair.read()
    cropped, change = moving[:, :100], Transform.from_matrix([[1, 0, 0], [0, 1, 0]])
    assert (pair.landmarks_moving[:, 0] < 100).sum() < 6
    goal = target(pair, fixed, cropped, change)
    assert goal is not None
    assert len(goal.moving) > 20  # of the grid
    np.testing.assert_allclose(folder[1](goal.moving), goal.fixed, atol=1e-3)  # rounding of OpenCV's fit


def test_a_crash_is_a_miss(folder: tuple[Path, Transform]) -> None:
    write_image(folder[0] / "a_m.png", np.zeros((200, 200), np.uint8))
    pairs = load_pairs(folder[0])
    assert target(pairs[0], *pairs[0].read(), Transform.identity()) is None  # nothing to be seen: not scored
    assert scored(folder[1], pairs[1:])[0]["ok"]
    write_image(folder[0] / "b_m.png", np.zeros((200, 200), np.uint8))
    row = scored(folder[1], load_pairs(folder[0])[1:])[0]
    assert not row["ok"]
    assert row["status"] == "exception: a crash"
    assert row["error"] == math.inf
    assert row["exception"]
    numbers = summarise([row])["oracle"]["none"]
    assert (numbers["exceptions"], numbers["refused"], numbers["sr_me_10"]) == (1, 0, 0)


def test_a_crash_on_a_wrong_pair_is_no_refusal(folder: tuple[Path, Transform]) -> None:
    write_image(folder[0] / "a_m.png", np.zeros((200, 200), np.uint8))  # crossed with b it crashes the oracle
    summary = summarise(scored(folder[1], load_pairs(folder[0]), wrong=True))
    wrong = summary["oracle"]["wrong"]
    assert (wrong["n"], wrong["false_accepts"], wrong["exceptions"]) == (2, 1, 1)
    assert "Wrong pairs (oracle): 1 of 2 accepted, 1 crashed." in markdown(summary)


def test_malformed_listings_are_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"pairs\.json: cannot be read"):
        load_pairs(tmp_path)
    for text, message in [("{", "malformed"), ("[]", "malformed"), ('{"pairs": [{"id": 1}]}', "neither a matrix nor")]:
        (tmp_path / "pairs.json").write_text(text)
        with pytest.raises(InvalidInput, match=message):
            load_pairs(tmp_path)
    with pytest.raises(InvalidInput, match="no pair could be scored"):
        summarise([])


def test_plot_is_a_png(folder: tuple[Path, Transform]) -> None:
    pytest.importorskip("matplotlib")
    rows = scored(folder[1], load_pairs(folder[0]), wrong=True)
    assert plot(rows).startswith(b"\x89PNG")
    assert plot([row for row in rows if row["wrong"]]).startswith(b"\x89PNG")
