"""Training: labels, warps, losses and normalisation against slow NumPy; a run that is killed and resumed."""

from __future__ import annotations

import csv
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs torch (fastretina[train])")
cv2 = pytest.importorskip("cv2", reason="training needs OpenCV")
pytest.importorskip("tqdm", reason="training needs tqdm (fastretina[train])")

from fastretina import InvalidInput  # noqa: E402
from fastretina.training import data, labels, loop, losses, normalise, pairs, simulate, synthetic, validate, warp  # noqa: E402
from fastretina.training.recipes import retina  # noqa: E402
from fastretina.training.sample import Sample  # noqa: E402


# ---- labels -----------------------------------------------------------------------------------------------------
def cross(size: int = 81, width: int = 3) -> np.ndarray:
    image = np.zeros((size, size), np.uint8)
    middle = size // 2
    image[middle - width // 2 : middle + width // 2 + 1, 10:-10] = 255
    image[10:-10, middle - width // 2 : middle + width // 2 + 1] = 255
    return image


def test_skeleton_of_a_bar_is_its_middle_line():
    bar = np.zeros((21, 60), np.uint8)
    bar[8:13, 5:55] = 1
    rows, columns = np.nonzero(labels.skeleton(bar))
    assert set(rows) == {10}
    assert columns.max() - columns.min() > 40


def test_a_crossing_is_found_at_its_centre_and_line_ends_are_not_points():
    points = labels.skeleton_points(cross())
    assert len(points) == 1
    assert np.abs(points[0] - 40).max() <= 1.0


def test_a_sharp_bend_is_a_point_and_a_straight_line_is_none():
    image = np.zeros((81, 81), np.uint8)
    image[39:42, 10:42] = 255
    assert len(labels.skeleton_points(image)) == 0
    image[10:42, 39:42] = 255
    points = labels.skeleton_points(image)
    assert len(points) == 1
    assert np.abs(points[0] - 40).max() <= 2.0


@pytest.mark.parametrize("bright", [True, False])
def test_ridges_keep_their_junctions_in_both_polarities(bright):
    lines = cv2.GaussianBlur(cross(161, 5).astype(np.float32) / 255, (0, 0), 1.0)
    plane = 0.3 + 0.4 * lines if bright else 0.7 - 0.4 * lines
    ridges = labels.ridge_map(plane.astype(np.float32), np.ones_like(plane), bright)
    points, strength = labels.ridge_corners(ridges)
    # The strongest corners are the four crotches of the crossing, then the ends of the lines.
    assert np.abs(points[:4] - 80).max() <= 8.0
    assert np.all(np.diff(strength) <= 0)
    junctions = labels.skeleton_points(ridges > labels.RIDGE_ON)
    assert np.abs(junctions[0] - 80).max() <= 1.0


def test_thin_points_keeps_the_first():
    points = np.array([[0, 0], [3, 0], [10, 0]], np.float32)
    np.testing.assert_array_equal(labels.thin_points(points, 5.0), points[[0, 2]])


# ---- geometry ---------------------------------------------------------------------------------------------------
def test_points_go_to_the_view_where_the_view_looks():
    rng = np.random.default_rng(5)
    for _ in range(20):
        view = warp.random_view(rng, 96, rng.uniform(100, 200, 2), rng.uniform(0.6, 1.6), rng.uniform(-180, 180), True)
        where = view.source_map()
        cells = rng.integers(8, 88, (30, 2))
        back = view.to_view(where[cells[:, 1], cells[:, 0]].astype(np.float64))
        assert np.abs(back - cells).max() < 0.01


def test_an_unturned_view_of_scale_one_is_the_image():
    rng = np.random.default_rng(0)
    plane = rng.integers(0, 256, (120, 120), dtype=np.uint8)
    full = np.full_like(plane, 1)
    sample = Sample("s", 1.0, 14.0, plane[None], full, plane, np.zeros((0, 2)), np.zeros((0, 2)), False)
    view = warp.View(np.array([[1.0, 0, 20], [0, 1.0, 30]]), np.zeros((64, 64, 2), np.float32))
    got, mask, vessels = warp.sample_view(sample, view)
    np.testing.assert_allclose(got, plane[30:94, 20:84] / 255, atol=1e-6)
    assert mask.all()
    np.testing.assert_array_equal(got, vessels)


# ---- normalisation ----------------------------------------------------------------------------------------------
def slow_normalise(plane: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The definition, in float64, one cell and one pixel at a time."""
    height, width = plane.shape
    rows, columns = -(-height // 4), -(-width // 4)
    i, m = np.zeros((rows * 4, columns * 4)), np.zeros((rows * 4, columns * 4))
    i[:height, :width], m[:height, :width] = plane, mask
    s = np.zeros((3, rows, columns))
    for r in range(rows):
        for c in range(columns):
            block, weight = i[4 * r : 4 * r + 4, 4 * c : 4 * c + 4], m[4 * r : 4 * r + 4, 4 * c : 4 * c + 4]
            s[:, r, c] = weight.sum(), (weight * block).sum(), (weight * block**2).sum()
    inside = s[0] > 0
    for _ in range(2):
        blurred = np.zeros_like(s)
        for r in range(rows):
            for c in range(columns):
                blurred[:, r, c] = s[:, max(0, r - 3) : r + 4, max(0, c - 3) : c + 4].sum((1, 2))
        s = blurred
    safe = np.where(s[0] > 0, s[0], 1)
    mean = np.where(s[0] > 0, s[1] / safe, 0)
    sd = np.where(s[0] > 0, np.sqrt(np.maximum(s[2] / safe - mean**2, 0)), 0)
    global_sd = sd[inside].mean() if inside.any() else 0.0
    out = np.zeros((height, width))
    for y in range(height):
        for x in range(width):
            cy, cx = np.clip((y - 1.5) / 4, 0, rows - 1), np.clip((x - 1.5) / 4, 0, columns - 1)
            y0, x0 = min(int(cy), max(rows - 2, 0)), min(int(cx), max(columns - 2, 0))
            y1, x1 = min(y0 + 1, rows - 1), min(x0 + 1, columns - 1)
            fy, fx = cy - y0, cx - x0

            def at(g, y0=y0, y1=y1, x0=x0, x1=x1, fy=fy, fx=fx):
                top = g[y0, x0] * (1 - fx) + g[y0, x1] * fx
                return top * (1 - fy) + (g[y1, x0] * (1 - fx) + g[y1, x1] * fx) * fy

            value = (plane[y, x] - at(mean)) / (at(sd) + 0.1 * global_sd + 0.002)
            out[y, x] = mask[y, x] * np.clip(value, -4, 4)
    return out


@pytest.mark.parametrize("shape", [(64, 64), (61, 90), (9, 13)])
def test_normalise_against_the_definition(shape):
    rng = np.random.default_rng(1)
    # Texture of a few percent: sd in float32 keeps four digits there.
    plane = (0.3 + 0.2 * np.linspace(0, 1, shape[1]) + rng.normal(0, 0.04, shape)).astype(np.float32)
    mask = np.ones(shape, np.float32)
    mask[:, : shape[1] // 5] = 0
    got = normalise.normalise(torch.from_numpy(plane)[None, None], torch.from_numpy(mask)[None, None])[0, 0].numpy()
    np.testing.assert_allclose(got, slow_normalise(plane, mask), atol=2e-3)
    assert not got[mask == 0].any()


def test_normalise_of_nothing_is_zero():
    plane = torch.zeros(1, 1, 16, 16)
    assert not normalise.normalise(plane, plane).any()
    assert normalise.normalise(plane + 0.5, plane + 1).abs().max() < 1e-3


def test_field_of_view_keeps_dark_places_inside_and_erodes_three_pixels():
    plane = np.zeros((60, 80), np.float32)
    plane[10:50, 10:] = 0.5
    plane[25:30, 40:45] = 0.0  # dark, yet not connected to the frame
    mask = normalise.field_of_view(plane)
    expected = np.zeros_like(plane)
    expected[13:47, 13:] = 1  # the frame at the right does not erode
    np.testing.assert_array_equal(mask, expected)


def test_misshapen_planes_are_refused():
    with pytest.raises(InvalidInput, match="image"):
        normalise.plane_of(np.zeros((4, 4, 4), np.uint8))
    with pytest.raises(InvalidInput, match="uint8, uint16 or float32"):
        normalise.plane_of(np.zeros((4, 4), np.int64))
    with pytest.raises(InvalidInput, match="planes, masks"):
        normalise.normalise(torch.zeros(1, 1, 8, 8), torch.zeros(1, 1, 8, 4))


# ---- losses -----------------------------------------------------------------------------------------------------
@pytest.fixture
def descriptors():
    rng = np.random.default_rng(3)
    rows = rng.normal(size=(2, 12, 6))
    rows[1] += 0.8 * rows[0]
    rows /= np.linalg.norm(rows, axis=2, keepdims=True)
    points = rng.uniform(0, 40, (12, 2, 2)).astype(np.float32)
    pair = np.repeat([0, 1, 2], 4)
    return rows, points, pair


def slow_mask(points, pair):
    count = len(points)
    masked = np.zeros((count, count), bool)
    for i in range(count):
        for j in range(count):
            if i != j and pair[i] == pair[j]:
                masked[i, j] = any(np.linalg.norm(points[i, v] - points[j, v]) < 8 for v in (0, 1))
    return masked


def test_neighbour_mask_against_a_loop(descriptors):
    _, points, pair = descriptors
    got = losses.neighbour_mask(torch.from_numpy(points), torch.from_numpy(pair)).numpy()
    np.testing.assert_array_equal(got, slow_mask(points, pair))
    assert got.any()


def test_info_nce_against_a_loop(descriptors):
    (first, second), points, pair = descriptors
    masked = slow_mask(points, pair)
    scale, total = 7.0, 0.0
    for a, b, m in ((first, second, masked), (second, first, masked.T)):
        for i in range(len(a)):
            scores = [scale * a[i] @ b[j] for j in range(len(b)) if not m[i, j]]
            total += np.log(np.sum(np.exp(scores))) - scale * a[i] @ b[i]
    got = losses.info_nce(*(torch.from_numpy(v) for v in (first, second, masked)), torch.tensor(np.log(scale)))
    assert float(got) == pytest.approx(total / (2 * len(first)), rel=1e-6)


def test_quadruplet_against_a_loop(descriptors):
    (first, second), points, pair = descriptors
    masked = slow_mask(points, pair)
    total = 0.0
    for i in range(len(first)):
        own = np.linalg.norm(first[i] - second[i])
        others = [k for k in range(len(first)) if k != i]
        forward = min(np.linalg.norm(first[i] - second[k]) for k in others if not masked[i, k])
        backward = min(np.linalg.norm(second[i] - first[k]) for k in others if not masked[k, i])
        total += max(0, 1 + own - forward) + max(0, 1 + own - backward)
    got = losses.quadruplet(*(torch.from_numpy(v) for v in (first, second, masked)), margin=1.0)
    assert float(got) == pytest.approx(total / len(first), rel=1e-6)


def test_detector_loss_weighs_both_classes_alike_and_ignores():
    maps = torch.zeros(1, 2, 2, 3)
    maps[0, 0] = torch.tensor([[2.0, -1.0, 0.5], [0.0, -3.0, 9.0]])
    target = torch.tensor([[[0.9, 0.4, 0.0], [0.0, 0.0, 0.0]]])
    kind = torch.tensor([[[2.0, 2.0, 1.0], [1.0, 1.0, 0.0]]])

    def entropy(z, t):
        p = 1 / (1 + np.exp(-z))
        return -t * np.log(p) - (1 - t) * np.log(1 - p)

    near = (entropy(2.0, 0.9) + entropy(-1.0, 0.4)) / 2
    far = (entropy(0.5, 0) + entropy(0.0, 0) + entropy(-3.0, 0)) / 3
    assert float(losses.detector_loss(maps, target, kind)) == pytest.approx((near + far) / 2, rel=1e-5)


@pytest.mark.parametrize("turn", range(8))
def test_turning_back_undoes_a_turn_and_a_symmetric_detector_costs_nothing(turn):
    maps = torch.randn(2, 2, 6, 6, generator=torch.Generator().manual_seed(turn))
    assert torch.equal(losses.turn_back(losses.turn_plane(maps, turn), turn), maps)
    assert float(losses.symmetry_loss(maps, losses.turn_plane(maps, turn), turn)) == 0
    shifted = losses.turn_plane(maps, turn) + torch.tensor([0.5, 0.0])[:, None, None]
    assert float(losses.symmetry_loss(maps, shifted, turn)) == pytest.approx(0.25, rel=1e-5)


# ---- pairs ------------------------------------------------------------------------------------------------------
def tiny_eye(seed: int, size: int = 300) -> np.ndarray:
    """A few dark lines with crossings on a gray disc."""
    rng = np.random.default_rng(seed)
    image = np.zeros((size, size, 3), np.uint8)
    cv2.circle(image, (size // 2, size // 2), size // 2 - 6, (90, 130, 160), -1)
    for _ in range(12):
        ends = rng.integers(30, size - 30, (2, 2))
        cv2.line(image, ends[0].tolist(), ends[1].tolist(), (40, 60, 90), int(rng.integers(2, 5)), cv2.LINE_AA)
    return np.clip(image + rng.normal(0, 4, image.shape), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def eyes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("eyes")
    for i in range(11):
        assert cv2.imwrite(str(folder / f"eye{i:02d}.png"), tiny_eye(i))
    return folder


def test_every_tenth_image_is_held_out_and_the_cache_gives_the_same(eyes, tmp_path):
    cache = tmp_path / "cache.npz"
    first, held_out = data.load(eyes, cache)
    assert (len(first), len(held_out)) == (10, 1)
    again, _ = data.load(eyes, cache)
    for a, b in zip(first, again, strict=True):
        assert a.name == b.name
        np.testing.assert_array_equal(a.points, b.points)
        np.testing.assert_array_equal(a.planes, b.planes)
    assert min(len(s.points) for s in first) >= 5


def test_a_folder_without_images_is_refused(tmp_path):
    with pytest.raises(InvalidInput, match="no image in"):
        data.load(tmp_path)
    with pytest.raises(InvalidInput, match="not a folder"):
        data.load(tmp_path / "missing")


# ---- synthetic eyes ---------------------------------------------------------------------------------------------
SMALL_EYE = 0  # its field is that of OCT angiography


@pytest.fixture(scope="module")
def synthetic_eyes():
    return [synthetic.prepare_synthetic(n) for n in (SMALL_EYE, 1)]


def test_a_synthetic_eye_is_the_same_every_time(synthetic_eyes):
    again = synthetic.prepare_synthetic(SMALL_EYE)
    for name, value in vars(synthetic_eyes[0]).items():
        np.testing.assert_array_equal(value, getattr(again, name))


def test_synthetic_keypoints_lie_on_vessels_and_apart(synthetic_eyes):
    for sample in synthetic_eyes:
        near = cv2.dilate(sample.vessels, np.ones((5, 5), np.uint8))  # thin vessels are drawn to the next pixel
        x, y = np.round(sample.points).astype(int).T
        assert len(sample.points) > 20
        assert (near[y, x] > 100).mean() > 0.98
        assert sample.mask[y, x].all()
        distance = np.linalg.norm(sample.points[:, None] - sample.points[None], axis=2)
        np.fill_diagonal(distance, np.inf)
        assert distance.min() >= labels.THIN_PX * min(1.0, sample.px_per_deg / 14.0) - 1e-3


def test_the_views_of_a_synthetic_eye_mostly_show_two_modalities():
    rng = np.random.default_rng(0)
    drawn = np.array([pairs._two_planes(rng, 6) for _ in range(2000)])
    assert 0.12 < (drawn[:, 0] == drawn[:, 1]).mean() < 0.18  # 0.15, five standard errors about it
    assert set(drawn.ravel()) == set(range(6))
    assert pairs._two_planes(rng, 1) == (0, 0)


def test_synthetic_eyes_take_their_share_and_come_back_from_the_cache(eyes, tmp_path, monkeypatch):
    made = []

    def prepare_all(numbers):
        made.extend(numbers)
        return [replace(tiny, name=f"synthetic/{n:05d}") for n in numbers]

    plane = np.zeros((1, 64, 64), np.uint8)
    none = np.zeros((0, 2), np.float32)
    tiny = Sample("", 1.0, 14.0, plane, plane[0], plane[0], none, none, False)
    monkeypatch.setattr(data, "prepare_all", prepare_all)
    for _ in range(2):
        train, held_out = data.load(eyes, tmp_path / "cache.npz", synthetic=20, synthetic_share=0.7)
        assert (len(train), len(held_out)) == (10 + 18, 1 + 2)
        share = sum(s.weight for s in train if s.name.startswith("synthetic/")) / sum(s.weight for s in train)
        assert share == pytest.approx(0.7)
    assert made == list(range(20))
    assert len(data.load(eyes, sets="clean", synthetic=10)[0]) == 9  # plain images are of unknown terms


def test_options_of_load_are_checked(eyes):
    with pytest.raises(InvalidInput, match="did you mean 'clean'"):
        data.load(eyes, sets="clear")
    with pytest.raises(InvalidInput, match="synthetic: got -1"):
        data.load(eyes, synthetic=-1)
    with pytest.raises(InvalidInput, match=r"synthetic_share: got 1\.0"):
        data.load(eyes, synthetic=3, synthetic_share=1.0)
    with pytest.raises(InvalidInput, match=r"no image in .* \(sets='clean'\)"):
        data.load(eyes, sets="clean")


def test_pairs_depend_on_seed_and_step_only_and_points_lie_in_both_views(eyes):
    samples, _ = data.load(eyes)
    stream = pairs.PairStream(samples, pairs=3, steps=10, seed=4)
    batch, again = stream[2], stream[2]
    assert torch.equal(batch.planes, again.planes)
    assert torch.equal(batch.points, again.points)
    assert not torch.equal(batch.planes, stream[3].planes)
    assert batch.planes.shape == (6, 1, pairs.CROP_PX, pairs.CROP_PX)
    assert batch.target.shape == batch.weight.shape == (6, pairs.CROP_PX // 4, pairs.CROP_PX // 4)
    assert float(batch.planes.min()) >= 0
    assert float(batch.planes.max()) <= 1
    assert len(batch.points) > 0
    assert float(batch.points.min()) > 0
    assert float(batch.points.max()) < pairs.CROP_PX - 1


def test_the_detector_target_peaks_in_the_cell_of_the_point():
    target, kind = pairs._detector_target(np.array([[41.5, 81.5]]), np.array([[121.5, 41.5]]))
    assert np.unravel_index(target.argmax(), target.shape) == (20, 10)  # pixel 4 * 10 + 1.5, 4 * 20 + 1.5
    assert target[20, 10] == pytest.approx(pairs.PEAK)
    assert target[20, 11] == pytest.approx(target[20, 9])
    assert kind[20, 10] == 2
    assert kind[10, 30] == 0
    assert kind[0, 0] == 1


def test_restyling_keeps_range_shape_and_is_repeatable():
    plane = np.random.default_rng(0).random((96, 96), np.float32)
    vessels = cv2.resize(cross(), (96, 96)).astype(np.float32) / 255
    restyles = (lambda rng: simulate.restyle(rng, plane, vessels), lambda rng: simulate.retouch(rng, plane))
    for seed in range(40):
        first, second = (restyles[seed % 2](np.random.default_rng(seed)) for _ in range(2))
        np.testing.assert_array_equal(first, second)
        assert first.shape == plane.shape
        assert first.dtype == np.float32
        assert np.isfinite(first).all()
        assert 0 <= first.min() <= first.max() <= 1


# ---- the loop ---------------------------------------------------------------------------------------------------
def config(eyes, out, **options) -> retina.Config:
    values = {"steps": 40, "pairs": 2, "workers": 0, "threads": 1, "bf16": False, "progress": False, "warmup_steps": 4}
    return retina.Config(data=eyes, out=out, **(values | options))


def train(config, on_checkpoint=None):
    return loop.run(retina.build(config), config, on_checkpoint)


def rows(folder):
    with (folder / "log.csv").open(newline="") as file:
        return {int(r["step"]): (r["detector"], r["descriptor"]) for r in csv.DictReader(file)}


class KilledError(Exception):
    pass


@pytest.mark.slow
@pytest.mark.parametrize("loss", retina.LOSSES)
def test_a_killed_run_resumes_to_the_same_losses(eyes, tmp_path, loss):
    whole = tmp_path / "whole"
    train(config(eyes, whole, loss=loss))
    assert (whole / "curves.png").is_file()

    def stop(state):
        if state.step >= 20:
            raise KilledError

    broken = tmp_path / "broken"
    with pytest.raises(KilledError):
        train(config(eyes, broken, loss=loss, checkpoint_every_s=0), stop)
    train(config(eyes, broken, loss=loss, resume=True))
    assert rows(broken) == rows(whole)
    a, b = (retina.load_network(f / "last.pt").state_dict() for f in (whole, broken))
    assert all(torch.equal(a[k], b[k]) for k in a)


@pytest.mark.slow
def test_a_few_seconds_of_training_lower_both_losses(eyes, tmp_path):
    path = train(config(eyes, tmp_path, steps=80, pairs=3))
    log = [tuple(map(float, v)) for _, v in sorted(rows(tmp_path).items())]
    assert log[-1][0] < log[0][0]
    assert log[-1][1] < log[0][1]
    _, held_out = data.load(eyes)
    score = validate.validate(retina.load_network(path), held_out, pairs=4)
    assert 0 <= score.precision <= 1
    assert 0 <= score.repeatability <= 1


def test_misuse_names_the_option(eyes, tmp_path):
    with pytest.raises(InvalidInput, match="loss: expected"):
        retina.build(config(eyes, tmp_path, loss="triplet"))
    with pytest.raises(InvalidInput, match="exactly one"):
        retina.build(config(eyes, tmp_path, minutes=1.0))
    with pytest.raises(InvalidInput, match="pairs: must be positive"):
        retina.build(config(eyes, tmp_path, pairs=0))
    with pytest.raises(InvalidInput, match="does not exist"):
        train(config(eyes, tmp_path, resume=True))


def test_mutual_matches_by_hand():
    first = torch.tensor([[1.0, 0], [0, 1], [0.9, 0.1]])
    second = torch.tensor([[0.0, 1], [1, 0]])
    assert validate.mutual_matches(first, second).tolist() == [[0, 1], [1, 0]]


def test_outcomes_need_two_eyes() -> None:
    from fastretina.training.outcomes import outcomes

    samples = [SimpleNamespace(name=f"ravir_ir/{stem}", weight=1.0) for stem in "ab"]  # whose patients are unknown
    with pytest.raises(InvalidInput, match="known to be of different eyes"):
        next(outcomes(None, samples, 1, 0))
