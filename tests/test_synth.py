"""Synthetic eyes: anatomy, geometry, determinism."""

import numpy as np
import pytest
from fastretina import InvalidInput
from fastretina.resample import resample
from fastretina.synth import synthetic_pair, vessel_tree

cv2 = pytest.importorskip("cv2")


def test_the_same_seed_grows_the_same_eye() -> None:
    a, b, c = vessel_tree(1), vessel_tree(1), vessel_tree(2)
    assert all(np.array_equal(p.points, q.points) for p, q in zip(a.branches, b.branches, strict=True))
    assert not np.array_equal(a.branches[0].points, c.branches[0].points)


@pytest.mark.parametrize("seed", range(4))
def test_anatomy(seed: int) -> None:
    tree = vessel_tree(seed)
    points = np.concatenate([b.points for b in tree.branches])
    assert np.hypot(*points.T).min() > tree.fovea_radius  # no vessel in the middle of the macula
    assert (tree.disc[0] > 0) == tree.right_eye
    assert len(tree.bifurcations) > 60
    near = [np.hypot(*(b.points[0] - tree.disc)) < 0.05 for b in tree.branches]
    assert sum(near) >= 8  # the arcades, both kinds
    arteries, veins = ([b.widths.max() for b in tree.branches if b.artery is kind] for kind in (True, False))
    assert max(arteries) < max(veins)
    assert all((b.widths > 0).all() and len(b.widths) == len(b.points) for b in tree.branches)


def _detail(image: np.ndarray) -> np.ndarray:
    plane = image.astype(np.float32)
    return cv2.GaussianBlur(plane, (0, 0), 1) - cv2.GaussianBlur(plane, (0, 0), 8)


def test_vessels_are_dark_in_colour_and_bright_in_angiography() -> None:
    pair = synthetic_pair(0, size=(384, 384))
    angiogram = resample(pair.moving, pair.transform, (384, 384))[0]
    green = pair.fixed[..., 1].astype(float)
    vessels, detail = (_detail(image) for image in (angiogram, green))
    inside = np.hypot(*(np.mgrid[:384, :384] - 191.5)) < 150
    bright = inside & (vessels > np.quantile(vessels[inside], 0.95))
    assert detail[bright].mean() < -3  # where the angiogram is brightest, the colour image is dark
    assert np.corrcoef(vessels[inside], detail[inside])[0, 1] < -0.4


def test_the_transform_is_exact() -> None:
    pair = synthetic_pair(1, size=(384, 384), modalities=("FAF", "FAF"), difficulty="easy")
    warped, valid = resample(pair.moving, pair.transform, (384, 384), "cubic")
    core = valid & (np.hypot(*(np.mgrid[:384, :384] - 191.5)) < 150)
    a, b = (cv2.GaussianBlur(i.astype(np.float32), (0, 0), 1.5) for i in (pair.fixed, warped))

    def agreement(dx: int, dy: int) -> float:
        moved = np.roll(b, (dy, dx), (0, 1))
        return float(np.corrcoef(a[core], moved[core])[0, 1])

    best = agreement(0, 0)
    assert best > 0.95
    assert all(agreement(dx, dy) < best for dx, dy in [(1, 0), (-1, 0), (0, 1), (0, -1)])


def test_visible_pixels_are_seen_by_both() -> None:
    pair = synthetic_pair(2, size=(300, 200))
    assert pair.fixed.shape == (200, 300, 3)
    assert pair.moving.shape == pair.visible.shape == (200, 300)
    y, x = np.nonzero(pair.visible)
    there = np.rint(pair.transform(np.stack([x, y], 1))).astype(int)
    assert (there >= 0).all()
    assert (there <= [299, 199]).all()
    assert 0.1 < pair.visible.mean() < 0.9


def test_mean_error_is_a_distance() -> None:
    pair = synthetic_pair(0, size=(128, 128))
    shift = pair.transform.from_matrix([[1, 0, 3], [0, 1, -4]])
    assert pair.mean_error(pair.transform) == 0
    assert pair.mean_error(shift @ pair.transform) == pytest.approx(5)


def test_pairs_are_deterministic_and_harder_on_request() -> None:
    one, two = (synthetic_pair(5, size=(200, 200), difficulty="moderate") for _ in range(2))
    np.testing.assert_array_equal(one.fixed, two.fixed)
    np.testing.assert_array_equal(one.moving, two.moving)
    identity = one.transform.identity()
    errors = [synthetic_pair(5, (200, 200), difficulty=d).mean_error(identity) for d in ("easy", "moderate", "hard")]
    assert errors == sorted(errors)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": (63, 300)}, "size: got"),
        ({"size": (300,)}, "size: got"),
        ({"size": (300.0, 300)}, "size: got"),
        ({"modalities": ("CF", "FAA")}, "did you mean 'FA'"),
        ({"difficulty": "mild"}, "easy, moderate, hard"),
    ],
)
def test_misuse(arguments: dict, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        synthetic_pair(0, **arguments)
