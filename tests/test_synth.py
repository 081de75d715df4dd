"""Synthetic eyes: anatomy, geometry, determinism."""

import numpy as np
import pytest
from fastretina import InvalidInput
from fastretina.resample import resample
from fastretina.synth import Branch, VesselTree, geometry, synthetic_pair, vessel_tree
from fastretina.synth.cameras import CAMERAS, photograph
from fastretina.synth.eye import Eye
from fastretina.synth.landmarks import crossings, landmarks

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


def test_a_local_deformation_has_no_transform() -> None:
    pair = synthetic_pair(0, (96, 96), geometry="local")
    assert pair.mean_error(pair.truth) == 0
    with pytest.raises(InvalidInput, match="use truth"):
        _ = pair.transform


# ---- geometry -------------------------------------------------------------------------------------------------------
FRAME = (640, 480)


def _grid(size: tuple[int, int]) -> np.ndarray:
    x, y = np.meshgrid(np.linspace(0, size[0] - 1, 80), np.linspace(0, size[1] - 1, 80))
    return np.stack([x.ravel(), y.ravel()], 1)


@pytest.mark.parametrize("scale", [0.4, 1.0, 1.6])
def test_a_quadratic_goes_beyond_the_best_homography_by_8_to_20_px(scale: float) -> None:
    for seed in range(12):
        rng = np.random.default_rng(seed)
        base = geometry.similarity(FRAME, scale, 20, np.array([5.0, -9.0]), np.zeros(2))
        truth = geometry.quadratic(base, FRAME, rng)
        assert truth.kind == "quadratic"
        least, most = np.array(geometry.QUADRATIC_PX) * min(1, scale)
        assert 0.99 * least < geometry.beyond_homography(truth, FRAME) < 1.01 * most  # found by iteration
        assert truth.inverse(truth(_grid(FRAME))) == pytest.approx(_grid(FRAME), abs=1e-6)  # no fold inside the frame


def test_a_homography_does_not_go_beyond_the_best_homography() -> None:
    base = geometry.similarity(FRAME, 1.2, -7, np.array([3.0, 4.0]), np.array([0.02, -0.01]))
    assert geometry.beyond_homography(base, FRAME) < 1e-3  # fitted by OpenCV to about single precision


def test_a_local_field_peaks_at_6_px_and_does_not_fold() -> None:
    for seed in range(12):
        base = geometry.similarity(FRAME, 1.1, 4, np.zeros(2), np.zeros(2))
        truth = geometry.local(base, FRAME, np.random.default_rng(seed))
        points = _grid(FRAME)
        moved = truth(points)
        peak = np.linalg.norm(moved - base(points), axis=1).max()
        assert geometry.LOCAL_PEAK_PX * 0.98 < peak < geometry.LOCAL_PEAK_PX * 1.02  # two grids see the peak
        rows = moved.reshape(80, 80, 2)
        across, down = np.diff(rows, axis=1)[:-1], np.diff(rows, axis=0)[:, :-1]
        assert (across[..., 0] * down[..., 1] - across[..., 1] * down[..., 0] > 0).all()


@pytest.mark.parametrize("kind", geometry.GEOMETRIES)
def test_vessels_of_two_modalities_agree_under_the_truth(kind: str) -> None:
    """Where autofluorescence is dark, infrared is dark: in each part of the frame the shift between them is small."""
    side = 480
    pair = synthetic_pair(4, (side, side), ("FAF", "IR"), "easy", kind)
    where = pair.truth(_pixels(side)).reshape(side, side, 2).astype(np.float32)
    there = cv2.remap(pair.fixed, where, None, cv2.INTER_CUBIC)
    seen = cv2.erode(pair.visible.astype(np.uint8), np.ones((25, 25), np.uint8)) > 0
    a, b = (_detail(image) * seen for image in (there, pair.moving))
    shifts = []
    for top in range(40, side - 160, 70):
        for left in range(40, side - 160, 70):
            part = slice(top, top + 130), slice(left, left + 130)
            if seen[part].mean() > 0.9:
                shifts.append(_shift(a[part], b[part]))
    assert len(shifts) >= 6
    # Noise and the width of vessels limit a part's estimate; a wrong half pixel or a wrong map would move all.
    assert np.abs(np.median(shifts, axis=0)).max() < 0.15
    assert np.quantile(np.abs(shifts), 0.9) < 0.5


def _pixels(side: int) -> np.ndarray:
    return np.stack(np.meshgrid(np.arange(side), np.arange(side)), -1).reshape(-1, 2).astype(np.float64)


def _shift(a: np.ndarray, b: np.ndarray, reach: int = 6) -> tuple[float, float]:
    """Sub-pixel (x, y) displacement of b that correlates best with a."""
    inner = b[reach:-reach, reach:-reach].astype(np.float32)
    scores = cv2.matchTemplate(a.astype(np.float32), inner, cv2.TM_CCOEFF_NORMED)
    _, _, _, (x, y) = cv2.minMaxLoc(scores)
    assert 0 < x < 2 * reach
    assert 0 < y < 2 * reach

    def vertex(before: float, peak: float, after: float) -> float:
        return 0.5 * (before - after) / (before - 2 * peak + after)

    dx, dy = vertex(*scores[y, x - 1 : x + 2]), vertex(*scores[y - 1 : y + 2, x])
    return x + dx - reach, y + dy - reach


# ---- modalities -----------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def eye() -> Eye:
    return Eye(11)


@pytest.fixture(scope="module")
def layers(eye: Eye) -> dict[str, np.ndarray]:
    axis = np.linspace(-0.6, 0.6, 320)
    return eye.look(np.stack(np.meshgrid(axis, axis), -1))


@pytest.mark.parametrize("name", list(CAMERAS))
def test_every_modality_shows_vessels_in_its_own_polarity(name: str, eye: Eye, layers: dict[str, np.ndarray]) -> None:
    first, second = (
        photograph(CAMERAS[name], layers, eye.pigment, 27 / 320, 1.0, np.random.default_rng(seed)) for seed in (1, 1)
    )
    np.testing.assert_array_equal(first, second)
    assert np.isfinite(first).all()
    plane = first[..., 1] if first.ndim == 3 else first
    assert plane.shape == (320, 320)
    detail = _detail(plane)
    vessels = np.maximum(layers["artery"], layers["vein"])
    wide = cv2.erode((vessels > 0.6).astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    contrast = detail[wide].mean() / detail.std()
    assert contrast > 0.5 if name in ("FA", "ICGA", "OCTA") else contrast < -0.5


def test_an_eye_looks_the_same_from_everywhere(eye: Eye) -> None:
    """A finer, shifted grid sees the same vessels at the same places."""
    axis = np.linspace(-0.3, 0.3, 301)
    whole = eye.look(np.stack(np.meshgrid(axis, axis), -1))
    finer = np.linspace(-0.1, 0.2, 301)
    part = eye.look(np.stack(np.meshgrid(finer, finer), -1))
    for name in ("artery", "vein", "drift"):
        a = whole[name][100:251, 100:251]
        b = part[name][::2, ::2]
        assert np.corrcoef(a.ravel(), b.ravel())[0, 1] > 0.9
        dx, dy = _shift(cv2.GaussianBlur(a, (0, 0), 1), cv2.GaussianBlur(b, (0, 0), 1))
        assert max(abs(dx), abs(dy)) < 0.1


def test_the_avascular_zone_is_dark_in_angiography(eye: Eye) -> None:
    axis = np.linspace(-0.25, 0.25, 320)
    view = eye.look(np.stack(np.meshgrid(axis, axis), -1))
    plane = photograph(CAMERAS["OCTA"], view, eye.pigment, 11 / 320, 1.0, np.random.default_rng(0))
    zone = view["avascular"] > 0.9
    ring = (view["avascular"] < 0.1) & (np.hypot(*np.meshgrid(axis, axis)) < 0.15)
    assert plane[zone].mean() < 0.4 * plane[ring].mean()


# ---- landmarks ------------------------------------------------------------------------------------------------------
def test_crossings_by_hand() -> None:
    step = np.arange(-20, 21)[:, None] * 0.005
    along, down, flat = step * (1, 0), step * (0, 1) + (0.02, 0), step * (1, 0.1) + (0, 0.3)
    wide = np.full(41, 0.01)
    branches = (
        Branch(along, wide, True),
        Branch(down, 0.5 * wide, False),
        Branch(down - (0.05, 0), wide, True),  # of the same kind: no crossing
        Branch(flat, wide, True),
        Branch(step * (1, 0) + (0, 0.3), wide, False),  # at six degrees: a crossing nowhere in particular
    )
    none = np.zeros((0, 2))
    tree = VesselTree(branches, none, np.zeros(0), (5.0, 5.0), 0.1, 0.05, True)
    at, widths = crossings(tree, 0.004)
    assert at == pytest.approx(np.array([[0.02, 0.0]]), abs=1e-9)
    assert widths == pytest.approx([0.005])
    assert len(crossings(tree, 0.006)[0]) == 0


def test_a_sharp_bend_is_a_landmark_and_a_gentle_one_is_none() -> None:
    leg = np.arange(1, 21)[:, None] * 0.005
    wide = np.full(41, 0.01)
    none = np.zeros((0, 2))
    for degrees, count in ((60, 1), (20, 0)):
        turned = np.array([np.cos(np.radians(degrees)), np.sin(np.radians(degrees))])
        path = np.concatenate([leg[::-1] * (-1, 0), [[0.0, 0.0]], leg * turned])
        tree = VesselTree((Branch(path, wide, True),), none, np.zeros(0), (5.0, 5.0), 0.1, 0.05, True)
        at, _ = landmarks(tree, 0.004, 0.025, 35)
        assert len(at) == count
        if count:
            assert np.abs(at[0]).max() < 0.006  # a step


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": (63, 300)}, "size: got"),
        ({"size": (300,)}, "size: got"),
        ({"size": (300.0, 300)}, "size: got"),
        ({"modalities": ("CF", "FAA")}, "did you mean 'FA'"),
        ({"modalities": ("CF",)}, "allowed: two"),
        ({"difficulty": "mild"}, "easy, moderate, hard"),
        ({"geometry": "quadric"}, "did you mean 'quadratic'"),
    ],
)
def test_misuse(arguments: dict, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        synthetic_pair(0, **arguments)


def test_health_of_a_pair() -> None:
    from fastretina.synth import synthetic_pair
    from fastretina.synth.eye import Eye

    assert not Eye(3, diseased=False).lesions
    ill = Eye(3, diseased=True)
    assert ill.lesions
    later = ill.later()
    assert later.tree is ill.tree
    assert later.lesions != ill.lesions
    assert ill.later().lesions == later.lesions
    assert ill.lesions == Eye(3, diseased=True).lesions  # a visit changes nothing before it
    pairs = {h: synthetic_pair(3, (128, 128), ("CF", "CF"), "easy", health=h) for h in ("healthy", "diseased", "later")}
    assert (pairs["diseased"].fixed == pairs["later"].fixed).all()
    assert (pairs["diseased"].moving != pairs["later"].moving).any()
    assert (pairs["diseased"].fixed != pairs["healthy"].fixed).any()
    with pytest.raises(InvalidInput, match="health: got 'ill'"):
        synthetic_pair(3, health="ill")
