"""The documents' tables: which pairs belong to them, what they say, and that their pictures show what happened."""

from dataclasses import replace

import numpy as np
import pytest
from fastretina import InvalidInput, Registration, Transform
from fastretina.evaluation import evaluate
from fastretina.evaluation.documents import (
    TABLES,
    Gallery,
    VesselDifference,
    check_table,
    measures,
    table_cases,
    table_markdown,
)
from fastretina.evaluation.synthetic import Suite, suite_cases
from fastretina.io import read_image
from fastretina.methods import METHODS

pytest.importorskip("cv2")


class Knows:
    """Answers with the truth of the case in hand, shifted; refuses every second pair if asked to."""

    def __init__(self, cases, shift_px: float = 0.0, refuses: bool = False) -> None:
        self.cases = {id(case.moving): case for case in cases}
        self.shift, self.refuses, self.count = Transform.from_matrix([[1, 0, shift_px], [0, 1, 0]]), refuses, 0

    def register(self, fixed: np.ndarray, moving: np.ndarray) -> Registration:
        self.count += 1
        sizes = {"fixed_size": fixed.shape[1::-1], "moving_size": moving.shape[1::-1]}
        transform = self.shift @ self.cases[id(moving)].target.truth
        if self.refuses and self.count % 2 == 0:
            return Registration(status="low_agreement", confidence=0.1, transform=transform, **sizes)
        return Registration(status="ok", confidence=0.9, transform=transform, **sizes)


def test_modalities_decide_where_a_real_pair_belongs() -> None:
    assert TABLES["A"].real("CF_gray", "FA/ICGA") == TABLES["A"].real("FA", "CF") == "real CF-FA"
    assert TABLES["A"].real("CF", "OCTA") is None
    assert TABLES["B"].real("CF_gray", "OCTA") == "real CF-OCTA"
    assert TABLES["B"].real("OCTA", "FA") is None
    assert TABLES["C"].real("CF", "CF_gray") == TABLES["C"].real("RF", "RF") == "real, one type"
    assert TABLES["C"].real("RF", "CF") == "real, two types"


def test_every_row_is_a_method_that_exists() -> None:
    for table in TABLES.values():
        assert {options["method"] for options in table.methods.values()} <= set(METHODS)
    with pytest.raises(InvalidInput, match="table: got 'D'; allowed: A, B, C"):
        check_table("D")


def test_suites_are_fixed_and_of_their_modalities() -> None:
    first, again = (list(table_cases("C", None, 1, seed=4)) for _ in range(2))
    assert [case.kind for case in first] == [suite.kind for suite in TABLES["C"].suites]
    assert all((a.moving == b.moving).all() for a, b in zip(first, again, strict=True))
    assert {case.modalities for case in first[:3]} == {"CF>CF"}
    assert all(len(set(case.modalities.split(">"))) == 2 for case in first[3:])
    assert all(not case.bounds for case in first)


@pytest.mark.parametrize("modalities", [("CF", "OCTA"), ("OCTA", "CF")])
def test_a_cropped_pair_is_the_same_pair_of_about_one_field(modalities: tuple[str, str]) -> None:
    whole = Suite("some", modalities=(modalities,))
    case, cropped = (next(suite_cases([suite], 1, 3)) for suite in (whole, replace(whole, cropped=True)))
    wide = "fixed" if modalities[0] == "CF" else "moving"
    narrow = "moving" if wide == "fixed" else "fixed"
    image, part = getattr(case, wide), getattr(cropped, wide)
    assert part.size < 0.4 * image.size
    assert (getattr(case, narrow) == getattr(cropped, narrow)).all()
    before, after = getattr(case.target, wide), getattr(cropped.target, wide)
    x, y = np.round(before).astype(int).T
    u, v = np.round(after).astype(int).T
    assert (image[y, x] == part[v, u]).all()
    assert np.ptp(before - after, axis=0).max() < 1e-9
    np.testing.assert_allclose(cropped.target.truth(cropped.target.moving), cropped.target.fixed, atol=1e-6)


def test_the_folder_of_pictures_is_made_at_once(tmp_path) -> None:
    Gallery(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()


def test_a_table_counts_failures_and_measures_the_difference_of_vessel_maps(tmp_path) -> None:
    cases = list(table_cases("B", None, 2, seed=1))[:2]
    maps = {id(image): np.full(image.shape[:2], value, np.float32)
            for case in cases for image, value in ((case.fixed, 0.25), (case.moving, 0.75))}  # fmt: skip
    gallery = Gallery(tmp_path, of_each=1, side_px=96)
    measure = measures(VesselDifference(lambda image: maps[id(image)]), gallery)
    methods = {"exact": Knows(cases), "off": Knows(cases, shift_px=30), "shy": Knows(cases, refuses=True)}
    rows = evaluate(methods, cases, measure=measure)
    assert all(row["mse"] == pytest.approx(0.25) for row in rows if row["ok"])  # the border is left out
    assert all("mse" not in row for row in rows if not row["ok"])
    lines = table_markdown("B", rows).splitlines()
    cells = {line.split("|")[1].strip(): [c.strip() for c in line.split("|")[2:-1]] for line in lines[2:]}
    head = [c.strip() for c in lines[0].split("|")[2:-1]]
    assert {m: dict(zip(head, row, strict=True))["failed"] for m, row in cells.items()} == {
        "exact": "0", "off": "2", "shy": "1"
    }  # fmt: skip
    assert {dict(zip(head, row, strict=True))["MSE"] for row in cells.values()} == {"0.250"}
    assert {dict(zip(head, row, strict=True))["RMSE"] for row in cells.values()} == {"0.500"}
    [path] = gallery.write()
    assert path.name == "synthetic-cf-octa.png"
    picture = read_image(path)
    assert picture.shape == (96, 3 * 96, 3)
    assert picture[:, :96].std() > 5
