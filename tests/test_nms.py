"""Room nms: confidence map -> key points."""

from __future__ import annotations

import numpy as np
import pytest
from fastretina import InvalidInput, _core, ops
from reference.nms import nms as reference

SHAPES = [(1, 1), (1, 5), (2, 3), (3, 2), (5, 4), (5, 5), (13, 40), (31, 70)]
ALL_POSITIVE = {"max_keypoints": 4000, "threshold": 0.0}


def noise(shape: tuple[int, int], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def tied(shape: tuple[int, int], seed: int = 0) -> np.ndarray:
    """Few different values, among them plateaus."""
    return np.random.default_rng(seed).integers(-1, 3, size=shape).astype(np.float32)


def same(a: ops.Keypoints, b) -> None:
    np.testing.assert_array_equal(a.xy, b[0])
    np.testing.assert_array_equal(a.score, b[1])
    assert a.xy.dtype == a.score.dtype == np.float32


def test_hand_table():
    confidence = np.zeros((6, 8), np.float32)
    confidence[1, 1], confidence[1, 3], confidence[4, 6], confidence[5, 1] = 3, 2, 5, -1
    same(ops.nms(confidence, radius=1), ([[6, 4], [1, 1], [3, 1]], [5, 3, 2]))
    same(ops.nms(confidence, radius=2), ([[6, 4], [1, 1]], [5, 3]))
    same(ops.nms(confidence, radius=2, max_keypoints=1), ([[6, 4]], [5]))
    same(ops.nms(confidence, radius=1, threshold=2), ([[6, 4], [1, 1]], [5, 3]))
    mask = np.ones_like(confidence, np.uint8)
    mask[1, 1] = 0  # cannot win, still suppresses (3, 1)
    same(ops.nms(confidence, mask, radius=2), ([[6, 4]], [5]))


def test_ties_go_to_the_first():
    confidence = np.ones((7, 9), np.float32)
    same(ops.nms(confidence, radius=2), ([[0, 0]], [1]))
    same(ops.nms(confidence, radius=0, max_keypoints=3), ([[0, 0], [1, 0], [2, 0]], [1, 1, 1]))
    two = np.zeros((5, 12), np.float32)
    two[2, 9] = two[3, 1] = 1  # equal scores: row-major order
    same(ops.nms(two, radius=4), ([[9, 2], [1, 3]], [1, 1]))
    two[2, 5] = 1  # before (9, 2) in the row, and before (1, 3)
    same(ops.nms(two, radius=4), ([[5, 2]], [1]))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("radius", [0, 1, 4, 9])
def test_equals_reference(shape, radius, simd_level):
    mask = (np.random.default_rng(2).random(shape) > 0.3).astype(np.uint8) * 255
    for confidence in (noise(shape), tied(shape)):
        for m in (None, mask):
            options = {"radius": radius, **ALL_POSITIVE}
            same(ops.nms(confidence, m, **options), reference(confidence, m, **options))
        options = {"radius": radius, "max_keypoints": 7, "threshold": -0.5}
        same(ops.nms(confidence, **options), reference(confidence, **options))


def test_everything_counts_below_any_threshold():
    confidence = noise((6, 21))
    options = {"radius": 0, "max_keypoints": 4000, "threshold": -np.inf}
    same(ops.nms(confidence, **options), reference(confidence, **options))


@pytest.mark.parametrize("uneven", ["one bucket", "negative zero"])
def test_uneven_scores_are_sorted(uneven):
    # The selection sorts by buckets of equal width: nearly all scores in one of them is its worst case.
    if uneven == "one bucket":
        confidence = 1 + 1e-3 * np.random.default_rng(0).random((60, 60)).astype(np.float32)
        confidence[0, 0] = 1e30
    else:
        confidence = np.where(np.random.default_rng(0).random((60, 60)) > 0.5, 0.0, -0.0).astype(np.float32)
    for k in (5, 1000, 4000):
        found = ops.nms(confidence, radius=0, threshold=-1, max_keypoints=k)
        order = np.argsort(-confidence.ravel(), kind="stable")[:k]
        np.testing.assert_array_equal(found.xy, np.stack([order % 60, order // 60], axis=1))


@pytest.mark.parametrize("radius", [0, 3, 4])
def test_equals_torch_twin(radius):
    torch = pytest.importorskip("torch")
    from fastretina.torch_path.nms import nms as twin

    mask = (np.random.default_rng(2).random((70, 90)) > 0.3).astype(np.uint8)
    options = {"radius": radius, "max_keypoints": 300, "threshold": 0.0}
    for confidence in (noise((70, 90)), tied((70, 90))):
        xy, score = twin(torch.from_numpy(confidence), torch.from_numpy(mask), **options)
        same(ops.nms(confidence, mask, **options), (xy.numpy(), score.numpy()))


def test_flips_and_turns_move_the_key_points():
    confidence = noise((40, 53))  # no ties
    xy = ops.nms(confidence).xy
    np.testing.assert_array_equal(ops.nms(confidence[::-1]).xy, np.stack([xy[:, 0], 39 - xy[:, 1]], axis=1))
    np.testing.assert_array_equal(ops.nms(confidence[:, ::-1]).xy, np.stack([52 - xy[:, 0], xy[:, 1]], axis=1))
    np.testing.assert_array_equal(ops.nms(confidence.T).xy, xy[:, ::-1])


def test_key_points_are_apart_and_sorted():
    found = ops.nms(noise((200, 210)), radius=4)
    distance = np.abs(found.xy[:, None] - found.xy[None]).max(axis=2)
    assert distance[~np.eye(len(found.xy), dtype=bool)].min() > 4
    assert (np.diff(found.score) <= 0).all()
    assert len(found.xy) > 300


def test_the_mask_only_removes():
    confidence = noise((60, 60))
    mask = np.ones((60, 60), np.uint8)
    mask[:, 30:] = 0
    everywhere, left = ops.nms(confidence), ops.nms(confidence, mask)
    same(left, (everywhere.xy[everywhere.xy[:, 0] < 30], everywhere.score[everywhere.xy[:, 0] < 30]))


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_same_bits_for_any_number_of_threads(threads, simd_level):
    for confidence in (noise((150, 90)), tied((150, 90))):
        same(ops.nms(confidence, threads=threads, max_keypoints=100), ops.nms(confidence, max_keypoints=100))


def test_nothing_above_the_threshold():
    found = ops.nms(np.zeros((5, 5), np.float32), threshold=0)
    assert found.xy.shape == (0, 2)
    assert found.score.shape == (0,)


def test_defaults_come_from_the_struct():
    confidence = noise((300, 300))
    same(ops.nms(confidence, **_core.NMS_DEFAULTS), ops.nms(confidence))


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ([np.zeros((4, 4))], {}, "confidence: .*float32"),
        ([np.zeros(4, np.float32)], {}, "confidence: .*float32"),
        ([np.zeros((4, 0), np.float32)], {}, "confidence: .*at least 1 x 1"),
        ([np.full((4, 4), np.nan, np.float32)], {}, "confidence: got NaN"),
        ([np.zeros((4, 4), np.float32), np.zeros((4, 5), np.uint8)], {}, "mask: .*size"),
        ([np.zeros((4, 4), np.float32), np.zeros((4, 4), bool)], {}, "mask: .*uint8"),
        ([np.zeros((4, 4), np.float32)], {"radius": -1}, "radius: got -1, expected 0 ... 255"),
        ([np.zeros((4, 4), np.float32)], {"radius": 256}, "radius: got 256"),
        ([np.zeros((4, 4), np.float32)], {"max_keypoints": 0}, "max_keypoints: got 0, expected at least 1"),
        ([np.zeros((4, 4), np.float32)], {"threshold": float("nan")}, "threshold: got NaN"),
    ],
)
def test_misuse(arguments, options, message):
    with pytest.raises(InvalidInput, match=message):
        ops.nms(*arguments, **options)


def test_unknown_option():
    with pytest.raises(InvalidInput, match="radios: unknown option; did you mean 'radius'"):
        ops.nms(np.zeros((4, 4), np.float32), radios=3)
