"""ops on arrays in device memory: the CUDA twins through Python, on the emulator (ctest) or a GPU, against the CPU.

What each twin computes is compared in tests/cuda; here it is how arrays get there and back.
"""

from __future__ import annotations

import ctypes
import gc
import os
import weakref
from typing import Any

import numpy as np
import pytest
from fastretina import EngineError, InvalidInput, Transform, _core, ops

RNG = np.random.default_rng(7)
SIMILARITY = Transform.from_matrix([[0.98, 0.05, 3.0], [-0.05, 0.98, -2.0], [0, 0, 1]])


class Foreign:
    """Somebody's array in device memory, on the emulator: the heap."""

    def __init__(self, array: np.ndarray, **entries: Any) -> None:
        self.array = np.ascontiguousarray(array) if not entries.pop("keep", False) else array
        self.entries = entries

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return {**self.array.__array_interface__, "version": 3, "stream": None, **self.entries}


@pytest.fixture(
    params=[pytest.param("emulated", marks=pytest.mark.emulated), pytest.param("gpu", marks=pytest.mark.gpu)]
)
def send(request):
    """NumPy -> the device, as another library holds it."""
    if request.param == "emulated":
        return Foreign
    if not _core.HAS_CUDA:
        message = "the core was built without FASTRETINA_CUDA"
        pytest.fail(message) if os.environ.get("FASTRETINA_REQUIRE_GPU") == "1" else pytest.skip(message)
    import torch

    return lambda array: torch.from_numpy(np.ascontiguousarray(array)).cuda()


def photograph(side: int = 96, shift: float = 0.0) -> np.ndarray:
    y, x = np.mgrid[:side, :side]
    vessels = np.sin(0.25 * (x + shift)) * np.cos(0.15 * y) + np.sin(0.11 * (x + shift) + 0.31 * y)
    eye = np.hypot(x - side / 2, y - side / 2) < 0.46 * side
    return np.where(eye, 110 + 40 * vessels, 2).astype(np.uint8)


def host(value: Any) -> Any:
    """What an answer holds, on the host."""
    if isinstance(value, ops.DeviceArray):
        return value.to_host()
    return tuple(host(part) for part in value) if isinstance(value, tuple) else value


def assert_same(found: Any, expected: Any) -> None:
    """Equal, bit for bit."""
    assert type(found) is type(expected)
    for name, got, want in zip(expected._fields, host(found), expected, strict=True):
        if isinstance(want, np.ndarray):
            assert got.dtype == want.dtype, name
            np.testing.assert_array_equal(got, want, err_msg=name)


def unit_rows(n: int, dims: int = 32) -> np.ndarray:
    rows = RNG.normal(size=(n, dims)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_a_core_without_cuda_says_how_to_get_it():
    if _core.HAS_CUDA:
        pytest.skip("this core has CUDA")
    with pytest.raises(EngineError, match="FASTRETINA_CUDA=ON"):
        ops.upsample(Foreign(np.zeros((4, 4), np.float32)))


def test_image_and_ridges(send):
    pixels = photograph()
    seen, expected = ops.image(send(pixels), working_size=80), ops.image(pixels, working_size=80)
    assert isinstance(seen.plane, ops.DeviceArray)
    np.testing.assert_array_equal(host(seen.mask), expected.mask)
    np.testing.assert_array_equal(host(seen.gray), expected.gray)
    np.testing.assert_allclose(host(seen.plane), expected.plane, atol=1e-5)  # a global mean is summed in another order
    assert seen.contrast == pytest.approx(expected.contrast, rel=1e-5)
    assert (seen.scale, seen.input_size, seen.content_size) == expected[3:4] + expected[5:]
    ridges = ops.ridges(seen.plane, seen.mask)
    assert_same(ridges, ops.ridges(host(seen.plane), host(seen.mask)))
    assert_same(ops.ridges(seen.plane), ops.ridges(host(seen.plane)))


def test_upsample_nms_detect_describe(send):
    difference = RNG.normal(size=(12, 15)).astype(np.float32)
    mask = (RNG.random((48, 60)) < 0.8).astype(np.uint8)
    confidence = ops.upsample(send(difference))
    np.testing.assert_array_equal(host(confidence), ops.upsample(difference))
    expected = ops.detect(difference, mask, radius=3)
    assert len(expected.xy) > 5
    found = ops.detect(send(difference), send(mask), radius=3)
    assert_same(found, expected)
    assert_same(ops.nms(confidence, send(mask), radius=3), expected)
    maps = RNG.normal(size=(12, 15, 24)).astype(np.float32)
    rows = ops.describe(send(maps.transpose(2, 0, 1)), found.xy)
    np.testing.assert_array_equal(host(rows), ops.describe(maps.transpose(2, 0, 1), expected.xy))


def test_match_and_guided_match(send):
    fixed, moving = unit_rows(70), unit_rows(50)
    moving[:30] = fixed[10:40]
    for precision in ("f32", "i8"):
        expected = ops.match(fixed, moving, precision=precision)
        assert len(expected.fixed) >= 30
        assert_same(ops.match(send(fixed), send(moving), precision=precision), expected)
    at = RNG.uniform(0, 90, (70, 2)).astype(np.float32)
    back = np.asarray(ops.warp_points(at.astype(np.float64), SIMILARITY, inverse=True), np.float32)
    to = np.concatenate([back[10:40], RNG.uniform(0, 90, (20, 2)).astype(np.float32)])
    expected = ops.match_guided(fixed, moving, at, to, SIMILARITY)
    assert len(expected.fixed) >= 30
    assert_same(ops.match_guided(send(fixed), send(moving), send(at), send(to), SIMILARITY), expected)


def test_estimate_and_upgrade(send):
    moving = RNG.uniform(0, 400, (60, 2))
    fixed = np.asarray(ops.warp_points(moving, SIMILARITY))
    fixed[:15] += RNG.uniform(30, 90, (15, 2))
    pairs = fixed.astype(np.float32), moving.astype(np.float32)
    there = [send(points) for points in pairs]
    expected, found = ops.estimate(*pairs), ops.estimate(*there)
    np.testing.assert_array_equal(host(found.inlier), expected.inlier)
    assert found.inlier.dtype == np.bool_
    assert expected.inlier.sum() == 45
    np.testing.assert_allclose(found.transform.params, expected.transform.params, atol=1e-8)
    weight = np.linspace(0.1, 1, 60).astype(np.float32)
    raised = ops.upgrade(*there, found.transform, (400, 400), (400, 400), send(weight))
    wanted = ops.upgrade(*pairs, expected.transform, (400, 400), (400, 400), weight)
    np.testing.assert_array_equal(host(raised.inlier), wanted.inlier)
    assert raised.transform.kind == wanted.transform.kind
    assert ops.estimate(*(send(points[:1]) for points in pairs)).transform is None


def test_refine_and_correlation(send):
    planes = [ops.image(photograph(96, shift), working_size=96).plane for shift in (0.0, 1.5)]
    expected_maps = [ops.ridges(plane) for plane in planes]
    maps = [ops.ridges(send(plane)) for plane in planes]
    start = Transform.identity()
    assert ops.ridge_correlation(*maps, start) == ops.ridge_correlation(*expected_maps, start)
    found, expected = (ops.refine(*pair, start, kind="similarity", min_points=16) for pair in (maps, expected_maps))
    assert expected.score_after > expected.score_before
    assert (found.iterations, found.refused) == (expected.iterations, expected.refused)
    np.testing.assert_allclose(found.transform.params, expected.transform.params, atol=1e-5)


def test_refine_field(send):
    side = 160
    y, x = np.mgrid[:side, :side]
    bump = 4 * np.exp(-(((x - 70) / 35) ** 2 + ((y - 80) / 35) ** 2))
    across = [
        [(x + d) * np.cos(a) + y * np.sin(a) - 9 * i for i, a in enumerate(np.arange(18) * 0.7)] for d in (0, bump)
    ]
    planes = [np.exp(-(np.mod(np.stack(lines), 37) ** 2) / 5).sum(0).astype(np.float32) for lines in across]
    maps = [ops.ridges(plane) for plane in planes]
    there = [ops.Ridges(*(send(part) for part in map)) for map in maps]
    start = Transform.identity()
    found, expected = (ops.refine_field(*pair, start, min_points=64) for pair in (there, maps))
    assert expected.field is not None
    assert found.iterations == expected.iterations
    np.testing.assert_allclose(found.field.params, expected.field.params, atol=1e-7)
    assert found.gain_nats == pytest.approx(expected.gain_nats)


@pytest.mark.parametrize("shape", [(40, 50), (40, 50, 3)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_warp(send, shape, dtype):
    moving = (RNG.random(shape) * (1 if dtype is np.float32 else 200)).astype(dtype)
    warped, expected = ops.warp(send(moving), SIMILARITY, (45, 42)), ops.warp(moving, SIMILARITY, (45, 42))
    assert_same(warped, expected)
    assert warped.valid.dtype == np.bool_


def test_warp_through_a_field(send):
    moving = RNG.random((40, 50)).astype(np.float32)
    field = Transform("dense", RNG.normal(size=(4, 5, 2)), (0.0, 0.0, 49.0, 39.0)) @ SIMILARITY
    found, expected = ops.warp(send(moving), field, (50, 40)), ops.warp(moving, field, (50, 40))
    np.testing.assert_allclose(host(found.image), expected.image, atol=1e-3)  # positions agree within 5e-5 px
    np.testing.assert_array_equal(host(found.valid), expected.valid)


def test_nothing_found_is_an_empty_array(send):
    difference = send(np.zeros((8, 8), np.float32))
    found = ops.detect(difference, threshold=1.0)
    assert (found.xy.shape, found.score.shape) == ((0, 2), (0,))
    rows = ops.describe(send(np.ones((16, 8, 8), np.float32)), found.xy)
    assert rows.shape == (0, 16)
    assert len(ops.match(rows, send(unit_rows(5, 16))).fixed) == 0


def test_answers_cross_by_both_protocols_without_a_copy(send):
    first = ops.upsample(send(np.ones((4, 5), np.float32)))
    interface = first.__cuda_array_interface__
    assert interface["shape"] == (16, 20)
    assert interface["typestr"] == "<f4"
    assert interface["version"] == 3
    assert interface["stream"] == 1  # the default stream; 0 is not allowed
    assert first.__dlpack_device__() == (2, 0)

    class OnlyDlpack:
        def __dlpack__(self, **options: Any) -> Any:
            return first.__dlpack__(**options)

        def __dlpack_device__(self) -> tuple[int, int]:
            return first.__dlpack_device__()

    taken = ops.DeviceArray.from_dlpack(first.__dlpack__(stream=1), 1)
    assert taken.__cuda_array_interface__ == interface
    np.testing.assert_array_equal(host(ops.nms(OnlyDlpack()).score), ops.nms(host(first)).score)
    capsule = first.__dlpack__()
    ops.DeviceArray.from_dlpack(capsule, 1)
    with pytest.raises(InvalidInput, match="another capsule"):  # a capsule is taken over once
        ops.DeviceArray.from_dlpack(capsule, 1)


def test_a_dlpack_tensor_is_laid_out_as_the_standard_says(send):
    array = ops.upsample(send(np.ones((4, 5), np.float32)))
    pointer = ctypes.pythonapi.PyCapsule_GetPointer
    pointer.restype, pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    capsule = array.__dlpack__()
    words = (ctypes.c_uint64 * 6).from_address(pointer(capsule, b"dltensor"))
    assert words[0] == array.__cuda_array_interface__["data"][0]
    assert words[1] == 2  # type of device (low half), its number
    assert words[2] == 2 | 2 << 32 | 32 << 40 | 1 << 48  # axes; float, 32 bits, one lane
    assert list((ctypes.c_int64 * 2).from_address(words[3])) == [16, 20]
    assert list((ctypes.c_int64 * 2).from_address(words[4])) == [20, 1]
    assert words[5] == 0


@pytest.mark.emulated
def test_memory_lives_as_long_as_somebody_holds_it():
    source = Foreign(np.ones((4, 5), np.float32))
    gone = weakref.ref(source)
    (_, held) = ops._device.place(1, None, difference=source)
    assert held.__cuda_array_interface__["data"][0] == source.array.ctypes.data
    capsule = held.__dlpack__()
    del source, held
    gc.collect()
    assert gone() is not None
    del capsule
    gc.collect()
    assert gone() is None


@pytest.mark.emulated
def test_streams():
    class Stream:
        cuda_stream = 2

    difference = np.ones((4, 5), np.float32)
    for stream in (2, Stream()):
        array = ops.upsample(Foreign(difference), stream=stream)
        assert array.stream == 2
        assert array.__cuda_array_interface__["stream"] == 2
        assert ops.nms(array).score.stream == 2  # goes on where its input is made
    assert ops.upsample(Foreign(difference, stream=2)).stream == 2
    assert ops.upsample(Foreign(difference)).stream == 1


@pytest.mark.emulated
@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda a: ops.upsample(a, stream=-1), "stream: got -1"),
        (lambda a: ops.upsample(a, stream="0"), "stream: got '0'"),
        (lambda a: ops.upsample(a.array, stream=1), "stream: got 1, but no array lies in device memory"),
        (lambda a: ops.network(np.zeros((64, 64), np.float32), stream=1), "stream: got 1, but no array"),
        (lambda a: ops.upsample(a, threads=-1), "threads: got -1"),
        (lambda a: ops.nms(a, np.ones((8, 8), np.uint8)), "mask: got .*ndarray.*expected.*device memory"),
        (lambda a: ops.nms(a, radus=3), "radus: unknown option"),
        (lambda a: ops.nms(a, Foreign(np.ones((8, 9), np.uint8))), r"mask: got \(8, 9\) uint8"),
        (lambda a: ops.upsample(Foreign(a.array.astype(np.float64))), r"difference: got \(8, 8\) float64"),
        (lambda a: ops.upsample(Foreign(a.array[:, ::2], keep=True)), "difference: got strides on the device.*contig"),
        (lambda a: ops.image(Foreign(np.full((80, 80), 2, np.float32))), "image: got NaN, infinity or values out of"),
        (lambda a: ops.image(Foreign(photograph()[:, ::-1], keep=True)), "image: got pixels apart.*contiguous"),
        (lambda a: ops.refine_field(*[ops.ridges(a)] * 2, Transform.identity(), cells=65), "cells: got 65"),
    ],
)
def test_misuse(call, words):
    with pytest.raises(InvalidInput, match=words):
        call(Foreign(np.ones((8, 8), np.float32)))


@pytest.mark.gpu
def test_a_gpu_works_on_torchs_streams(send):
    import torch

    difference = torch.randn(64, 80, device="cuda")
    expected = ops.upsample(difference.cpu().numpy())
    stream = torch.cuda.Stream()
    torch.cuda.synchronize()
    with torch.cuda.stream(stream):
        array = ops.upsample(difference)
        assert array.stream == stream.cuda_stream
        np.testing.assert_array_equal(torch.from_dlpack(array).cpu().numpy(), expected)
        np.testing.assert_array_equal(torch.as_tensor(array, device="cuda").cpu().numpy(), expected)
    assert ops.upsample(difference, stream=stream).stream == stream.cuda_stream
    with pytest.raises(InvalidInput, match="grad"):
        ops.upsample(difference.requires_grad_())


@pytest.mark.gpu
def test_a_gpu_runs_the_network(send):
    seen = ops.image(photograph(192), working_size=192)
    found, expected = ops.network(send(seen.plane), precision="f32"), ops.network(seen.plane, precision="f32")
    np.testing.assert_allclose(found.difference.cpu().numpy(), expected.difference, atol=1e-2)
