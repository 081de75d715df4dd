"""SuperPoint: shapes, labels, losses, the two recipes, and the method on synthetic eyes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fastretina import InvalidInput, Registrar
from fastretina.synth import SyntheticPair, synthetic_pair

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")
pytest.importorskip("tqdm")

from fastretina.networks.superpoint import CELL_PX, SIZES, SuperPoint, SuperPointSize, heatmap  # noqa: E402
from fastretina.training import adaptation, shapes, superpoint  # noqa: E402
from fastretina.training.recipes import magicpoint  # noqa: E402
from fastretina.training.recipes import superpoint as joint  # noqa: E402
from fastretina.training.sample import Sample  # noqa: E402
from fastretina.training.warp import View, random_view  # noqa: E402

TINY = SuperPointSize((4, 4, 8, 8), 8, 16)


def test_the_network_says_65_classes_and_a_descriptor_of_each_cell() -> None:
    network = SuperPoint(TINY).eval()
    logits, dense = network(torch.zeros(2, 1, 48, 64))
    assert logits.shape == (2, 65, 6, 8)
    assert dense.shape == (2, 16, 6, 8)
    assert SuperPointSize.from_dict(TINY.as_dict()) == TINY
    assert sum(p.numel() for p in SuperPoint(SIZES["paper"]).parameters()) > 1e6


@pytest.mark.parametrize("shape", [(1, 1, 50, 64), (1, 3, 48, 64), (48, 64), (1, 1, 0, 8)])
def test_planes_that_the_network_cannot_take(shape: tuple[int, ...]) -> None:
    with pytest.raises(InvalidInput, match="plane: "):
        SuperPoint(TINY)(torch.zeros(shape))


def test_the_heatmap_puts_each_class_on_its_pixel() -> None:
    points = np.array([[0, 0], [13, 5], [31, 31], [8, 23]], np.float64)
    classes = torch.from_numpy(superpoint.cell_classes(points, 32))
    sure = 50.0 * torch.nn.functional.one_hot(classes, 65).permute(2, 0, 1)[None]
    found = np.argwhere(heatmap(sure)[0].numpy() > 0.5)[:, ::-1]
    assert {tuple(at) for at in found} == {tuple(at) for at in points.astype(int)}


def test_of_two_points_in_a_cell_the_first_counts() -> None:
    classes = superpoint.cell_classes(np.array([[3, 2], [4, 4], [-3, 2], [99, 0]]), 16)
    assert classes.tolist() == [[8 * 2 + 3, superpoint.NOTHING], [superpoint.NOTHING] * 2]


def test_crossings_of_segments() -> None:
    cross = [[[0, 0], [10, 10]], [[0, 10], [10, 0]]]
    flat = [[[0, 20], [10, 20]], [[0, 20.5], [10, 19.5]]]  # nearly parallel
    apart = [[[50, 50], [60, 50]], [[70, 40], [70, 60]]]
    found = shapes._crossings(np.array(cross + flat + apart, np.float64))
    np.testing.assert_allclose(found, [[5, 5]])


@pytest.mark.parametrize("shape", shapes.SHAPES, ids=lambda s: s.__name__)
def test_shapes_are_repeatable_and_their_points_stand_out(shape: shapes.Shape) -> None:
    """Next to a key point the drawing is less flat than elsewhere: labels lie where the ink is."""
    near, everywhere, seen = [], [], 0
    for seed in range(12):
        planes = [np.full((96, 96), 0.5, np.float32) for _ in range(2)]
        points, again = (shape(np.random.default_rng(seed), plane) for plane in planes)
        np.testing.assert_array_equal(points, again)
        np.testing.assert_array_equal(*planes)
        slope = np.hypot(*np.gradient(planes[0]))
        everywhere.append(slope.mean())
        for x, y in np.round(points).astype(int):
            if 5 <= x < 91 and 5 <= y < 91:
                near.append(slope[y - 5 : y + 6, x - 5 : x + 6].max())
                seen += 1
    flat = shape in (shapes.stripes_shape, shapes.ellipses_shape, shapes.texture_shape)
    assert (seen == 0) == flat
    if seen:
        assert np.mean(near) > 4 * np.mean(everywhere)
        assert np.mean(np.array(near) > 0.05) > 0.95


def test_drawings() -> None:
    for seed in range(10):
        plane, points = shapes.draw(np.random.default_rng(seed), 64)
        assert plane.shape == (64, 64)
        assert plane.dtype == np.float32
        assert 0 <= plane.min() < plane.max() <= 1
        assert np.all((points >= 0) & (points <= 63))


class Spots(torch.nn.Module):
    """A detector of what differs from its surroundings, of either polarity."""

    def __init__(self, gain: float = 10.0) -> None:
        super().__init__()
        self.gain = torch.nn.Parameter(torch.tensor(gain))
        self.runs = 0

    def forward(self, plane: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        self.runs += 1
        contrast = torch.nn.functional.avg_pool2d(plane.abs(), 7, 1, 3)
        logits = torch.nn.functional.pixel_unshuffle(self.gain * contrast, CELL_PX)
        return torch.cat([logits, torch.full_like(logits[:, :1], 20.0)], 1), logits


def spotted(planes: int, side: int = 200) -> tuple[Sample, np.ndarray]:
    """An image of bright spots of 5 px, and where they are."""
    at = np.array([[60.0, 50], [130, 70], [90, 140], [150, 150]])
    ys, xs = np.mgrid[:side, :side]
    plane = sum(np.exp(-((xs - x) ** 2 + (ys - y) ** 2) / 8) for x, y in at)
    plane = np.round(50 + 200 * np.clip(plane, 0, 1)).astype(np.uint8)
    stack = np.stack([plane, 255 - plane][:planes])
    blank = np.zeros((side, side), np.uint8)
    return Sample("a/1", 1.0, 14.0, stack, blank + 1, blank, at[:0].astype(np.float32), at[:0], True), at


@pytest.mark.parametrize("planes", [1, 2])
def test_adaptation_brings_responses_back_to_the_image(planes: int) -> None:
    sample, at = spotted(planes)
    found = adaptation.adapt(Spots(), sample, 10, 4, np.random.default_rng(0))
    distance = np.linalg.norm(found[:, None] - at, axis=2)
    assert distance.min(0).max() < 1.0
    assert found.shape == (4, 2)


def test_a_large_image_is_adapted_at_a_lower_resolution_and_labels_are_in_its_pixels() -> None:
    sample, at = spotted(1, 400)
    big = replace(
        sample, px_per_deg=32.0, planes=sample.planes.repeat(2, 1).repeat(2, 2),
        mask=sample.mask.repeat(2, 0).repeat(2, 1),
    )  # fmt: skip
    found = adaptation.adapt(Spots(), big, 6, 4, np.random.default_rng(0))
    distance = np.linalg.norm(found[:, None] - (2 * at + 0.5), axis=2)
    assert distance.min(0).max() < 2.0


def test_labels_are_kept_and_a_killed_run_goes_on(tmp_path: Path) -> None:
    sample, _ = spotted(1)
    options = {"homographies": 3, "points": 4, "seed": 0}
    cache = tmp_path / "labels.npz"
    network, again, other = Spots(), Spots(), Spots(9.0)
    first = adaptation.adapt_all(network, [sample, sample], cache, **options)
    np.testing.assert_array_equal(adaptation.adapt_all(again, [sample, sample], cache, **options)[1], first[1])
    assert (network.runs, again.runs) == (6, 0)
    adaptation.adapt_all(other, [sample, sample], cache, **options)  # another detector: made anew
    assert other.runs == 6
    assert len(adaptation.adapt_all(other, [sample], cache, **options)) == 1  # another list: made anew
    assert other.runs == 9


def views() -> tuple[View, View]:
    rng = np.random.default_rng(4)
    first = random_view(rng, 64, np.array([100.0, 90]), 1.0, 10.0, False)
    return first, random_view(rng, 64, np.array([105.0, 92]), 1.2, 40.0, False)


def test_the_centres_of_cells_in_the_other_view() -> None:
    first, second = views()
    own = superpoint.cell_centres(first, first)
    y, x = np.mgrid[:8, :8] * 8 + 3.5
    np.testing.assert_allclose(own, np.stack([x, y], -1), atol=0.05)  # the mean of four pixels is not quite the middle
    there, back = superpoint.cell_centres(first, second), superpoint.cell_centres(second, first)
    inside = np.all((there > 12) & (there < 50), axis=-1)
    assert inside.sum() > 5
    for at, centre in zip(there[inside], own[inside], strict=True):
        u, v = np.clip(((at - 3.5) / 8).round().astype(int), 0, 7)
        assert np.linalg.norm(back[v, u] - centre) < 8  # the nearest cell there is shown within a cell here


def test_hinge_is_the_sum_over_all_pairs_of_cells() -> None:
    rng = np.random.default_rng(0)
    first, second = (torch.from_numpy(rng.normal(size=(2, 5, 3, 4))).float() for _ in range(2))
    centres = rng.uniform(0, 32, (2, 3, 4, 2)).astype(np.float32)
    seen = tuple(torch.from_numpy(rng.random((2, 3, 4)) < 0.7) for _ in range(2))
    loss = superpoint.hinge_loss(first, second, torch.from_numpy(centres), seen)
    total, count = 0.0, 0
    for p in range(2):
        for i in np.argwhere(seen[0][p].numpy()):
            for j in np.argwhere(seen[1][p].numpy()):
                a, b = first[p, :, i[0], i[1]], second[p, :, j[0], j[1]]
                similarity = float(a @ b / (a.norm() * b.norm()))
                same = np.linalg.norm(centres[p, i[0], i[1]] - (8 * j[::-1] + 3.5)) <= 8
                total += 250 * max(0.0, 1 - similarity) if same else max(0.0, similarity - 0.2)
                count += 1
    assert float(loss) == pytest.approx(total / count, rel=1e-4)


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small networks, and an eye of spots in the place of a data folder."""
    monkeypatch.setitem(SIZES, "small", TINY)
    monkeypatch.setattr(magicpoint, "SHAPE_PX", 64)
    sample, _ = spotted(2, 300)
    sample.vessels[:, ::5] = 255
    monkeypatch.setattr(magicpoint.Config, "samples", lambda self: ([sample, sample], []))


@pytest.fixture
def start(tiny: None, tmp_path: Path) -> Path:
    from fastretina.training.loop import run

    config = magicpoint.Config(tmp_path, tmp_path / "magic", steps=3, drawings=4, progress=False, threads=1)
    return run(magicpoint.build(config), config)


@pytest.mark.parametrize("loss", joint.LOSSES)
def test_both_recipes_run_and_what_they_release_describes_images(start: Path, tmp_path: Path, loss: str) -> None:
    from fastretina.config import Config
    from fastretina.methods.superpoint import SuperPointFeatures
    from fastretina.training.loop import run

    weights = tmp_path / "a.safetensors"
    config = joint.Config(
        tmp_path, tmp_path / "run", steps=2, start=start, homographies=2, labels=20, pairs=2, loss=loss,
        weights=weights, progress=False, threads=1, sets="clean",
    )  # fmt: skip
    learner = joint.build(config)
    before = learner.network.describe[1].weight.clone()
    run(learner, config)
    assert not torch.equal(before, learner.network.describe[1].weight)
    describe = SuperPointFeatures(Config(method="superpoint+mnn", max_keypoints=50), 1, weights)
    facts = describe.facts
    assert (facts["steps"], facts["data"], facts["images"], facts["non_commercial"]) == (2, ["a"], 2, False)
    assert facts["command"].startswith("fastretina train --recipe superpoint --data DATA -o RUN --steps 2 --sets clean")
    assert "--start START" in facts["command"]
    image = np.random.default_rng(0).integers(0, 255, (200, 240), dtype=np.uint8)
    features = describe(image, False)
    assert 0 < len(features.xy) <= 50
    assert features.rows.shape == (len(features.xy), TINY.dim)
    np.testing.assert_allclose(np.linalg.norm(features.rows, axis=1), 1, atol=1e-5)
    assert np.all(np.diff(features.score) <= 0)


def test_a_killed_run_goes_on_to_the_same_network(start: Path, tmp_path: Path) -> None:
    from fastretina.training.loop import load_checkpoint, run

    def config(out: str, **options: object) -> joint.Config:
        return joint.Config(
            tmp_path, tmp_path / out, steps=4, start=start, homographies=2, labels=20, pairs=1, progress=False,
            threads=1, checkpoint_every_s=0.0, **options,
        )  # fmt: skip

    def kill(learner: joint.Learner) -> None:
        if learner.step == 2:
            raise KeyboardInterrupt

    run(joint.build(config("whole")), config("whole"))
    with pytest.raises(KeyboardInterrupt):
        run(joint.build(config("killed")), config("killed"), kill)
    run(joint.build(config("killed", resume=True)), config("killed", resume=True))
    whole, killed = (load_checkpoint(tmp_path / out / "last.pt")["network"] for out in ("whole", "killed"))
    for name, value in whole.items():
        torch.testing.assert_close(killed[name], value, rtol=0, atol=0)


def test_options_that_cannot_be_used(tiny: None, start: Path, tmp_path: Path) -> None:
    from fastretina.training.loop import run

    with pytest.raises(InvalidInput, match="size: expected one of"):
        magicpoint.build(magicpoint.Config(tmp_path, tmp_path, steps=1, size="big"))
    with pytest.raises(InvalidInput, match="start: missing"):
        joint.build(joint.Config(tmp_path, tmp_path, steps=1))
    with pytest.raises(InvalidInput, match="loss: expected one of"):
        joint.build(joint.Config(tmp_path, tmp_path, steps=1, start=start, loss="triplet"))
    with pytest.raises(InvalidInput, match="another size"):
        joint.build(joint.Config(tmp_path, tmp_path, steps=1, start=start, size="paper"))
    with pytest.raises(InvalidInput, match="does not exist"):
        joint.build(joint.Config(tmp_path, tmp_path, steps=1, start=tmp_path / "none.pt"))
    config = magicpoint.Config(tmp_path, start.parent, steps=5, drawings=7, resume=True, progress=False)
    with pytest.raises(InvalidInput, match=r"resume: .* was made with drawings=4"):
        run(magicpoint.build(config), config)


METHOD = "superpoint+mnn"
SIDE = 480


@pytest.fixture(scope="module")
def registrar() -> Registrar:
    return Registrar(method=METHOD, threads=1)


@pytest.fixture(scope="module")
def pair() -> SyntheticPair:
    return synthetic_pair(5, (SIDE, SIDE), ("RF", "RF"), "easy")


def test_a_pair_of_one_modality_is_registered(registrar: Registrar, pair: SyntheticPair) -> None:
    result = registrar.register(pair.fixed, pair.moving)
    assert result.ok
    assert result.transform is not None
    assert result.transform.kind == "affine"
    assert pair.mean_error(result.transform) < 3


def test_the_negative_is_as_good(registrar: Registrar, pair: SyntheticPair) -> None:
    """The reason for trying one polarity only."""
    result = registrar.register(pair.fixed, 255 - pair.moving)
    assert result.ok
    assert result.transform is not None
    assert pair.mean_error(result.transform) < 3


def test_two_modalities(registrar: Registrar) -> None:
    pair = synthetic_pair(5, (SIDE, SIDE), ("CF", "FA"), "easy")
    result = registrar.register(pair.fixed, pair.moving)
    assert result.transform is not None
    assert pair.mean_error(result.transform) < 5


def test_the_same_every_time_and_after_prepare(registrar: Registrar, pair: SyntheticPair) -> None:
    first = registrar.register(pair.fixed, pair.moving)
    assert registrar.register(registrar.prepare(pair.fixed), pair.moving).to_json() == first.to_json()


def test_another_eye_and_a_black_frame_are_refused(registrar: Registrar, pair: SyntheticPair) -> None:
    other = synthetic_pair(6, (SIDE, SIDE), ("RF", "RF"), "easy")
    assert not registrar.register(pair.fixed, other.moving).ok
    assert registrar.register(pair.fixed, np.zeros((100, 120), np.uint8)).status == "no_content"


def test_torch_keeps_its_threads(registrar: Registrar, pair: SyntheticPair) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(before + 1)
    registrar.prepare(pair.fixed)
    assert torch.get_num_threads() == before + 1
    torch.set_num_threads(before)
