"""Pairs on the device through Registrar: on the emulator of CUDA (ctest), whose device memory is the heap, or on a GPU.

What the device computes is compared in tests/cuda/test_pair.cpp; here it is how pairs get there and back.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest
from fastretina import InvalidInput, Registrar, _core, registrar
from fastretina.synth import synthetic_pair

torch = pytest.importorskip("torch")
SIDE = 192
OPTIONS = {"weights": "retina_fast", "engine": "torch", "threads": 1, "working_size": SIDE, "max_keypoints": 256}


@pytest.fixture(
    scope="module",
    params=[pytest.param("emulated", marks=pytest.mark.emulated), pytest.param("gpu", marks=pytest.mark.gpu)],
)
def device(request):
    if request.param == "gpu":
        if not _core.HAS_CUDA:
            message = "the core was built without FASTRETINA_CUDA"
            pytest.fail(message) if os.environ.get("FASTRETINA_REQUIRE_GPU") == "1" else pytest.skip(message)
        yield "cuda:0"
        return
    with pytest.MonkeyPatch.context() as patch:  # tensors of the CPU stand for device memory
        patch.setattr(registrar, "_pairs_run_on", lambda engine: hasattr(engine, "run_on_device"))
        yield "cpu"


@pytest.fixture(scope="module")
def on_device(device) -> Registrar:
    made = Registrar(**OPTIONS, device=device, precision="f32")
    assert made._device_pairs is not None
    return made


def on_the_cpu(made: Registrar) -> Registrar:
    """The same engine, and the CPU pipeline."""
    made._device_pairs, made._ahead = None, 0
    return made


@pytest.fixture(scope="module")
def on_host(device) -> Registrar:
    return on_the_cpu(Registrar(**OPTIONS, device=device, precision="f32"))


@pytest.fixture(scope="module")
def bending(device) -> Registrar:
    return Registrar(**OPTIONS, device=device, precision="f32", transform="dense")


def pair(seed: int, side: int = SIDE, geometry: str = "homography") -> tuple[np.ndarray, np.ndarray]:
    made = synthetic_pair(seed=seed, size=(side, side), difficulty="easy", geometry=geometry)
    return made.fixed, made.moving


STRONG, WEAK = (1, 2), 3  # seeds


def same(a: Any, b: Any) -> bool:
    """Bit for bit, but for the time it took."""
    return (
        a.to_json() == b.to_json()
        and np.array_equal(a.matches, b.matches)
        and np.array_equal(a.inliers, b.inliers)
        and np.array_equal(a.keypoints_fixed, b.keypoints_fixed)
        and np.array_equal(a.keypoints_moving, b.keypoints_moving)
        and np.array_equal(a.heatmap_moving, b.heatmap_moving)
        and dict(a.quality) == dict(b.quality)
    )


def grid(size: tuple[int, int]) -> np.ndarray:
    across, down = (np.linspace(0, side - 1, 17) for side in size)
    return np.stack(np.meshgrid(across, down), axis=-1).reshape(-1, 2)


def most_apart(a: Any, b: Any) -> float:
    points = grid(a.moving_size)
    return float(np.linalg.norm(a.transform(points) - b.transform(points), axis=1).max())


@pytest.mark.parametrize(("seed", "side"), [(STRONG[0], SIDE), (STRONG[1], SIDE), (STRONG[0], 256)])
def test_a_strong_pair_is_the_cpu_pipelines(on_device, on_host, seed, side):
    found, expected = on_device.register(*pair(seed, side)), on_host.register(*pair(seed, side))
    assert found.ok
    assert expected.ok
    assert found.choices["attempts"] == 1
    assert set(found.timings_ms) == {"total"}
    assert found.fixed_size == (side, side)
    assert most_apart(found, expected) <= 0.5
    assert abs(found.confidence - expected.confidence) <= 0.02
    assert found.heatmap_fixed.shape == expected.heatmap_fixed.shape
    assert abs(len(found.keypoints_fixed) - len(expected.keypoints_fixed)) <= 3


def test_a_weak_pair_climbs_the_ladder_of_the_cpu(on_device, on_host):
    found = on_device.register(*pair(WEAK))
    assert found.choices["attempts"] > 1
    assert same(found, on_host.register(*pair(WEAK)))


def test_a_black_frame_is_refused(on_device):
    fixed, moving = pair(STRONG[0])
    found = on_device.register(fixed, np.zeros_like(moving))
    assert found.status == "no_content"
    assert found.choices["attempts"] == 1


def test_many_are_what_they_are_one_by_one(on_device):
    fixed, moving = pair(STRONG[0])
    prepared = on_device.prepare(fixed)
    floats = moving.astype(np.float32) / 255
    pairs = [
        (fixed, moving),
        pair(WEAK),
        (prepared, moving),
        (fixed[:96], floats[:80, :72]),
        (fixed, moving),
    ]
    expected = [on_device.register(*p) for p in pairs]
    found = list(on_device.register_many(iter(pairs)))
    assert len(found) == len(pairs)
    assert all(same(a, b) for a, b in zip(found, expected, strict=True))
    assert same(found[0], found[-1])
    assert not same(found[0], found[1])


def test_an_array_on_the_device_is_not_taken_to_the_host(on_device, device):
    fixed, moving = pair(STRONG[0])
    there = torch.from_numpy(fixed).to(device)
    strided = torch.from_numpy(np.repeat(moving, 2, axis=1)).to(device)[:, ::2]
    assert same(on_device.register(there, strided), on_device.register(fixed, moving))
    weak = [torch.from_numpy(image).to(device) for image in pair(WEAK)]
    assert same(on_device.register(*weak), on_device.register(*pair(WEAK)))


def test_what_is_registered_there_is_warped_there(on_device, device):
    fixed, moving = pair(STRONG[0])
    found = on_device.register(fixed, moving)

    class Foreign:  # on the emulator, an array in device memory lies on the heap
        shape = moving.shape
        __cuda_array_interface__ = {**moving.__array_interface__, "stream": None}  # noqa: RUF012

    there = Foreign() if device == "cpu" else torch.from_numpy(moving).to(device)
    image, valid = found.warp(there)
    expected, expected_valid = found.warp(moving)
    np.testing.assert_array_equal(image.to_host(), expected)
    np.testing.assert_array_equal(valid.to_host(), expected_valid)


MISUSE = {
    "a list": ([[1, 2], [3, 4]], "moving: got list"),
    "float64": (np.zeros((96, 96)), r"moving: got \(96, 96\) float64"),
    "four channels": (np.zeros((96, 96, 4), np.uint8), r"moving: got \(96, 96, 4\) uint8"),
    "too small": (np.zeros((96, 63), np.uint8), "moving: got 63 x 96 px"),
    "out of range": (np.full((96, 96), 2, np.float32), "moving: got NaN, infinity or a value out of range"),
    "NaN": (np.full((96, 96), np.nan, np.float32), "moving: got NaN, infinity or a value out of range"),
}


@pytest.mark.parametrize("name", MISUSE)
def test_misuse_is_an_error_that_names_the_argument(on_device, name):
    image, message = MISUSE[name]
    with pytest.raises(InvalidInput, match=message):
        on_device.register(pair(STRONG[0])[0], image)
    assert not any(slot.busy for slots in on_device._device_pairs._slots.values() for slot in slots)


def test_who_stops_early_leaves_nothing_behind(on_device):
    fixed, moving = pair(STRONG[0])
    fixed, moving = fixed[:64], moving[:64]
    many = on_device.register_many([(fixed, moving)] * 3)
    expected = next(many)
    many.close()
    with pytest.raises(InvalidInput):
        list(on_device.register_many([(fixed, moving), (fixed, None)]))
    assert not any(slot.busy for slots in on_device._device_pairs._slots.values() for slot in slots)
    assert same(on_device.register(fixed, moving), expected)


def test_kinds_beyond_what_is_kept_make_room(on_device, monkeypatch):
    from fastretina import device_pairs

    monkeypatch.setattr(device_pairs, "MAX_SLOTS", 2)
    fixed, moving = pair(STRONG[0])
    first = on_device.register(fixed, moving)
    for rows in (88, 104):  # kinds that are new
        on_device.register(fixed[:rows], np.zeros_like(moving[:64]))
        assert sum(map(len, on_device._device_pairs._slots.values())) <= 2
    assert same(on_device.register(fixed, moving), first)


BENT = {"seed": 1, "side": 256, "geometry": "local"}


def test_a_local_field_is_the_cpu_pipelines(bending, device):
    host = on_the_cpu(Registrar(**OPTIONS, device=device, precision="f32", transform="dense"))
    found, expected = bending.register(*pair(**BENT)), host.register(*pair(**BENT))
    assert set(found.timings_ms) == {"total"}  # no pair of the CPU's
    assert found.choices["model"] == expected.choices["model"] == "dense @ homography"
    assert most_apart(found, expected) <= 0.5

    truth = synthetic_pair(seed=1, size=(256, 256), difficulty="easy", geometry="local").truth
    points = grid(found.moving_size)
    smooth = found.transform.steps[1].transform
    off, off_without = (np.linalg.norm(T(points) - truth(points), axis=1).mean() for T in (found.transform, smooth))
    assert off < 0.7 * off_without


def test_no_field_where_the_vessels_ask_for_none(bending, on_host):
    found = bending.register(*pair(STRONG[0]))
    assert set(found.timings_ms) == {"total"}
    assert found.choices["model"] == "homography"
    assert most_apart(found, on_host.register(*pair(STRONG[0]))) <= 0.5


def test_many_with_fields_are_what_they_are_one_by_one(bending):
    pairs = [pair(**BENT), pair(2, 256), pair(**BENT)]
    expected = [bending.register(*p) for p in pairs[:2]]
    found = list(bending.register_many(pairs))
    assert [result.choices["model"] for result in found] == ["dense @ homography", "homography", "dense @ homography"]
    assert all(same(a, b) for a, b in zip(found, [*expected, expected[0]], strict=True))
