"""FIRE's protocol on a small folder in FIRE's layout, made by the generator."""

import math
from pathlib import Path

import numpy as np
import pytest
from fastretina import InvalidInput, Registration, Transform
from fastretina.evaluation import evaluate, markdown, summarise
from fastretina.evaluation.fire import fire_cases, fire_pairs
from fastretina.io import write_image
from fastretina.synth import synthetic_pair

pytest.importorskip("cv2")

SIDE = 182  # a sixteenth of FIRE's: each px counts 16
PAIR = synthetic_pair(2, (SIDE, SIDE), ("CF", "CF"))
TRUTH = PAIR.transform


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("FIRE")
    (root / "Images").mkdir()
    (root / "Ground Truth").mkdir()
    points = np.random.default_rng(0).uniform(50, 130, (10, 2))
    for name in ("S02", "S10", "P01", "P37", "A01"):
        write_image(root / "Images" / f"{name}_1.jpg", PAIR.fixed)
        write_image(root / "Images" / f"{name}_2.jpg", PAIR.moving)
        table = np.hstack([TRUTH(points), points])
        np.savetxt(root / "Ground Truth" / f"control_points_{name}_1_2.txt", table, fmt="%.6f")
    (root / "Ground Truth" / "readme.txt").write_text("not a pair")
    return root


class Shifted:
    """The truth, wrong by so many px, pair after pair."""

    def __init__(self, shifts: list[float], refused: set[int] = frozenset()) -> None:
        self.shifts, self.refused, self.count = shifts, refused, -1

    def register(self, fixed: np.ndarray, moving: np.ndarray) -> Registration:
        self.count += 1
        shift = Transform.from_matrix([[1, 0, self.shifts[self.count]], [0, 1, 0]])
        status = "low_agreement" if self.count in self.refused else "ok"
        size = (SIDE, SIDE)
        return Registration(status=status, confidence=0.9, transform=shift @ TRUTH, fixed_size=size, moving_size=size)


def test_pairs_are_in_order_and_p37_is_left_out(folder: Path) -> None:
    assert fire_pairs(folder) == ["S02", "S10", "P01", "A01"]
    assert [case.kind for case in fire_cases(folder)] == ["S", "S", "P", "A"]


def test_scores_by_hand(folder: Path) -> None:
    # errors at 2912 px: S02 1.6, S10 16.8 (refused), P01 32, A01 0.8
    rows = evaluate({"ours": Shifted([0.1, 1.05, 2.0, 0.05], refused={1})}, fire_cases(folder))
    assert [row["candidate_error"] for row in rows] == pytest.approx([1.6, 16.8, 32, 0.8], abs=1e-4)
    s = summarise(rows)["ours"]
    assert s["S"]["auc25"] == pytest.approx((24 / 25 + 0) / 2)  # strictly below 2 ... 25; a refused pair is a miss
    assert s["S"]["auc25_raw"] == pytest.approx((24 / 25 + 9 / 25) / 2)  # 17 ... 25
    assert s["P"]["auc25"] == s["P"]["auc25_raw"] == 0
    assert s["A"]["auc25"] == 1
    assert s["mean of S, P, A"]["auc25"] == pytest.approx((0.48 + 0 + 1) / 3)
    assert s["all"]["auc25"] == pytest.approx((0.96 + 0 + 0 + 1) / 4)
    assert s["all"]["silent_failures"] == 0  # 32 px at 2912 are 7 px at 640
    assert "mean of S, P, A" in markdown({"ours": s})


def test_a_threshold_is_strict(folder: Path) -> None:
    rows = evaluate({"ours": Shifted([0.0, 0, 0, 0])}, fire_cases(folder))
    for row in rows:
        row["error"] = 25.0
    assert summarise(rows)["ours"]["all"]["auc25"] == 0
    for row in rows:
        row["error"] = math.nextafter(25.0, 0)
    assert summarise(rows)["ours"]["all"]["auc25"] == pytest.approx(1 / 25)


def test_wrong_folders_are_named(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(InvalidInput, match="'Images' and 'Ground Truth'"):
        fire_pairs(tmp_path)
    (tmp_path / "Ground Truth").mkdir()
    with pytest.raises(InvalidInput, match="no control_points"):
        fire_pairs(tmp_path)
    points = tmp_path / "Ground Truth" / "control_points_A01_1_2.txt"
    points.write_text("1 2 3\n")
    with pytest.raises(InvalidInput, match="x1 y1 x2 y2"):
        list(fire_cases(tmp_path))
    points.write_text("1 2 3 four\n")
    with pytest.raises(InvalidInput, match="control points"):
        list(fire_cases(tmp_path))
    points.write_text("1 2 3 4\n")
    with pytest.raises(InvalidInput, match=r"A01_1\.jpg: no such file"):
        list(fire_cases(tmp_path))
