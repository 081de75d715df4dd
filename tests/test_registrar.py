"""The Python contract: Registrar, register, prepare, refusals, determinism."""

from __future__ import annotations

import os

import fastretina
import numpy as np
import pytest
from fastretina import InvalidInput
from fastretina.cli.demo import MAX_ERROR_PX
from fastretina.resample import _resample_numpy
from fastretina.synth import synthetic_pair

SIZE = (480, 480)


@pytest.fixture(scope="module")
def pair():
    return synthetic_pair(seed=5, size=SIZE)


@pytest.fixture(scope="module")
def registrar():
    return fastretina.Registrar(threads=1)


@pytest.fixture(scope="module")
def result(registrar, pair):
    return registrar.register(pair.fixed, pair.moving)


def mean_error(result, pair) -> float:
    grid = np.stack(np.meshgrid(np.linspace(100, 380, 8), np.linspace(100, 380, 8)), -1).reshape(-1, 2)
    return float(np.linalg.norm(result.transform(grid) - pair.transform(grid), axis=1).mean())


def test_registers_a_synthetic_two_modality_pair(result, pair):
    assert result.ok
    assert result.status == "ok"
    assert mean_error(result, pair) < MAX_ERROR_PX
    assert result.confidence > 0.5


def test_result_is_complete(result):
    assert len(result.matches) == len(result.inliers) == len(result.match_scores) > 20
    assert result.inliers.sum() > 10
    assert {"engine", "precision", "model", "rung", "mirrored"} <= set(result.choices)
    rooms = {"image", "network", "detect", "describe", "match", "estimate", "refine", "quality"}
    assert rooms | {"total"} <= set(result.timings_ms)
    inside = result.transform(result.matches[result.inliers, 2:])
    # inliers lie within 3 px of the fit (network px, here the images'); alignment may move the map a little from it
    assert np.linalg.norm(inside - result.matches[result.inliers, :2], axis=1).mean() < 4


def test_warp_is_in_the_fixed_frame(result, pair):
    image, valid = result.warp(pair.moving)
    assert image.shape[:2] == valid.shape == pair.fixed.shape[:2]
    assert image.dtype == pair.moving.dtype
    assert valid.mean() > 0.5


def test_prepare_gives_the_same_answer(registrar, result, pair):
    prepared = registrar.prepare(pair.fixed)
    for _ in range(2):
        assert registrar.register(prepared, pair.moving).to_json() == result.to_json()


def test_same_bytes_for_every_thread_count_and_repetition(result, pair):
    for threads in (1, 2):
        again = fastretina.Registrar(threads=threads).register(pair.fixed, pair.moving)
        assert again.to_json() == result.to_json()


def test_dtypes_agree(registrar, result, pair):
    as_float = registrar.register((pair.fixed / 255).astype(np.float32), (pair.moving / 255).astype(np.float32))
    as_u16 = registrar.register(pair.fixed.astype(np.uint16) * 257, pair.moving.astype(np.uint16) * 257)
    grid = np.array([[100.0, 100], [300, 200], [240, 400]])
    for other in (as_float, as_u16):
        assert np.abs(other.transform(grid) - result.transform(grid)).max() < 0.5  # rounding of intensities only


@pytest.mark.parametrize("model", ["similarity", "affine", "homography", "quadratic"])
def test_model_can_be_asked_for(pair, model):
    result = fastretina.Registrar(threads=1, transform=model).register(pair.fixed, pair.moving)
    assert result.ok
    assert result.transform.kind == model
    assert mean_error(result, pair) < 2 * MAX_ERROR_PX  # a model that is too stiff or too free fits worse than "auto"'s


def black(rng):
    return np.zeros((300, 300), np.uint8)


def constant(rng):
    return np.full((300, 300, 3), 120, np.uint8)


def noise(rng):
    return rng.integers(0, 255, (300, 300)).astype(np.uint8)


@pytest.mark.parametrize("make", [black, constant, noise])
def test_frames_that_show_nothing_are_refused_and_the_next_pair_works(registrar, result, pair, make):
    refused = registrar.register(pair.fixed, make(np.random.default_rng(0)))
    assert not refused.ok
    assert refused.status != "ok"
    assert refused.confidence < 0.5
    if make is not noise:
        assert refused.status == "no_content"
    assert registrar.register(pair.fixed, pair.moving).to_json() == result.to_json()


def test_different_eyes_are_refused(registrar, pair):
    other = synthetic_pair(seed=77, size=SIZE)
    refused = registrar.register(pair.fixed, other.moving)
    assert not refused.ok
    assert refused.confidence < 0.5


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((0, 0), np.uint8), "moving"),
        (np.zeros((1, 400), np.uint8), "moving"),
        (np.zeros((63, 400), np.uint8), "moving"),
        (np.zeros((300, 300, 5), np.uint8), "moving"),
        (np.zeros((300, 300), object), "moving"),
        (np.zeros((300, 300), np.float64), "moving"),
        (np.full((300, 300), np.nan, np.float32), "moving"),
        ([[1, 2], [3, 4]], "moving"),
    ],
    ids=["0x0", "1xN", "small", "5 channels", "object", "float64", "NaN", "list"],
)
def test_misuse_names_the_argument(registrar, pair, image, message):
    with pytest.raises(InvalidInput, match=message):
        registrar.register(pair.fixed, image)


def test_only_messages_about_the_image_are_renamed(registrar, pair, monkeypatch):
    class Complains:
        def prepare(self, image):
            raise InvalidInput(self.message)

    for message, expected in [
        ("image: got 3", "moving: got 3"),
        ("image has 2 sides", "moving has 2 sides"),
        ("images are rare", "images are rare"),
        ("seed: got 3", "seed: got 3"),
    ]:
        Complains.message = message
        prepared = registrar.prepare(pair.fixed)
        with monkeypatch.context() as patch:
            patch.setattr(registrar, "_pipeline", Complains())
            with pytest.raises(InvalidInput) as error:
                registrar.register(prepared, pair.moving)
        assert str(error.value) == expected


def test_the_device_that_ran_the_network_is_recorded(registrar, result, monkeypatch):
    assert result.choices["device"] == "cpu"
    monkeypatch.setattr(registrar.engine, "device", "cuda:1", raising=False)
    black = np.zeros((80, 80), np.uint8)
    assert registrar.register(black, black).choices["device"] == "cuda:1"


def test_threads_are_the_cores_this_process_may_use(monkeypatch):
    from fastretina.config import usable_cores

    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {3, 5, 7}, raising=False)
    assert usable_cores() == 3
    monkeypatch.delattr(os, "sched_getaffinity")
    assert usable_cores() == 64


def test_unknown_keyword_names_the_nearest_one():
    with pytest.raises(InvalidInput, match="working_size"):
        fastretina.Registrar(workingsize=480)


def test_prepared_belongs_to_its_registrar(registrar, pair):
    other = fastretina.Registrar(threads=1)
    with pytest.raises(InvalidInput, match="fixed: was prepared by another Registrar"):
        other.register(registrar.prepare(pair.fixed), pair.moving)


def test_python_and_native_defaults_are_one(registrar):
    from fastretina import _core
    from fastretina.registrar import native_options

    def flat(options, prefix=""):
        for name in dir(options):
            if name.startswith("_"):
                continue
            value = getattr(options, name)
            if type(value).__module__ == "fastretina._core" and not isinstance(value, int):
                yield from flat(value, f"{prefix}{name}.")
            else:
                yield prefix + name, value

    assert dict(flat(native_options(registrar.config))) == dict(flat(_core.Options()))


@pytest.fixture(scope="module")
def bent():
    return synthetic_pair(seed=4, size=SIZE, modalities=("FAF", "RF"), difficulty="easy", geometry="local")


def test_a_local_field_can_be_asked_for(registrar, bent):
    plain = fastretina.Registrar(threads=1, transform="homography").register(bent.fixed, bent.moving)
    result = fastretina.Registrar(threads=1, transform="dense").register(bent.fixed, bent.moving)
    assert result.ok
    assert result.choices["model"] == result.transform.model
    assert result.transform.model.startswith("dense @ ")
    assert bent.mean_error(result.transform) < 0.7 * bent.mean_error(plain.transform)
    assert result.confidence == pytest.approx(registrar.register(bent.fixed, bent.moving).confidence, abs=1e-6)
    copy = fastretina.Transform.from_json(result.to_json())
    assert copy == result.transform
    image, valid = result.warp(bent.moving)
    slow, slow_valid = _resample_numpy(bent.moving, result.transform, result.fixed_size, "linear")
    assert (valid != slow_valid).mean() < 1e-4
    assert np.abs(image.astype(int) - slow)[valid & slow_valid].max() <= 1


def test_a_local_field_is_found_between_fields_of_view_that_differ():
    """A px of MOVING is 1.7 px of FIXED: both are looked at with vessels as wide."""
    pair = synthetic_pair(10_100_029, (640, 640), ("RF", "FA"), "moderate", "local")
    found = {
        m: fastretina.Registrar(threads=1, transform=m).register(pair.fixed, pair.moving)
        for m in ("homography", "dense")
    }
    errors = {model: pair.mean_error(result.transform) for model, result in found.items()}
    assert errors["dense"] < 0.4 * errors["homography"]


def test_a_field_is_in_the_callers_pixels(bent):
    """Twice the pixels, the same deformation."""
    registrar = fastretina.Registrar(threads=1, transform="dense", working_size=240)
    result = registrar.register(bent.fixed, bent.moving)
    large = registrar.register(*(np.repeat(np.repeat(i, 2, 0), 2, 1) for i in (bent.fixed, bent.moving)))
    grid = np.stack(np.meshgrid(np.linspace(100, 380, 8), np.linspace(100, 380, 8)), -1).reshape(-1, 2)
    twice = (large.transform(2 * grid + 0.5) - 0.5) / 2  # pixel centres: x' = 2 (x + 1/2) - 1/2
    assert result.choices["model"] == large.choices["model"]
    assert np.abs(twice - result.transform(grid)).max() < 0.05  # the area average gives back the same pixels


def test_nothing_bends_where_nothing_is_bent(registrar, result, pair):
    assert not result.choices["model"].startswith("dense")
    asked = fastretina.Registrar(threads=1, transform="dense").register(pair.fixed, pair.moving)
    assert asked.transform == result.transform
