"""What all calls of ``ops`` share: options, sizes and thread counts that are wrong are InvalidInput, by name."""

from __future__ import annotations

import numpy as np
import pytest
from fastretina import InvalidInput, Transform, ops

MAP = np.zeros((20, 20), np.float32)
IMAGE = np.zeros((70, 70), np.uint8)
ROWS = np.eye(4, dtype=np.float32)
POINTS = np.random.default_rng(0).random((9, 2), dtype=np.float32)
IDENTITY = Transform.identity()
MEASURED = {
    "contrast_fixed": 1, "contrast_moving": 1, "keypoints_fixed": 9, "keypoints_moving": 9, "matches": 9, "inliers": 9,
    "inlier_rms_px": 1, "coverage": 1, "inlier_similarity": 1, "attempts": 1, "ridge_correlation": 1,
    "peak_to_sidelobe": 9, "overlap_px": 100,
}  # fmt: skip


@pytest.mark.parametrize("threads", [-3, -1, 1025, 1.5, True, None, "2"])
@pytest.mark.parametrize(
    "call",
    [
        lambda **k: ops.upsample(MAP, **k),
        lambda **k: ops.image(IMAGE, **k),
        lambda **k: ops.network(MAP[:16, :16], **k),
        lambda **k: ops.warp(IMAGE, IDENTITY, (9, 9), **k),
    ],
    ids=["upsample", "image", "network", "warp"],
)
def test_threads(call, threads):
    with pytest.raises(InvalidInput, match=r"^threads: got .*; allowed: 1 \.\.\. 1024, or 0"):
        call(threads=threads)


def test_threads_0_is_one_a_usable_core():
    np.testing.assert_array_equal(ops.upsample(MAP, threads=0), ops.upsample(MAP))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ops.nms(MAP, radios=3), "radios: unknown option; did you mean 'radius'"),
        (lambda: ops.nms(MAP, radius="3"), "radius: got '3', expected an integer"),
        (lambda: ops.nms(MAP, radius=3.5), "radius: got 3.5, expected an integer"),
        (lambda: ops.nms(MAP, threshold="low"), "threshold: got 'low', expected a number"),
        (lambda: ops.nms(MAP, radius=2**40), "radius.*too large"),
        (lambda: ops.match(ROWS, ROWS, precision=8), "precision: got 8, expected a string"),
        (lambda: ops.estimate(POINTS, POINTS, sorted="no"), "sorted: got 'no', expected True or False"),
        (lambda: ops.quality(None, (9, 9), (9, 9), **MEASURED, confidence=1), "confidence: unknown option"),
        (lambda: ops.quality(None, (9, 9), (9, 9), **MEASURED | {"inliers": None}), "inliers: got None"),
        (lambda: ops.quality(None, 9, (9, 9), **MEASURED), "fixed_size: got 9, expected"),
        (lambda: ops.warp(IMAGE, IDENTITY, 5), "size: got 5, expected"),
        (lambda: ops.warp(IMAGE, IDENTITY, (5.0, 5)), "size: got"),
        (lambda: ops.warp(IMAGE, IDENTITY, (5, 5, 3)), "size: got"),
        (lambda: ops.warp(IMAGE, IDENTITY, (5, 0)), "size: got"),
        (lambda: ops.upgrade(POINTS, POINTS, IDENTITY, (9, 9), (9, -9)), "moving_size: got"),
        (lambda: ops.refine(MAP, MAP, IDENTITY), "fixed: got ndarray, expected what ops.ridges returns"),
        (lambda: ops.ridge_correlation(ops.ridges(MAP), (1, 2), IDENTITY), "moving: got tuple"),
    ],
)
def test_misuse_names_the_argument(call, message):
    with pytest.raises(InvalidInput, match=f"^{message}" if "too large" not in message else message):
        call()


def test_the_least_side_of_an_image_is_the_one_python_states():
    from fastretina.config import MIN_SIDE_PX

    assert ops.image(np.zeros((MIN_SIDE_PX, 90), np.uint8)).input_size == (90, MIN_SIDE_PX)
    with pytest.raises(InvalidInput, match=f"{MIN_SIDE_PX}"):
        ops.image(np.zeros((MIN_SIDE_PX - 1, 90), np.uint8))


def test_kinds_have_the_numbers_of_the_core():
    """The core takes names and gives numbers."""
    from fastretina.transform import SINGLE_KINDS

    points = np.random.default_rng(0).uniform(0, 300, (40, 2)).astype(np.float32)
    for kind in SINGLE_KINDS[1:]:
        assert ops.estimate(points, points, kind=kind).transform.kind == kind
