"""Pairs of different eyes: which may be crossed, which are hard, and where the disc lies."""

from pathlib import Path

import numpy as np
import pytest
from fastretina import InvalidInput
from fastretina.evaluation.crossings import ANY, HARD, Single, crossing_cases, crossings, disc_side, singles
from fastretina.io import write_image
from fastretina.synth import synthetic_pair, vessel_tree
from fastretina.training.sets import SETS, eye, image_files

pytest.importorskip("cv2")

FOLDERS = {
    "drive/images": ["01", "02", "03"],
    "chasedb1/images": ["Image_01L", "Image_01R", "Image_02L"],
    "octa500_3m/images": ["10301", "10302"],
    "ravir_ir/images": ["IR_Case_006", "IR_Case_011"],
    "ffa_huapu4/fa": ["a", "b"],
    "ffa_huapu4/faf_ir": ["c"],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    for place, stems in FOLDERS.items():
        (root / place).mkdir(parents=True)
        for stem in stems:
            write_image(root / place / f"{stem}.png", np.full((70, 80, 3), 60, np.uint8))
    (root / "drive" / "images" / "notes.txt").write_text("no image")
    return root


def test_what_names_tell_of_eyes() -> None:
    assert eye("hrf/01_dr") != eye("hrf/01_h")
    assert eye("chasedb1/Image_01L") != eye("chasedb1/Image_01R")
    assert eye("octa500_3m/10301") != eye("octa500_3m/10302")
    assert eye("ravir_ir/IR_Case_006") == eye("ravir_ir/IR_Case_011")  # patients unknown
    assert eye("ffa_huapu4_fa/a") == eye("ffa_huapu4_faf_ir/c") != eye("ravir_ir/IR_Case_006")
    assert eye("my_own/a") == eye("my_own/b")
    assert eye("synthetic/00001") != eye("synthetic/00002")


def test_singles_know_modality_side_and_eye(folder: Path) -> None:
    found = {image.name: image for image in singles(folder)}
    assert len(found) == 13
    assert found["chasedb1/Image_02L"].side == "L"
    assert found["octa500_3m/10301"].side is None
    assert found["drive/01"].modality == "CF"
    assert [kind.name for kind, _ in image_files(folder)].count("drive") == 3
    assert {image.modality for image in found.values()} <= {kind.modality for kind in SETS}


def test_pairs_are_of_different_eyes_and_every_second_is_hard(folder: Path) -> None:
    images = singles(folder)
    pairs = list(crossings(images, 24, seed=1))
    assert [kind for kind, _, _ in pairs] == [HARD, ANY] * 12
    assert len({(a.name, b.name) for _, a, b in pairs}) == 24
    assert all(a.eye != b.eye for _, a, b in pairs)
    hard = [(a, b) for kind, a, b in pairs if kind == HARD]
    assert all((a.modality, a.side) == (b.modality, b.side) for a, b in hard)
    assert pairs == list(crossings(images, 24, seed=1))
    assert pairs != list(crossings(images, 24, seed=2))


def test_sets_are_drawn_alike_whatever_their_size() -> None:
    big = [Single(f"drive/{i:02d}", Path(), "CF", f"drive/{i:02d}", "L") for i in range(90)]
    small = [Single(f"hrf/{i:02d}_h", Path(), "CF", f"hrf/{i:02d}_h", "L") for i in range(10)]
    first = [a.name.split("/")[0] for _, a, _ in crossings(big + small, 300, seed=0)]
    assert 115 < first.count("hrf") < 185  # 150 expected, standard deviation 8.7: four of them


def test_cases_have_no_truth(folder: Path) -> None:
    case = next(crossing_cases(folder, 1))
    assert case.target is None
    assert case.kind == HARD
    assert case.fixed.shape == (70, 80, 3)


def test_too_few_eyes_are_an_error(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(InvalidInput, match="is not a folder"):
        list(crossing_cases(tmp_path / "no", 2))
    with pytest.raises(InvalidInput, match="no image in"):
        list(crossing_cases(tmp_path, 2))
    write_image(tmp_path / "a.png", np.zeros((70, 70), np.uint8))
    write_image(tmp_path / "b.png", np.zeros((70, 70), np.uint8))
    with pytest.raises(InvalidInput, match="count: got 2; the images allow only 0 pairs"):
        list(crossing_cases(tmp_path, 2))  # a plain folder says nothing of eyes
    with pytest.raises(InvalidInput, match="count: got 500"):
        list(crossings(singles(folder), 500))


def test_the_disc_tells_the_side() -> None:
    """Synthetic cameras look between fovea and disc: near the disc, nothing is said."""
    said = 0
    for seed in range(4):
        photograph = synthetic_pair(seed, (160, 160), ("CF", "CF"), "easy").fixed
        right = vessel_tree(seed).right_eye
        side, mirrored = disc_side(photograph), disc_side(photograph[:, ::-1])
        assert side in (None, "R" if right else "L")
        assert mirrored in (None, "L" if right else "R")
        said += (side is not None) + (mirrored is not None)
    assert said >= 4


def test_without_a_disc_no_side() -> None:
    assert disc_side(np.zeros((100, 100, 3), np.uint8)) is None
