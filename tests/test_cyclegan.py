"""CycleGAN: networks, unpaired crops, a run that is killed and resumed, and translation before key points."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="CycleGAN needs torch (fastretina[torch])")
cv2 = pytest.importorskip("cv2", reason="training needs OpenCV")
pytest.importorskip("tqdm", reason="training needs tqdm (fastretina[train])")
pytest.importorskip("safetensors", reason="weight files need safetensors (fastretina[torch])")

from fastretina import EngineError, InvalidInput, Registrar, Transform, methods, ops  # noqa: E402
from fastretina.config import Config as RegistrarConfig  # noqa: E402
from fastretina.methods import translation  # noqa: E402
from fastretina.networks import cyclegan  # noqa: E402
from fastretina.networks.weight_files import load_weights, save_weights  # noqa: E402
from fastretina.synth import synthetic_pair  # noqa: E402
from fastretina.training import loop  # noqa: E402
from fastretina.training.losses import turn_back, turn_plane  # noqa: E402
from fastretina.training.recipes import cyclegan as recipe  # noqa: E402
from fastretina.training.sample import Sample  # noqa: E402

TINY = {"channels": 4, "blocks": 1, "crops": 2, "crop_px": 64, "pool": 3, "threads": 1, "progress": False}


# ---- networks ---------------------------------------------------------------------------------------------------
def test_a_generator_keeps_the_size_and_the_range():
    network = cyclegan.Generator(cyclegan.GeneratorSize(4, 1)).eval()
    found = network(torch.rand(2, 1, 40, 64) * 2 - 1)
    assert found.shape == (2, 1, 40, 64)
    assert found.abs().max() <= 1


def test_the_default_is_small():
    assert sum(p.numel() for p in cyclegan.Generator().parameters()) * 2 < 1e6  # bytes in half precision


def test_with_symmetric_kernels_a_mirrored_image_is_translated_to_the_mirrored_image():
    """Nothing in the architecture prefers a side: no half pixel is lost on the way down or up."""
    network = cyclegan.Generator(cyclegan.GeneratorSize(4, 2)).eval()
    with torch.no_grad():
        for part in network.modules():
            if isinstance(part, torch.nn.Conv2d):
                part.weight += part.weight.flip(-1)
                part.weight += part.weight.flip(-2)
        plane = torch.rand(1, 1, 48, 64) * 2 - 1
        found = network(plane)
        assert found.std() > 1e-3
        for axis in (-1, -2):
            torch.testing.assert_close(network(plane.flip(axis)), found.flip(axis), atol=1e-4, rtol=0)


def test_misshapen_planes_are_refused():
    network = cyclegan.Generator(cyclegan.GeneratorSize(4, 1))
    for shape in ((1, 1, 42, 64), (1, 3, 64, 64), (64, 64)):
        with pytest.raises(InvalidInput, match="plane: got"):
            network(torch.zeros(shape))


def test_a_discriminator_judges_patches_of_70_px():
    judge = cyclegan.Discriminator(4)
    assert judge(torch.zeros(1, 1, 128, 128)).shape == (1, 1, 14, 14)
    for part in judge.modules():  # normalisation sees the whole image; a verdict's own patch is what is left
        for name, child in part.named_children():
            if isinstance(child, torch.nn.InstanceNorm2d):
                setattr(part, name, torch.nn.Identity())
    plane = torch.rand(1, 1, 128, 128, requires_grad=True)
    judge(plane)[0, 0, 7, 7].backward()
    seen = plane.grad[0, 0].abs() > 0
    assert seen.any(0).sum() == 70
    assert seen.any(1).sum() == 70


# ---- crops ------------------------------------------------------------------------------------------------------
def striped(name: str, px_per_deg: float, field_deg: float = 12.0, period_deg: float = 1.0) -> Sample:
    side = round(field_deg * px_per_deg)
    wave = 128 + 100 * np.sin(2 * np.pi * np.arange(side) / (period_deg * px_per_deg))
    plane = np.repeat(wave.astype(np.uint8)[None], side, axis=0)
    none = np.zeros((0, 2), np.float32)
    return Sample(name, 1.0, px_per_deg, plane[None], np.ones_like(plane), plane, none, none, False)


def period_px(look: np.ndarray) -> float:
    """Of stripes in any direction."""
    power = np.abs(np.fft.fft2(look - look.mean(), (1024, 1024))) ** 2
    y, x = np.unravel_index(np.argmax(power), power.shape)
    return 1024 / float(np.hypot(*(min(int(k), 1024 - int(k)) for k in (y, x))))


@pytest.mark.parametrize("px_per_deg", [9.0, 27.0])
def test_crops_show_a_degree_on_as_many_pixels_whatever_the_image(px_per_deg):
    planes = recipe.planes_of([striped("drive/a", px_per_deg)], "CF")
    found = recipe.Source(planes, (16.0, 16.0), 96).crops([1], 4)
    for look in found.looks.numpy():
        assert abs(period_px(look[0]) - 16) < 1.5  # a view is stretched by some percent


def test_a_crop_depends_on_seed_step_and_place_only():
    source = recipe.Source(recipe.planes_of([striped("drive/a", 20.0), striped("hrf/b", 14.0)], "CF"), (10, 20), 64)
    first, again, other = (source.crops(seed, 2).looks for seed in ([0, 5], [0, 5], [0, 6]))
    torch.testing.assert_close(first, again, rtol=0, atol=0)
    assert (first != other).any()
    torch.testing.assert_close(source.crops([0, 5], 1).looks, first[:1], rtol=0, atol=0)


def test_modalities_are_told_apart():
    wide, small = striped("synthetic/1", 20.0, 40.0), striped("synthetic/2", 27.0, 15.0)
    samples = [striped("drive/a", 12.0), striped("octa_synth/b", 27.0), striped("ffa_huapu4_fa/c", 10.0), wide, small]
    names = {m: [(s.name, i) for s, i in recipe.planes_of(samples, m)] for m in ("CF", "OCTA", "FA")}
    assert names["CF"] == [("drive/a", 0), ("synthetic/1", 0)]
    assert names["OCTA"] == [("octa_synth/b", 0), ("synthetic/2", 0), ("synthetic/2", 1)]
    assert names["FA"] == [("ffa_huapu4_fa/c", 0), ("synthetic/1", 1)]


# ---- a run ------------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of synthetic eyes under the names of sets."""
    root = tmp_path_factory.mktemp("data")
    for seed in range(2):
        pair = synthetic_pair(seed, (200, 200), ("CF", "OCTA"), "easy")
        for place, picture in (("drive/images", pair.fixed[..., ::-1]), ("octa_synth/images", pair.moving)):
            (root / place).mkdir(parents=True, exist_ok=True)
            assert cv2.imwrite(str(root / place / f"{seed}.png"), picture)
    return root


def config(folder: Path, out: Path, **keywords: object) -> recipe.Config:
    return recipe.Config(**{"data": folder, "out": out, "bf16": False, **TINY, **keywords})


def test_a_run_that_is_killed_goes_on(folder, tmp_path):
    part = config(folder, tmp_path, steps=3)
    loop.run(recipe.build(part), part)
    rest = config(folder, tmp_path, steps=6, resume=True)
    learner = recipe.build(rest)
    loop.run(learner, rest)
    assert learner.step == 6
    assert [len(pool) for pool in learner.pools] == [3, 3]
    with (tmp_path / "log.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["3", "6"]
    assert all(np.isfinite(float(row[name])) for row in rows for name in learner.columns)


def test_a_resumed_learner_takes_the_same_steps(folder, tmp_path):
    def stepped(learner: recipe.Learner, count: int) -> recipe.Learner:
        batches = learner.batches()
        for _ in range(count):
            learner.update(next(batches), 0.25)
            learner.step += 1
        return learner

    options = {"steps": 100}
    whole = stepped(recipe.build(config(folder, tmp_path, **options)), 5)
    half = stepped(recipe.build(config(folder, tmp_path, **options)), 2)
    resumed = recipe.build(config(folder, tmp_path, **options, seed=0))
    resumed.restore(half.state())
    resumed.step = half.step
    stepped(resumed, 3)
    for name, network in whole.networks.items():
        for own, again in zip(network.parameters(), resumed.networks[name].parameters(), strict=True):
            torch.testing.assert_close(own, again, rtol=0, atol=0)
    other = recipe.build(config(folder, tmp_path, **options, channels=8))
    with pytest.raises(InvalidInput, match="holds generators of another size"):
        other.restore(half.state())


@pytest.mark.parametrize("turn", range(8))
def test_the_way_back_turns_back(turn):
    plane = torch.arange(9.0).reshape(1, 1, 3, 3)
    there = turn_plane(plane, turn)
    torch.testing.assert_close(turn_back(there, turn), plane, rtol=0, atol=0)
    assert (turn == 0) == bool((there == plane).all())


def test_a_discriminator_sees_earlier_translations_half_of_the_time(folder, tmp_path):
    learner = recipe.build(config(folder, tmp_path, steps=1))
    pool: list[torch.Tensor] = []
    rng = np.random.default_rng(0)
    seen = [int(learner._pooled(pool, torch.tensor(i), rng)) for i in range(2003)]
    assert seen[:3] == [0, 1, 2]
    fresh = sum(i == got for i, got in enumerate(seen[3:], start=3))
    assert 900 < fresh < 1100  # of 2000; more than four deviations
    earlier = [got for i, got in enumerate(seen[3:], start=3) if got != i]
    assert len(set(earlier)) == len(earlier)  # each is given back once


def test_the_sheet_and_what_is_released(folder, tmp_path):
    settings = config(folder, tmp_path, steps=1, weights=tmp_path / "a.safetensors")
    learner = recipe.build(settings)
    loop.run(learner, settings, recipe.on_checkpoint)
    sheet = cv2.imread(str(tmp_path / "samples.png"), cv2.IMREAD_UNCHANGED)
    assert sheet.shape == (6 * 64, 5 * 64)
    networks, facts, _ = load_weights(translation.generators, tmp_path / "a.safetensors")
    assert list(networks) == facts["translations"] == ["cf-octa", "octa-cf"]
    assert facts["non_commercial"] is True
    plane = torch.rand(1, 1, 64, 64) * 2 - 1
    with torch.no_grad():
        for name, own in (("cf-octa", learner.to_b), ("octa-cf", learner.to_a)):
            torch.testing.assert_close(networks[name](plane), own(plane), atol=2e-2, rtol=0)  # half precision


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"pair": "cf-octo"}, "pair: got 'cf-octo'; did you mean 'cf-octa'"),
        ({"crop_px": 60}, "crop_px: got 60"),
        ({"crops": 0}, "crops: must be positive"),
        ({"pair": "cf-fa"}, "data: no FA image in"),
    ],
)
def test_options_that_cannot_be_used(folder, tmp_path, keywords, message):
    with pytest.raises(InvalidInput, match=message):
        recipe.build(config(folder, tmp_path, steps=1, **keywords))


# ---- translation ------------------------------------------------------------------------------------------------
class Negative(torch.nn.Module):
    """Stands in for a generator."""

    def forward(self, plane: torch.Tensor) -> torch.Tensor:
        return -plane


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with an untrained generator for every translation."""
    for pair in ("cf-octa", "octa-cf"), ("cf-fa", "fa-cf"):
        facts = {"size": {"channels": 4, "blocks": 1}, "translations": pair, "working_size": 320}
        save_weights(translation.generators(facts), tmp_path / translation.WEIGHT_FILES[pair[0]], facts)
    monkeypatch.setattr(translation, "WEIGHTS", tmp_path)
    return tmp_path


def test_a_look_is_the_normalised_plane(weights):
    image = synthetic_pair(3, (200, 160), ("CF", "FA"), "easy").fixed
    translator = translation.Translator("cf-fa")
    look, scale = translator.look(image)
    assert look.dtype == np.uint8
    assert look.shape == (256, 320)
    assert scale == 1.6
    plane = ops.image(image, working_size=320).plane[:256, :320]
    np.testing.assert_allclose(look / 127.5 - 1, np.clip(plane / cyclegan.LIMIT, -1, 1), atol=0.5 / 127.5 + 1e-6)
    translator.network = Negative()
    shown, again = translator.translated(image)
    assert again == scale
    assert np.abs(shown.astype(int) + look - 255).max() <= 1


def test_what_is_found_in_a_look_is_where_it_is_in_the_image(weights, monkeypatch):
    """MOVING is FIXED's negative, cut: SIFT alone sees nothing in common, and with the translation all of it."""
    monkeypatch.setattr(translation.Translator, "translated", _negative)
    eye = synthetic_pair(5, (420, 420), ("CF", "FA"), "easy").fixed[..., 1]
    cut, points = 255 - eye[20:, 14:], np.random.default_rng(0).uniform(120, 300, (50, 2))
    assert not Registrar(method="sift", threads=1).register(eye, cut).ok
    for fixed, moving, truth in ((eye, cut, (14, 20)), (cut, eye, (-14, -20))):
        result = Registrar(method="sift", threads=1, translate="cf-fa").register(fixed, moving)
        assert result.ok
        assert result.choices["translate"] == "cf-fa"
        assert np.linalg.norm(result.transform(points) - points - truth, axis=1).max() < 0.5
        assert result.weights_hash


def _negative(self: translation.Translator, image: np.ndarray) -> tuple[np.ndarray, float]:
    look, scale = self.look(image)
    return 255 - look, scale


def test_an_untrained_translation_is_refused_rather_than_believed(weights):
    pair = synthetic_pair(5, (300, 300), ("CF", "OCTA"), "easy")
    result = Registrar(method="sift", threads=1, translate="cf-octa").register(pair.fixed, pair.moving)
    assert not result.ok
    assert result.choices["attempts"] in (1, 2)


def test_a_translation_is_an_option_of_methods_by_key_points(tmp_path, monkeypatch):
    with pytest.raises(InvalidInput, match="translate: got 'cf-oct'; did you mean 'cf-octa'"):
        RegistrarConfig(method="sift", translate="cf-oct")
    with pytest.raises(InvalidInput, match="translate: got 'cf-fa', which means nothing to method 'retina'"):
        RegistrarConfig(translate="cf-fa")
    monkeypatch.setattr(translation, "WEIGHTS", tmp_path)
    with pytest.raises(EngineError, match=r"weights: .* is missing"):
        Registrar(method="sift", translate="cf-fa")
    black = np.zeros((80, 80), np.uint8)
    assert "translate" not in Registrar(method="sift", translate="off").register(black, black).choices


def test_a_translation_without_its_libraries_says_so(monkeypatch):
    monkeypatch.setattr(methods, "find_spec", lambda name: None)
    with pytest.raises(EngineError, match=r"translate: 'cf-fa' needs PyTorch.*fastretina\[torch\]"):
        Registrar(method="sift", translate="cf-fa")


# ---- the weights that ship --------------------------------------------------------------------------------------
def shown_and_other(name: str, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Own look and translation of an eye, the other modality's look of it in that frame, and where all are seen."""
    a, b = (modality.upper() for modality in name.split("-"))
    pair = synthetic_pair(seed, (512, 512), (a, b), "easy")
    translator = translation.Translator(name)
    own, scale = translator.look(pair.fixed)
    shown, _ = translator.translated(pair.fixed)
    resized = Transform.from_matrix([[scale, 0, 0.5 * scale - 0.5], [0, scale, 0.5 * scale - 0.5]], "similarity")
    at = resized @ pair.transform @ resized.inverse
    other = ops.warp(translator.look(pair.moving)[0], at, own.shape[::-1])
    return own, shown, other.image, other.valid & (own != 128) & (other.image != 128)


def correlation(first: np.ndarray, second: np.ndarray, where: np.ndarray) -> float:
    """Of what is wider than grain and capillaries."""
    wide = [cv2.GaussianBlur(plane.astype(np.float32), (0, 0), 1.5)[where] for plane in (first, second)]
    return float(np.corrcoef(*wide)[0, 1])


@pytest.mark.parametrize("name", list(translation.WEIGHT_FILES))
def test_a_translation_shows_what_the_other_modality_shows(name):
    for seed in (21, 22):
        own, shown, other, where = shown_and_other(name, seed)
        assert correlation(own, other, where) < 0 < 0.2 < correlation(shown, other, where)


@pytest.mark.parametrize("name", list(translation.WEIGHT_FILES))
def test_a_translation_moves_nothing(name):
    """The vessels of a translation lie on those of its image: the ridge maps agree best without a shift."""
    own, shown, _, _ = shown_and_other(name, 23)
    ridges = [
        ops.ridges(seen.plane, seen.mask) for seen in (ops.image(p, working_size=max(p.shape)) for p in (own, shown))
    ]
    steps = np.array([-1.0, 0.0, 1.0])
    for axis in ((1, 0), (0, 1)):
        at = [np.array([[1, 0, s * axis[0]], [0, 1, s * axis[1]]]) for s in steps]
        left, middle, right = (ops.ridge_correlation(*ridges, Transform.from_matrix(m))[0] for m in at)
        assert middle > 0.7
        assert abs(0.5 * (left - right) / (left - 2 * middle + right)) < 0.25  # px


def test_a_result_names_every_network_that_made_it() -> None:
    from fastretina.methods import superglue

    made = superglue.pipeline("superpoint", RegistrarConfig(method="superpoint+superglue"), 1, translate=("cf-octa",))
    assert made.choices["network"] == "superpoint+superglue"
    assert made.choices["translate"] == "cf-octa"
    parts = [made.describe.weights_hash, translation.Translator("cf-octa").weights_hash, made.matches.weights_hash]
    assert made.weights_hash == "+".join(parts)
