"""The NumPy resampler: hand tables, and the compiled room on the same input."""

import numpy as np
import pytest
from fastretina import InvalidInput, Transform
from fastretina.resample import INTERPOLATIONS, _resample_numpy, resample

HOMOGRAPHY = Transform("homography", [[0.95, 0.12, 3.0], [-0.1, 1.02, 4.0], [2e-4, -1e-4, 1]])
QUADRATIC = Transform("quadratic", [[3, 1.01, 0.02, 1e-4, 2e-4, 0], [-2, -0.03, 0.98, 1e-4, 0, 2e-4]])
DENSE = Transform("dense", np.random.default_rng(2).uniform(-3, 3, (5, 6, 2)), (6, 4, 58, 44))


def test_half_pixel_shift_by_hand() -> None:
    row = np.array([[0, 10, 30, 70]], np.uint8)
    shift = Transform.from_matrix([[1, 0, 0.5], [0, 1, 0]])  # FIXED x shows MOVING x - 1/2
    linear, valid = _resample_numpy(row, shift, (6, 1), "linear")
    assert linear.tolist() == [[0, 5, 20, 50, 70, 0]]  # at both ends the border pixel is repeated
    assert valid.tolist() == [[True, True, True, True, True, False]]
    # Keys' weights at 1/2 with a = -3/4: -3/32, 19/32, 19/32, -3/32
    cubic, _ = _resample_numpy(row, shift, (6, 1), "cubic")
    assert cubic[0, 2] == np.floor((-3 * 0 + 19 * 10 + 19 * 30 - 3 * 70) / 32 + 0.5)
    nearest, _ = _resample_numpy(row, shift, (6, 1), "nearest")
    assert nearest.tolist() == [[0, 10, 30, 70, 70, 0]]  # half rounds up; 3 1/2 is still inside


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize(
    "transform",
    [Transform.identity(), HOMOGRAPHY, QUADRATIC, DENSE, DENSE @ HOMOGRAPHY, DENSE @ QUADRATIC],
    ids=["identity", "homography", "quadratic", "dense", "dense homography", "dense quadratic"],
)
def test_core_and_numpy_agree(interpolation: str, dtype: str, transform: Transform) -> None:
    pytest.importorskip("fastretina._core")
    rng = np.random.default_rng(0)
    image = (rng.random((53, 61, 3)) * {"uint8": 255, "uint16": 65535, "float32": 1}[dtype]).astype(dtype)
    native, native_valid = resample(image, transform, (70, 50), interpolation)
    slow, slow_valid = _resample_numpy(image, transform, (70, 50), interpolation)
    assert native.dtype == slow.dtype == image.dtype
    np.testing.assert_array_equal(native_valid, slow_valid)
    difference = np.abs(native.astype(float) - slow.astype(float))
    # the core computes weights in float32: the last bit of the result may differ
    limit = {"uint8": 1, "uint16": 2, "float32": 2e-5}[dtype]
    if transform.steps[0].transform.kind == "dense":  # positions to 1e-4 px, times the steepest gradient of noise
        limit = {"uint8": 1, "uint16": 14, "float32": 2e-4}[dtype]
    if interpolation == "nearest":
        limit = 0
    assert difference.max() <= limit
    if dtype == "uint8":  # one level differs only where a value lies within rounding of a half: rare
        assert (difference > 0).mean() < 0.02


def test_inverse_of_a_quadratic_is_resampled_too() -> None:
    image = np.random.default_rng(0).integers(0, 255, (60, 60), dtype=np.uint8)
    there, _ = resample(image, Transform.identity(), (60, 60))
    np.testing.assert_array_equal(there, image)
    y, x = np.mgrid[:60, :60]
    ramp = (2 * x + y).astype(np.uint8)
    back, valid = resample(ramp, QUADRATIC.inverse, (60, 60))
    at = QUADRATIC(np.stack([x, y], -1).reshape(-1, 2)).reshape(60, 60, 2)
    expected = 2 * at[..., 0] + at[..., 1]
    inside = valid & (at > 0.5).all(-1) & (at < 58.5).all(-1)
    assert inside.mean() > 0.7
    assert np.abs(back[inside] - expected[inside]).max() <= 0.5 + 1e-9


def test_beyond_the_pole_nothing_is_shown() -> None:
    # x' = 400 + x / (1 - x / 50): the pole is at x = 50, and the centre of MOVING (44.5) left of it
    pole = Transform("homography", [[-7, 0, 400], [-2, 1, 100], [-0.02, 0, 1]])
    np.testing.assert_allclose(pole([[20.0, 10.0], [60.0, 10.0]]), [[1300 / 3, 350 / 3], [100, 50]])
    _, valid = _resample_numpy(np.full((40, 90), 200, np.uint8), pole, (500, 150), "nearest")
    assert valid[117, 433]
    assert not valid[50, 100]


@pytest.mark.parametrize(
    ("image", "interpolation", "message"),
    [
        (np.zeros((0, 5)), "linear", r"image: got \(0, 5\)"),
        (np.zeros((5, 5, 2, 2)), "linear", "image: got"),
        ("no array", "linear", "image: got str"),
        (np.zeros((5, 5)), "lancsoz", "interpolation: got 'lancsoz'"),
    ],
)
def test_misuse(image: object, interpolation: str, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        resample(image, Transform.identity(), (5, 5), interpolation)
