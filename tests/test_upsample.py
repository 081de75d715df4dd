"""Room upsample: (h, w) -> (4h, 4w), bicubic."""

from __future__ import annotations

import numpy as np
import pytest
from fastretina import InvalidInput, ops
from reference.upsample import upsample as reference

SHAPES = [(1, 1), (1, 5), (2, 3), (3, 2), (4, 4), (5, 1), (7, 18), (18, 33)]


def noise(shape: tuple[int, int], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def test_hand_table():
    # An impulse of 512 shows the weights of each distance, in 512ths: -0.75 (d^3 - 5 d^2 + 8 d - 4) and its inner twin.
    signal = np.zeros((1, 5), np.float32)
    signal[0, 2] = 512
    row = [0.0, 0.0, -5.25, -33.75, -56.25, -36.75, 58.75, 218.25, 383.75, 495.25]
    expected = np.array(row + row[::-1], np.float32)
    for line in ops.upsample(signal):  # one row of cells: along y all taps are the same cell, and the weights sum to 1
        np.testing.assert_array_equal(line, expected)


def test_half_pixel_centres():
    # Cell i covers pixels 4 i ... 4 i + 3 and is centred between them: on a ramp their mean is the cell's value.
    # (a = -0.75 does not reproduce a ramp pixel by pixel; only a = -0.5 does.)
    ramp = np.tile(np.arange(12, dtype=np.float32), (3, 1))
    means = ops.upsample(ramp).reshape(12, 12, 4).mean(axis=2)
    np.testing.assert_array_equal(means[:, 2:10], np.tile(np.arange(2, 10, dtype=np.float32), (12, 1)))


@pytest.mark.parametrize("shape", SHAPES)
def test_equals_reference(shape, simd_level):
    for difference in (noise(shape), np.round(noise(shape, 1)), np.zeros(shape, np.float32)):
        np.testing.assert_array_equal(ops.upsample(difference), reference(difference))


def test_equals_torch_twin():
    torch = pytest.importorskip("torch")
    from fastretina.torch_path.upsample import upsample as twin

    difference = noise((37, 51))
    np.testing.assert_array_equal(ops.upsample(difference), twin(torch.from_numpy(difference)).numpy())


def test_equals_torch_interpolate():
    torch = pytest.importorskip("torch")
    difference = noise((37, 51))
    theirs = torch.nn.functional.interpolate(torch.from_numpy(difference)[None, None], scale_factor=4, mode="bicubic")
    # 16 products of at most |4| and weights of at most 1, rounded in another order.
    np.testing.assert_allclose(ops.upsample(difference), theirs[0, 0].numpy(), rtol=0, atol=4e-6)


def test_flips_are_exact(simd_level):
    difference = noise((9, 14))
    up = ops.upsample(difference)
    np.testing.assert_array_equal(ops.upsample(difference[::-1]), up[::-1])
    np.testing.assert_array_equal(ops.upsample(difference[:, ::-1]), up[:, ::-1])


def test_translation_is_exact():
    difference = noise((16, 20))
    shifted = ops.upsample(np.ascontiguousarray(difference[3:, 5:]))
    np.testing.assert_array_equal(ops.upsample(difference)[20:52, 28:72], shifted[8:40, 8:52])


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_same_bits_for_any_number_of_threads(threads, simd_level):
    difference = noise((45, 30))
    np.testing.assert_array_equal(ops.upsample(difference, threads=threads), ops.upsample(difference))


@pytest.mark.parametrize(
    ("difference", "message"),
    [
        (np.zeros((4, 4)), "float32"),
        (np.zeros((1, 4, 4), np.float32), "float32"),
        (np.zeros((0, 4), np.float32), "at least 1 x 1"),
        (np.full((4, 4), np.nan, np.float32), "NaN"),
        (np.full((4, 4), np.inf, np.float32), "infinity"),
        ([[0.0]], "float32"),
    ],
)
def test_misuse(difference, message):
    with pytest.raises(InvalidInput, match=rf"^difference: .*{message}"):
        ops.upsample(difference)
