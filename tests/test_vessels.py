"""Vessel maps: the U-Net, its labels and recipe, what the maps are good for, Dice and AUC."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="vessel maps need torch (fastretina[torch])")
pytest.importorskip("tqdm", reason="training needs tqdm (fastretina[train])")
pytest.importorskip("fastretina._core")

import cv2  # noqa: E402
from fastretina import EngineError, InvalidInput, Registrar, methods, ops  # noqa: E402
from fastretina.cli import main  # noqa: E402
from fastretina.config import Config  # noqa: E402
from fastretina.evaluation import vessels as scores  # noqa: E402
from fastretina.methods.vessels import LARGEST_PX, VesselMaps  # noqa: E402
from fastretina.networks.unet import GLAMPOINTS, VESSELS, UNet  # noqa: E402
from fastretina.networks.weight_files import save_weights  # noqa: E402
from fastretina.synth import synthetic_pair  # noqa: E402
from fastretina.training import loop, vessels  # noqa: E402
from fastretina.training.recipes import vessels as recipe  # noqa: E402
from fastretina.training.sample import Sample  # noqa: E402

DATA = os.environ.get("FASTRETINA_DATA")
SIDE = 420


# ---- network ----------------------------------------------------------------------------------------------------
def test_sizes_of_the_networks() -> None:
    assert [sum(p.numel() for p in UNet(c).parameters()) for c in (VESSELS, GLAMPOINTS)] == [483_153, 487_145]


@pytest.mark.parametrize(("channels", "multiple"), [((4, 6), 2), ((4, 6, 8), 4), (GLAMPOINTS, 16)])
def test_one_logit_a_pixel(channels: tuple[int, ...], multiple: int) -> None:
    network = UNet(channels).eval()
    assert network.multiple == multiple
    assert network(torch.zeros(2, 1, 2 * multiple, 3 * multiple)).shape == (2, 1, 2 * multiple, 3 * multiple)


def test_no_level_shifts_the_map() -> None:
    """With its kernels mirrored the network does to the mirrored image what it did to the image."""
    torch.manual_seed(0)
    network, mirrored = UNet((4, 6, 8)).eval(), UNet((4, 6, 8)).eval()
    mirrored.load_state_dict({n: v.flip(-1, -2) if v.ndim == 4 else v for n, v in network.state_dict().items()})
    plane = torch.randn(1, 1, 24, 32)
    torch.testing.assert_close(mirrored(plane.flip(-1, -2)), network(plane).flip(-1, -2), rtol=0, atol=1e-5)


@pytest.mark.parametrize("shape", [(1, 2, 16, 16), (1, 16, 16), (1, 1, 15, 16), (1, 1, 16, 12), (0, 1, 16, 16)])
def test_planes_that_it_cannot_take(shape: tuple[int, ...]) -> None:
    with pytest.raises(InvalidInput, match=r"plane: .*got \("):
        UNet()(torch.zeros(shape))


# ---- labels and crops -------------------------------------------------------------------------------------------
def write(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image)


def test_capillaries_are_no_vessels(tmp_path: Path) -> None:
    label = np.zeros((200, 200), np.uint8)
    label[20:34, 10:190] = 255
    label[100:103, 10:190] = 255
    write(tmp_path / "vessels_608" / "a.png", label)
    write(tmp_path / "vessels" / "a.png", label)
    wide = vessels.read_label(tmp_path / "vessels_608" / "a.png")
    assert wide[27, 100] == 255
    assert not wide[90:].any()
    np.testing.assert_array_equal(vessels.read_label(tmp_path / "vessels" / "a.png"), label)


def test_what_is_held_out(tmp_path: Path) -> None:
    for number in range(1, 41):
        write(tmp_path / f"drive/images/{number:02d}.png", np.zeros((8, 8), np.uint8))
        write(tmp_path / f"chasedb1/images/{number:02d}.png", np.zeros((8, 8), np.uint8))
    names = [(kind.name, int(path.stem)) for kind, path in vessels.held_out(tmp_path)]
    assert names == [("drive", n) for n in (*range(1, 21), 30, 40)] + [("chasedb1", n) for n in (10, 20, 30, 40)]


def sample(name: str = "drive/21") -> Sample:
    rng = np.random.default_rng(0)
    label = np.zeros((200, 220), np.uint8)
    label[96:104] = 255
    plane = np.clip(160 - 0.3 * label + rng.normal(0, 4, label.shape), 0, 255).astype(np.uint8)
    none = np.zeros((0, 2), np.float32)
    return Sample(name, 1.0, 14.0, plane[None], np.ones(label.shape, np.uint8), label, none, none, False)


def test_samples_of_the_sets_own_tests_are_not_trained_on() -> None:
    names = ["drive/20", "drive/21", "octa500_3m/10450", "octa500_3m/10451", "synthetic/00001"]
    kept = [s.name for s in vessels.for_training([sample(n) for n in names])]
    assert kept == ["drive/21", "octa500_3m/10450", "synthetic/00001"]


def test_labels_replace_ridges_and_the_unlabelled_are_left_out(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"data: no image of .* has a vessel label"):
        vessels.labelled([sample()], tmp_path)
    label = np.zeros((400, 440), np.uint8)
    label[200:] = 255
    write(tmp_path / "drive" / "vessels" / "21.png", label)
    (found,) = vessels.labelled([sample(), sample("ffa_huapu4_fa/1")], tmp_path)
    assert found.vessels.shape == (200, 220)
    assert not found.vessels[:100].any()
    assert (found.vessels[100:] == 255).all()


def test_a_batch_depends_on_seed_and_number_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vessels, "CROP_PX", 64)
    first = vessels.crops([sample()], 3, seed=1, start=0)
    batches = [next(first) for _ in range(3)]
    assert batches[0].shape == (3, 3, 64, 64)
    torch.testing.assert_close(next(vessels.crops([sample()], 3, seed=1, start=2)), batches[2], rtol=0, atol=0)
    assert not torch.equal(next(vessels.crops([sample()], 3, seed=2, start=2)), batches[2])


def test_vessels_are_dark_in_some_crops_and_bright_in_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vessels, "CROP_PX", 64)
    rng = np.random.default_rng(0)
    contrast = []
    for _ in range(60):
        plane, mask, label = vessels.make_crop(rng, sample())
        inside = mask > 0
        if (label[inside] > 0.5).any() and (label[inside] < 0.5).any():
            contrast.append(plane[inside & (label > 0.5)].mean() - plane[inside & (label < 0.5)].mean())
    assert 0.25 < np.mean(np.array(contrast) > 0) < 0.75


# ---- recipe -----------------------------------------------------------------------------------------------------
def test_losses_by_hand() -> None:
    logits = torch.tensor([0.0, 0.0, 100.0, -100.0]).reshape(1, 1, 2, 2)
    target = torch.tensor([1.0, 0.0, 0.0, 1.0]).reshape(1, 1, 2, 2)
    masks = torch.tensor([1.0, 1.0, 0.0, 0.0]).reshape(1, 1, 2, 2)
    cross_entropy, dice = recipe.losses(logits, target, masks)
    assert cross_entropy.item() == pytest.approx(np.log(2))
    assert dice.item() == pytest.approx(1 - (2 * 0.5 + 1) / (1 + 1 + 1))


def config(out: Path, **options: object) -> recipe.Config:
    out.mkdir(exist_ok=True)
    return recipe.Config(
        data=out, out=out, synthetic=1, batch=2, threads=1, bf16=False, progress=False, **options  # type: ignore[arg-type]
    )  # fmt: skip


def test_a_run_that_is_killed_goes_on_to_the_same_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vessels, "CROP_PX", 64)
    weights = tmp_path / "vessels.safetensors"
    whole = config(tmp_path / "whole", steps=4, weights=weights)
    straight = loop.load_checkpoint(loop.run(recipe.build(whole), whole))

    def kill(learner: loop.Learner) -> None:
        if learner.step == 2:
            raise KeyboardInterrupt

    part = config(tmp_path / "part", steps=4, checkpoint_every_s=0.0)
    with pytest.raises(KeyboardInterrupt):
        loop.run(recipe.build(part), part, kill)
    part.resume = True
    resumed = loop.load_checkpoint(loop.run(recipe.build(part), part))
    assert resumed["step"] == straight["step"] == 4
    for name, value in straight["network"].items():
        torch.testing.assert_close(resumed["network"][name], value, rtol=0, atol=0)
    maps = VesselMaps(1, weights)
    assert maps.facts["steps"] == 4
    assert maps.facts["data"] == ["synthetic"]
    assert maps.facts["command"].startswith("fastretina train --recipe vessels --sets research --synthetic 1 ")


def test_a_checkpoint_of_another_network_is_refused(tmp_path: Path) -> None:
    learner = recipe.build(config(tmp_path / "a", steps=1))
    with pytest.raises(InvalidInput, match="resume: the checkpoint holds another network"):
        learner.restore({"network": UNet((4, 6)).state_dict(), "optimiser": {}})
    with pytest.raises(InvalidInput, match="batch: must be positive, got 0"):
        recipe.build(recipe.Config(data=tmp_path, out=tmp_path, steps=1, batch=0))


# ---- maps -------------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def maps() -> VesselMaps:
    return VesselMaps(1)


@pytest.mark.parametrize("modality", ["CF", "FA", "IR", "OCTA"])
def test_vessels_stand_out_in_every_modality_and_polarity(maps: VesselMaps, modality: str) -> None:
    """Of an eye that no training saw: the map of the negative is nearly the same."""
    image = synthetic_pair(3, (SIDE, SIDE), (modality, "FA"), "easy").fixed
    gray = image[..., 1] if image.ndim == 3 else image
    inside = ops.image(gray, working_size=SIDE).mask[:SIDE, :SIDE] > 0
    found, negative = maps(gray), maps(np.where(inside, 255 - gray, 0).astype(np.uint8))
    assert found.shape == (SIDE, SIDE)
    assert found.dtype == np.float32
    assert found.min() >= 0
    assert 0.8 < found.max() <= 1
    assert 0.02 < (found > 0.5).mean() < 0.3
    assert scores.dice(negative > 0.5, found > 0.5) > 0.8


def test_maps_are_in_the_pixels_of_the_image(maps: VesselMaps) -> None:
    image = synthetic_pair(3, (SIDE, SIDE), ("CF", "FA"), "easy").fixed
    large = cv2.resize(image, None, fx=3, fy=3, interpolation=cv2.INTER_CUBIC)
    assert large.shape[0] > LARGEST_PX
    found = maps(large)
    assert found.shape == large.shape[:2]
    small = cv2.resize(found, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    shifts = [scores.dice(np.roll(small, s, 1) > 0.5, maps(image) > 0.5) for s in (-2, 0, 2)]
    assert shifts[1] > max(shifts[0], shifts[2])


def test_nothing_outside_the_field_of_view_and_the_same_every_time(maps: VesselMaps) -> None:
    image = synthetic_pair(3, (SIDE, SIDE), ("CF", "FA"), "easy").fixed.copy()
    image[:, :100] = 0
    assert not maps(image)[:, :90].any()
    np.testing.assert_array_equal(maps(image), maps(image))


def test_a_file_of_another_network_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"weights: .*no\.safetensors is missing"):
        VesselMaps(1, tmp_path / "no.safetensors")
    save_weights(UNet((4, 6)), tmp_path / "other.safetensors", {"channels": [4, 8]})
    with pytest.raises(EngineError, match="is not a file of this network"):
        VesselMaps(1, tmp_path / "other.safetensors")


# ---- registration on maps ---------------------------------------------------------------------------------------
def test_maps_make_sift_see_across_modalities() -> None:
    """Two looks of one eye in one frame: SIFT fails on the images, and not on the maps of their vessels."""
    from fastretina.evaluation.metrics import point_errors

    found = {"image": 0, "vessels": 0}
    for number in (5, 6, 7):
        pair = synthetic_pair(number, (SIDE, SIDE), ("CF", "FA"), "easy")
        points = np.stack(np.meshgrid(*[np.linspace(120, 300, 7)] * 2), -1).reshape(-1, 2)
        for shown in found:
            result = Registrar(method="sift", input=shown, threads=1).register(pair.fixed, pair.moving)
            error = point_errors(result.transform, points, pair.truth(points)).mean()
            found[shown] += bool(error < 5)
    assert found == {"image": 0, "vessels": 3}


def test_the_result_says_what_was_seen() -> None:
    pair = synthetic_pair(5, (SIDE, SIDE), ("CF", "FA"), "easy")
    result = Registrar(method="rootsift", input="vessels", threads=1).register(pair.fixed, pair.moving)
    assert result.choices["input"] == "vessels"
    assert result.choices["attempts"] == 1  # maps have one polarity
    assert len(result.to_dict()["weights_hash"]) == 64


def test_input_is_an_option_of_methods_by_key_points(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidInput, match="input: got 'vessels', which means nothing to method 'retina'"):
        Config(input="vessels")
    with pytest.raises(InvalidInput, match="input: got 'vessel'; did you mean 'vessels'"):
        Config(method="sift", input="vessel")
    monkeypatch.setattr(methods, "find_spec", lambda name: None)
    with pytest.raises(EngineError, match=r"input: 'vessels' needs PyTorch.*fastretina\[torch\]"):
        Registrar(method="sift", input="vessels")


# ---- Dice and AUC -----------------------------------------------------------------------------------------------
def test_dice_by_hand() -> None:
    found, wanted = np.array([True, True, False, False]), np.array([True, False, True, False])
    assert scores.dice(found, wanted) == 0.5
    assert scores.dice(wanted, wanted) == 1
    assert scores.dice(found & False, wanted & False) == 1


def test_auc_is_the_share_of_pairs_in_order() -> None:
    rng = np.random.default_rng(0)
    probability = (rng.integers(0, 20, 200) / 20).astype(np.float32)  # with ties
    wanted = rng.random(200) < 0.2 + 0.5 * probability
    a, b = probability[wanted][:, None], probability[~wanted][None]
    assert scores.auc(probability, wanted) == pytest.approx(((a > b) + 0.5 * (a == b)).mean())
    assert np.isnan(scores.auc(probability, np.ones(200, np.bool_)))


def test_the_threshold_is_the_one_that_fits_the_labels() -> None:
    probability = np.linspace(0, 1, 1000, dtype=np.float32).reshape(20, 50)
    case = scores.Labelled("a", probability, probability > 0.7, np.ones((20, 50), np.bool_))
    assert scores.best_threshold(lambda image: image, [case]) == pytest.approx(0.7)
    assert scores.best_threshold(lambda image: image, []) == 0.5


def test_evaluate_reads_held_out_images_only(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    image = synthetic_pair(3, (SIDE, SIDE), ("CF", "FA"), "easy").fixed
    label = np.where(VesselMaps(1)(image) > 0.5, 255, 0).astype(np.uint8)
    for number in range(1, 12):
        write(tmp_path / f"chasedb1/images/{number:02d}.png", image[..., ::-1])
        if number > 8:
            write(tmp_path / f"chasedb1/vessels/{number:02d}.png", label)
    out = tmp_path / "out.json"
    assert main(["evaluate", "--vessels", str(tmp_path), "--json", str(out), "--threads", "1"]) == 0
    assert "| chasedb1 | 1 | 0.50 | 1.000 | 1.000 | 1.000 | 1.000 |" in capsys.readouterr().out
    assert [row["id"] for row in json.loads(out.read_text())["rows"]] == ["10"]


def test_evaluate_refuses_what_means_nothing(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    command = ["evaluate", "--vessels", str(tmp_path)]
    for extra, said in [
        (["--method", "sift"], "method: means nothing to --vessels"),
        (["--baselines", "sift"], "baselines: means nothing to --vessels"),
        (["--both-ways"], "--both-ways: means nothing to --vessels"),
        (["--wrong"], "--wrong: is an option of --pairs only"),
        ([], "vessels: no held-out image in"),
    ]:
        assert main(command + extra) == 2
        assert said in capsys.readouterr().err


@pytest.mark.skipif(not DATA, reason="labelled images: FASTRETINA_DATA does not name the folder that holds train/")
def test_dice_on_held_out_images() -> None:
    rows = scores.evaluate(VesselMaps(1), Path(str(DATA)) / "train")
    found = {row["set"]: row for row in scores.summarise(rows)}
    assert found["drive"]["images"] == 22
    assert found["drive"]["dice"] >= 0.78
    assert found["octa500_3m"]["images"] == 65
    assert found["octa500_3m"]["dice"] >= 0.80
