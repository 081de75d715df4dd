"""Room detect: upsample and nms in one pass."""

from __future__ import annotations

import numpy as np
import pytest
from fastretina import InvalidInput, _core, ops
from reference.detect import detect as reference

SHAPES = [(1, 1), (1, 5), (2, 3), (3, 2), (4, 4), (5, 1), (9, 11)]


def noise(shape: tuple[int, int], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def tied(shape: tuple[int, int], seed: int = 0) -> np.ndarray:
    """Large areas of equal cells, hence plateaus and equal peaks in the upsampled map."""
    cells = np.random.default_rng(seed).integers(-1, 2, size=shape).astype(np.float32)
    return np.repeat(cells, 6, axis=1)[:, : shape[1]]


def same(a: ops.Keypoints, b) -> None:
    np.testing.assert_array_equal(a.xy, b[0])
    np.testing.assert_array_equal(a.score, b[1])
    assert a.xy.dtype == a.score.dtype == np.float32


def test_hand_table():
    # An impulse at cell (2, 1) is centred on pixel (9.5, 5.5): four equal pixels, the first of which is the key point.
    difference = np.zeros((4, 5), np.float32)
    difference[1, 2] = 512
    same(ops.detect(difference), ([[9, 5]], [512 * (495.25 / 512) ** 2]))
    # Two cells that lean on each other: the peak moves towards the neighbour.
    difference[1, 3] = 256
    assert ops.detect(difference).xy.tolist() == [[10, 5]]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("radius", [0, 4, 5])
def test_equals_reference(shape, radius, simd_level):
    mask = (np.random.default_rng(2).random((4 * shape[0], 4 * shape[1])) > 0.3).astype(np.uint8)
    for difference in (noise(shape), tied(shape)):
        for m in (None, mask):
            options = {"radius": radius, "max_keypoints": 4000, "threshold": 0.0}
            same(ops.detect(difference, m, **options), reference(difference, m, **options))


@pytest.mark.parametrize("shape", [(33, 50), (64, 32), (97, 19), (131, 70)])
@pytest.mark.parametrize("radius", [0, 1, 3, 4, 7, 8, 21])
def test_equals_the_two_rooms(shape, radius, simd_level):
    mask = (np.random.default_rng(2).random((4 * shape[0], 4 * shape[1])) > 0.3).astype(np.uint8)
    for difference in (noise(shape), tied(shape), noise(shape) - 2):
        confidence = ops.upsample(difference)
        for options in ({}, {"max_keypoints": 50}, {"threshold": 0.7}):
            same(ops.detect(difference, radius=radius, **options), ops.nms(confidence, radius=radius, **options))
        same(ops.detect(difference, mask, radius=radius), ops.nms(confidence, mask, radius=radius))


def test_equals_torch_twin():
    torch = pytest.importorskip("torch")
    from fastretina.torch_path.detect import detect as twin

    mask = (np.random.default_rng(2).random((160, 200)) > 0.3).astype(np.uint8)
    options = {"radius": 4, "max_keypoints": 100, "threshold": 0.0}
    for difference in (noise((40, 50)), tied((40, 50))):
        xy, score = twin(torch.from_numpy(difference), torch.from_numpy(mask), **options)
        same(ops.detect(difference, mask, **options), (xy.numpy(), score.numpy()))


def test_flips_move_the_key_points():
    difference = noise((30, 41))
    xy = ops.detect(difference).xy
    width, height = 4 * 41, 4 * 30
    mirrored, upside_down = ops.detect(difference[:, ::-1]).xy, ops.detect(difference[::-1]).xy
    np.testing.assert_array_equal(mirrored, np.stack([width - 1 - xy[:, 0], xy[:, 1]], axis=1))
    np.testing.assert_array_equal(upside_down, np.stack([xy[:, 0], height - 1 - xy[:, 1]], axis=1))


def test_quarter_turns_move_the_key_points():
    # Sums along x come before sums along y, so a turn may change the last bit; it decides nothing here.
    difference = noise((30, 41))
    xy = ops.detect(difference).xy
    np.testing.assert_array_equal(ops.detect(np.rot90(difference)).xy, np.stack([xy[:, 1], 163 - xy[:, 0]], axis=1))


def test_translation_moves_the_key_points():
    difference = np.full((60, 70), -1, np.float32)
    difference[10:30, 10:30] = noise((20, 20))
    moved = np.roll(difference, (23, 31), axis=(0, 1))
    still = ops.detect(difference, threshold=0).xy
    np.testing.assert_array_equal(ops.detect(moved, threshold=0).xy, still + np.array([4 * 31, 4 * 23]))


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_same_bits_for_any_number_of_threads(threads, simd_level):
    for difference in (noise((150, 40)), tied((150, 40))):
        same(ops.detect(difference, threads=threads), ops.detect(difference))


def test_no_memory_after_warm_up():
    session = _core.Session(1)
    _core.detect(session, noise((80, 90)))
    _core.detect(session, noise((80, 90)))
    before = session.workspace_bytes
    for seed in range(5):
        _core.detect(session, noise((80, 90), seed))
        _core.detect(session, noise((30, 20), seed))
    assert session.workspace_bytes == before


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ([np.zeros((4, 4))], {}, "difference: .*float32"),
        ([np.zeros(4, np.float32)], {}, "difference: .*float32"),
        ([np.zeros((0, 4), np.float32)], {}, "difference: .*at least 1 x 1"),
        ([np.full((4, 4), -np.inf, np.float32)], {}, "difference: got NaN or infinity"),
        ([np.zeros((4, 4), np.float32), np.zeros((4, 4), np.uint8)], {}, "mask: .*size"),
        ([np.zeros((4, 4), np.float32)], {"radius": -1}, "radius: got -1, expected 0 ... 255"),
        ([np.zeros((4, 4), np.float32)], {"max_keypoints": -3}, "max_keypoints: got -3, expected at least 1"),
        ([np.zeros((4, 4), np.float32)], {"threshold": float("nan")}, "threshold: got NaN"),
    ],
)
def test_misuse(arguments, options, message):
    with pytest.raises(InvalidInput, match=message):
        ops.detect(*arguments, **options)


def test_unknown_option():
    with pytest.raises(InvalidInput, match="nms_radius: unknown option; did you mean 'radius'"):
        ops.detect(np.zeros((4, 4), np.float32), nms_radius=3)
