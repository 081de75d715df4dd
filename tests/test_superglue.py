"""SuperGlue: the network, its labels and loss, its recipe in a small setting, and the methods that use it."""

from __future__ import annotations

import csv
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="SuperGlue needs torch (fastretina[torch])")
pytest.importorskip("safetensors", reason="SuperGlue needs safetensors (fastretina[torch])")
pytest.importorskip("tqdm", reason="training needs tqdm (fastretina[train])")
pytest.importorskip("fastretina._core")

import fastretina  # noqa: E402
from fastretina import EngineError, InvalidInput, Registrar  # noqa: E402
from fastretina.methods import superglue  # noqa: E402
from fastretina.methods.keypoints import Features  # noqa: E402
from fastretina.methods.superglue import Matcher, points_of  # noqa: E402
from fastretina.networks.superglue import Points, SuperGlue, SuperGlueSize, mutual, normalised, sinkhorn  # noqa: E402
from fastretina.networks.weight_files import load_weights  # noqa: E402
from fastretina.synth import synthetic_pair  # noqa: E402
from fastretina.training import matching, views  # noqa: E402
from fastretina.training.loop import run  # noqa: E402
from fastretina.training.recipes import superglue as recipe  # noqa: E402
from fastretina.training.sample import Sample  # noqa: E402

SMALL = SuperGlueSize(dims=16, width=16, layers=2, heads=2, encoder=(8,))


def random_points(count: int, seed: int = 0, batch: int = 1, dims: int = 16) -> Points:
    generator = torch.Generator().manual_seed(seed)
    rows = torch.nn.functional.normalize(torch.randn(batch, count, dims, generator=generator), dim=2)
    xy = torch.rand(batch, count, 2, generator=generator) * 2 - 1
    return Points(xy, rows, torch.rand(batch, count, generator=generator))


# ---- the assignment ---------------------------------------------------------------------------------------------
def log_domain(scores: torch.Tensor, dustbin: float, iterations: int) -> torch.Tensor:
    """The paper's iterations, in doubles."""
    rows, columns = scores.shape
    z = torch.full((rows + 1, columns + 1), dustbin, dtype=torch.float64)
    z[:-1, :-1] = scores
    of_rows, of_columns = torch.zeros(rows + 1).double(), torch.zeros(columns + 1).double()
    of_rows[-1], of_columns[-1] = math.log(columns), math.log(rows)
    u, v = torch.zeros(rows + 1).double(), torch.zeros(columns + 1).double()
    for _ in range(iterations):
        u = of_rows - torch.logsumexp(z + v, 1)
        v = of_columns - torch.logsumexp(z + u[:, None], 0)
    return z + u[:, None] + v


@pytest.mark.parametrize("scale", [1.0, 5.0, 30.0])
@pytest.mark.parametrize("iterations", [1, 7, 10, 25, 100])
def test_sinkhorn_is_that_of_the_log_domain(scale: float, iterations: int):
    scores = torch.randn(2, 20, 31, generator=torch.Generator().manual_seed(0)) * scale
    found = sinkhorn(scores, torch.tensor(1.0), iterations)
    for one, expected in zip(found, scores, strict=True):
        # f32: a unit in the last place of the largest score
        assert (one - log_domain(expected, 1.0, iterations)).abs().max() < 1e-6 * (1 + 3 * scale)


def test_mass_is_kept_and_a_clear_match_is_found():
    scores = torch.full((1, 3, 4), -5.0)
    scores[0, 0, 2] = scores[0, 1, 0] = 8.0
    found = sinkhorn(scores, torch.tensor(1.0), 100)
    torch.testing.assert_close(found.exp()[0, :-1].sum(1), torch.ones(3), rtol=0, atol=1e-4)
    torch.testing.assert_close(found.exp()[0, :, :-1].sum(0), torch.ones(4), rtol=0, atol=1e-4)
    row, column, probability = mutual(found[0], 0.2)
    assert sorted(zip(row.tolist(), column.tolist(), strict=True)) == [(0, 2), (1, 0)]
    assert bool((probability > 0.9).all())
    assert found[0, 2, -1].exp() > 0.9  # without a partner: the dustbin


def test_the_gradient_of_the_last_block_is_the_gradient():
    scores = torch.randn(1, 30, 30, generator=torch.Generator().manual_seed(1)) * 2 + 4 * torch.eye(30)
    scores = scores.double()[None, 0].requires_grad_()

    def loss(found: torch.Tensor) -> torch.Tensor:
        return -found[:20, :20].diagonal().sum() - found[20:-1, -1].sum()

    (ours,) = torch.autograd.grad(loss(sinkhorn(scores, torch.tensor(1.0).double(), 100)[0]), scores)
    (unrolled,) = torch.autograd.grad(loss(log_domain(scores[0], 1.0, 100)), scores)
    assert (ours - unrolled).norm() < 0.03 * unrolled.norm()


def test_a_match_has_to_be_mutual_and_likely():
    probability = torch.tensor([[0.5, 0.3, 0.1], [0.6, 0.1, 0.1], [0.1, 0.1, 0.19], [0.0, 0.0, 0.0]])
    probability = torch.cat([probability, torch.zeros(4, 1)], 1)
    row, column, value = mutual(probability.log(), 0.2)
    assert (row.tolist(), column.tolist()) == ([1], [0])
    assert value.tolist() == pytest.approx([0.6])


# ---- the network ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("fixed", "moving"), [(1, 1), (1, 9), (12, 5)])
def test_shapes_of_any_number_of_points(fixed: int, moving: int):
    found = SuperGlue(SMALL)(random_points(fixed, 0, 3), random_points(moving, 1, 3))
    assert found.shape == (3, fixed + 1, moving + 1)
    assert found.dtype == torch.float32
    assert bool(torch.isfinite(found).all())


def trained_looking(size: SuperGlueSize = SMALL) -> SuperGlue:
    """A network none of whose branches is zero."""
    torch.manual_seed(0)
    network = SuperGlue(size).eval()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return network


def test_order_of_points_and_of_images_does_not_matter():
    network, fixed, moving = trained_looking(), random_points(9), random_points(7, 1)
    found = network(fixed, moving)
    order = torch.randperm(9)
    shuffled = network(Points(*(part[:, order] for part in fixed)), moving)
    torch.testing.assert_close(shuffled[:, :-1], found[:, order], rtol=0, atol=1e-4)
    torch.testing.assert_close(
        network(moving, fixed).transpose(1, 2), found, rtol=0, atol=2e-2
    )  # Sinkhorn ends on columns


def test_it_starts_from_the_descriptors_alone():
    fixed = random_points(20)
    order = torch.randperm(20)
    moving = Points(random_points(20, 2).xy, fixed.rows[:, order], fixed.score[:, order])
    row, column, _ = mutual(SuperGlue(SMALL)(fixed, moving)[0], 0.0)
    assert torch.equal(order[column], row)


def test_coordinates_do_not_depend_on_resolution():
    ones = normalised(torch.tensor([[0.0, 0.0], [639.0, 479.0]]), (640, 480))
    assert ones.tolist()[0] == [-v for v in ones.tolist()[1]]
    assert float(ones.abs().max()) == pytest.approx(0.5 / 0.7, rel=0.01)


def test_misuse_of_the_network():
    network = SuperGlue(SMALL)
    with pytest.raises(InvalidInput, match="moving: got xy, rows and score of"):
        network(random_points(4), random_points(4, dims=8))
    with pytest.raises(InvalidInput, match="fixed: got"):
        network(random_points(0), random_points(4))
    with pytest.raises(InvalidInput, match="width: got 30; allowed: multiples of heads"):
        SuperGlueSize(width=30)
    with pytest.raises(InvalidInput, match="layers: got 0"):
        SuperGlueSize(layers=0)
    assert SuperGlueSize.from_dict(SMALL.as_dict()) == SMALL


# ---- views, labels and loss -------------------------------------------------------------------------------------
def eye(number: int) -> Sample:
    """A small image with lines that cross, in two modalities."""
    rng = np.random.default_rng(number)
    lines = np.zeros((160, 160), np.uint8)
    cv2 = pytest.importorskip("cv2")
    for _ in range(12):
        cv2.line(lines, tuple(map(int, rng.integers(0, 160, 2))), tuple(map(int, rng.integers(0, 160, 2))), 255, 2)
    planes = np.stack([60 + lines // 3, 180 - lines // 3])
    nobody = np.zeros((0, 2), np.float32)
    return Sample(f"synthetic/{number}", 1.0, 14.0, planes, np.ones((160, 160), np.uint8), lines, nobody, nobody, True)


class Corners:
    """A front end without a network: OpenCV's corners, described by what is around them."""

    choices = {"network": None}  # noqa: RUF012
    weights_hash = "corners"

    def __call__(self, image: np.ndarray, inverted: bool) -> Features:
        cv2 = pytest.importorskip("cv2")
        at = cv2.goodFeaturesToTrack(image, 60, 0.01, 4)
        xy = np.zeros((0, 2), np.float32) if at is None else at.reshape(-1, 2)
        padded = np.pad(cv2.GaussianBlur(image, (0, 0), 1.5), 4, mode="edge").astype(np.float32)
        rows = [padded[y : y + 8 : 2, x : x + 8 : 2].ravel() for x, y in np.rint(xy).astype(int)]
        rows = np.array(rows, np.float32).reshape(-1, 16)
        rows = (rows - rows.mean(1, keepdims=True)) if len(rows) else rows
        rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-6)
        return Features(xy, rows, np.linspace(1, 0, len(xy), dtype=np.float32), max(image.shape))


SIDES = views.ViewOptions(3, (150, 180))


def test_a_point_of_a_view_keeps_its_place():
    rng = np.random.default_rng(0)
    view = views.whole_view(rng, eye(0), 170)
    at = rng.uniform(20, 150, (30, 2))
    assert np.abs(view.to_view(view.to_source(at)) - at).max() < 1e-3
    grid = view.source_map()
    np.testing.assert_allclose(view.to_source(np.float64([[40, 70], [0, 0]])), [grid[70, 40], grid[0, 0]], atol=1e-3)


def test_views_are_made_once_and_again_for_other_options(tmp_path: Path):
    samples, front = [eye(0), eye(1)], Corners()
    first = views.described(samples, front, tmp_path / "views.npz", SIDES)
    assert [v.sample for v in first] == [0, 0, 0, 1, 1, 1]
    calls: list[int] = []

    class Counting(Corners):
        def __call__(self, image: np.ndarray, inverted: bool) -> Features:
            calls.append(1)
            return super().__call__(image, inverted)

    again = views.described(samples, Counting(), tmp_path / "views.npz", SIDES)
    assert not calls
    for one, two in zip(first, again, strict=True):
        assert one[:3] == two[:3]
        for a, b in zip(one[3:], two[3:], strict=True):
            np.testing.assert_array_equal(a, b)
    views.described(samples, Counting(), tmp_path / "views.npz", replace(SIDES, views=2))
    assert len(calls) == 4
    with pytest.raises(InvalidInput, match="samples: no image to show"):
        views.described([], front, tmp_path / "none.npz", SIDES)


def view_of(source: list[list[float]], scale: float = 1.0) -> views.DescribedView:
    at = np.float32(source)
    count = len(at)
    rows = np.eye(count, 16, dtype=np.float16)
    return views.DescribedView(0, (100, 100), scale, at, at, rows, np.linspace(1, 0, count, dtype=np.float32))


def test_labels_by_hand():
    first = view_of([[10, 10], [50, 50], [80, 80], [20, 90]])
    second = view_of([[52, 50], [10, 11], [85, 80], [70, 10], [51.5, 50]])
    rows, alone_first, alone_second = matching.labels((first, second), [np.arange(4), np.arange(5)])
    assert rows.tolist() == [[0, 1], [1, 4]]  # (50, 50) has two within 3 px: the nearer one
    assert alone_first.tolist() == [False, False, False, True]  # (80, 80) is 5 px off: neither match nor dustbin
    assert alone_second.tolist() == [False, False, False, True, False]


def test_labels_are_px_of_the_view():
    first, second = view_of([[10, 10]], 4.0), view_of([[11.25, 10]], 4.0)  # 1.25 px of the image, 5 px of the views
    rows, alone, _ = matching.labels((first, second), [np.arange(1)] * 2)
    assert len(rows) == 0
    assert alone.tolist() == [False]


def test_loss_by_hand():
    none = torch.zeros(1, 2, dtype=torch.bool)
    batch = matching.MatchBatch(
        random_points(2), random_points(2), torch.tensor([[0, 0, 1]]), torch.tensor([[False, True]]), none
    )
    found = torch.tensor([[[0.1, 0.6, 0.3], [0.5, 0.1, 0.4], [0.4, 0.3, 1.3]]]).log()
    expected = -0.5 * (math.log(0.6) + math.log(0.4))
    assert matching.assignment_loss(found, batch).item() == pytest.approx(expected, rel=1e-5)
    precision, recall = matching.judged(found, batch, 0.2)
    assert (precision, recall) == (0.5, 1.0)  # the second point of FIXED has a partner that it should not have


def test_a_batch_depends_on_seed_and_step_only(tmp_path: Path):
    found = views.described([eye(0), eye(1)], Corners(), tmp_path / "views.npz", SIDES)
    pairs = matching.PairSource(found, np.array([1.0, 3.0]), 3, 40, 5)
    stream = pairs.batches(2)
    first, second = next(stream), next(stream)
    again = pairs.batch(3)
    for one, two in zip((*second.fixed, second.match), (*again.fixed, again.match), strict=True):
        assert torch.equal(one, two)
    assert not torch.equal(first.fixed.rows, second.fixed.rows)
    assert first.fixed.rows.shape[:2] == first.moving.rows.shape[:2]
    assert first.fixed.rows.shape[0] == 3
    assert len(first.match) > 0
    assert not bool((first.alone_fixed[first.match[:, 0], first.match[:, 1]]).any())
    with pytest.raises(InvalidInput, match="no image has two views"):
        matching.PairSource(found[:1], np.ones(2), 3, 40, 5)


# ---- the recipe -------------------------------------------------------------------------------------------------
@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> recipe.Config:
    """A run that takes seconds: small images, a small network, a front end without one."""
    front = replace(recipe.FRONT_ENDS["retina"], build=lambda config, threads: Corners(), dims=16, view_px=(150, 180))
    monkeypatch.setitem(recipe.FRONT_ENDS, "retina", front)
    monkeypatch.setattr(recipe.Config, "samples", lambda self: ([eye(0), eye(1)], [eye(2)]))
    monkeypatch.setattr(recipe, "HELD_OUT_BATCHES", 2)
    return recipe.Config(
        data=tmp_path, out=tmp_path / "run", steps=6, seed=3, threads=1, views=3, width=16, layers=2, pairs=2,
        points=32, progress=False, warmup_steps=1,
    )  # fmt: skip


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_it_learns(config: recipe.Config):
    learner = recipe.build(replace(config, steps=60, rate=3e-3))
    batch = next(learner.batches())
    losses = [learner.update(batch, 0.3)["loss"] for _ in range(30)]
    assert losses[-1] < 0.7 * losses[0]


def test_a_run_that_is_killed_and_resumed_ends_the_same(config: recipe.Config):
    run(recipe.build(config), config)
    whole = torch.load(config.out / "last.pt", weights_only=True)["network"]

    def kill(learner: recipe.Learner) -> None:
        if learner.step == 4:
            raise InterruptedError

    half = replace(config, out=config.out.parent / "half", checkpoint_every_s=0.0)
    with pytest.raises(InterruptedError):
        run(recipe.build(half), half, kill)
    rest = replace(half, resume=True)
    run(recipe.build(rest), rest)
    resumed = torch.load(rest.out / "last.pt", weights_only=True)["network"]
    for name, value in whole.items():
        assert torch.equal(value, resumed[name]), name
    assert [row["step"] for row in rows_of(rest.out / "log.csv")] == ["6"]
    other = replace(rest, layers=4)
    with pytest.raises(InvalidInput, match=r"resume: .* was made with layers=2"):
        run(recipe.build(other), other)


def test_the_full_network_trains_and_ships(config: recipe.Config, tmp_path: Path):
    full = replace(config, layers=18, steps=2, weights=tmp_path / "full.safetensors")
    run(recipe.build(full), full)
    matcher = Matcher(full.weights)
    assert len(matcher.network.layers) == 18
    assert matcher.facts["steps"] == 2
    assert "--recipe superglue" in matcher.facts["command"]
    assert "--layers 18" in matcher.facts["command"]
    assert matcher.facts["front_end"]["weights_hash"] == "corners"
    assert matcher.facts["licence"].startswith("Apache-2.0")
    assert set(matcher.facts["held_out"]) == {"loss", "precision", "recall"}


def test_weights_for_other_features_are_refused(config: recipe.Config, monkeypatch: pytest.MonkeyPatch):
    short = replace(config, steps=1, weights=config.data / "superglue_retina.safetensors")
    run(recipe.build(short), short)
    monkeypatch.setattr(superglue, "WEIGHTS", config.data)
    made = superglue.pipeline("retina", fastretina.Config(method="retina+superglue"), 1)
    assert made.weights_hash.startswith("corners+")
    monkeypatch.setattr(Corners, "weights_hash", "other corners")
    with pytest.raises(EngineError, match="was trained on other retina weights"):
        superglue.pipeline("retina", fastretina.Config(method="retina+superglue"), 1)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"front_end": "retna"}, "front_end: got 'retna'; did you mean 'retina'"),
        ({"views": 1}, "views: got 1"),
        ({"layers": 0}, "layers: must be positive"),
        ({"width": 30}, "width: got 30"),
    ],
)
def test_misuse_of_the_recipe(config: recipe.Config, option: dict[str, object], message: str):
    with pytest.raises(InvalidInput, match=message):
        recipe.build(replace(config, **option))


# ---- the methods ------------------------------------------------------------------------------------------------
METHODS = ("retina+superglue", "superpoint+superglue")


@pytest.fixture(scope="module")
def pair() -> fastretina.synth.SyntheticPair:
    return synthetic_pair(5, (480, 480), ("CF", "FA"), "moderate")


@pytest.mark.parametrize("name", METHODS)
def test_two_modalities_of_an_eye_are_registered(pair: fastretina.synth.SyntheticPair, name: str):
    registrar = Registrar(method=name, threads=1)
    result = registrar.register(pair.fixed, pair.moving)
    assert result.transform is not None
    assert result.transform.kind == "affine"
    assert pair.mean_error(result.transform) < 5
    assert result.match_scores.min() > 0.2
    assert np.all(np.diff(result.match_scores) <= 0)
    again = registrar.register(registrar.prepare(pair.fixed), pair.moving)
    assert again.to_json() == result.to_json()
    other = synthetic_pair(6, (480, 480), ("CF", "FA"), "moderate")
    assert not registrar.register(pair.fixed, other.moving).ok


@pytest.mark.parametrize("name", METHODS)
def test_nothing_to_see_is_refused(pair: fastretina.synth.SyntheticPair, name: str):
    result = Registrar(method=name, threads=1).register(pair.fixed, np.zeros((100, 120), np.uint8))
    assert (result.status, result.confidence) == ("no_content", 0)


@pytest.mark.parametrize("name", METHODS)
def test_the_file_that_ships(name: str):
    method = fastretina.methods.METHODS[name]
    (file,) = [f for f in method.weights if f.startswith("superglue")]
    network, facts, _ = load_weights(
        lambda f: SuperGlue(SuperGlueSize.from_dict(f["size"])), fastretina.methods.WEIGHTS / file
    )
    assert (fastretina.methods.WEIGHTS / file).stat().st_size < 3e6
    assert network.size.iterations == 100
    assert facts["size"]["layers"] <= 6
    assert facts["licence"].startswith(method.licence)


def test_a_matcher_of_one_point(pair: fastretina.synth.SyntheticPair):
    one = Features(np.zeros((1, 2), np.float32), np.eye(1, 128, dtype=np.float32), np.ones(1, np.float32), 480)
    matcher = Matcher(fastretina.methods.WEIGHTS / "superglue_retina.safetensors")
    row, column, score = matcher(one, one, (480, 480), (480, 480))
    assert (row.dtype, column.dtype, score.dtype) == (np.int32, np.int32, np.float32)
    assert points_of(one, (480, 360)).rows.shape == (1, 1, 128)
