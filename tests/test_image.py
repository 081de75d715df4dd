"""Room image: any array -> one locally normalised plane and its field of view."""

import numpy as np
import pytest
from fastretina import _core, ops
from fastretina.errors import InvalidInput
from reference import image as reference

GRAY_TOLERANCE = 2e-6  # intensities: float32 sums of a few weighted pixels
PLANE_TOLERANCE = 1e-3  # normalised values in [-4, 4]: the deviation is a difference of float32 sums


@pytest.fixture(autouse=True)
def _all_levels():
    yield
    _core.limit_simd_level(3)


def textured(height, width, seed=0, disc=True):
    """uint8 texture on a bright disc in a dark frame."""
    random = np.random.default_rng(seed)
    coarse = random.integers(60, 200, (height // 5 + 2, width // 5 + 2))
    image = np.kron(coarse, np.ones((5, 5), np.int64))[:height, :width] + random.integers(-20, 20, (height, width))
    if disc:
        y, x = np.mgrid[:height, :width]
        inside = (x / width - 0.5) ** 2 + (y / height - 0.5) ** 2 < 0.23
        image = np.where(inside, image, random.integers(0, 4, (height, width)))
    return np.clip(image, 0, 255).astype(np.uint8)


def compare(image, **options):
    got = ops.image(image, **options)
    plane, mask, gray, contrast = reference.image(image, **options)
    np.testing.assert_allclose(got.gray, gray, atol=GRAY_TOLERANCE)
    np.testing.assert_array_equal(got.mask, mask)
    np.testing.assert_allclose(got.plane, plane, atol=PLANE_TOLERANCE)
    assert got.contrast == pytest.approx(contrast, abs=1e-6)
    return got


# -- hand table ---------------------------------------------------------------------------------------------------


def test_area_weights_by_hand():
    # 96 -> 64 px: outputs cover 1.5 inputs: 1 + 1/2, then 1/2 + 1.
    image = np.tile(np.array([30, 60, 90], np.uint8), (96, 32))
    gray = ops.image(image, working_size=64).gray
    np.testing.assert_allclose(gray[0, :4], np.array([40, 80, 40, 80]) / 255, atol=1e-6)


def test_bilinear_weights_by_hand():
    # 64 -> 128 px: output i lies at input i / 2 - 1/4; the ends are clamped.
    image = np.tile(np.arange(64, dtype=np.uint8), (64, 1))
    gray = ops.image(image, working_size=128).gray
    np.testing.assert_allclose(255 * gray[0, :4], [0, 0.25, 0.75, 1.25], atol=1e-5)
    np.testing.assert_allclose(255 * gray[5, -2:], [62.75, 63], atol=1e-5)


def test_working_size_of_the_input_changes_no_intensity():
    image = textured(64, 80)
    np.testing.assert_array_equal(ops.image(image, working_size=80).gray, image * np.float32(1 / 255))


def test_dark_frame_is_outside_and_dark_hole_is_not():
    image = np.full((64, 64), 200, np.uint8)
    image[:10] = 0
    image[30:34, 30:34] = 0  # inside: a dark lesion stays in view
    expected = np.ones((64, 64), np.uint8)
    expected[:13] = 0  # and 3 px of erosion
    np.testing.assert_array_equal(ops.image(image, working_size=64).mask, expected)


def test_diagonal_neighbours_do_not_hang_together():
    image = np.full((64, 64), 200, np.uint8)
    for k in range(32):
        image[k, k] = 0
    expected = np.ones((64, 64), np.uint8)
    expected[0, 0] = 0
    np.testing.assert_array_equal(ops.image(image, working_size=64, erode_px=0).mask, expected)


def test_a_dark_path_leads_outside_however_it_winds():
    image = np.full((64, 64), 200, np.uint8)
    image[2:62, 2:62:4] = 0
    for k in range(14):
        image[2 if k % 2 else 61, 2 + 4 * k : 7 + 4 * k] = 0
    inside = ops.image(image, working_size=64, erode_px=0).mask
    assert inside.all()  # the meander touches the frame nowhere
    image[:3, 2] = 0
    np.testing.assert_array_equal(ops.image(image, working_size=64, erode_px=0).mask, image > 0)


def test_green_of_a_colour_image_and_luma_where_green_is_empty():
    gray, zero = textured(64, 64), np.zeros((64, 64), np.uint8)
    green = ops.image(np.stack([zero, gray, zero], -1), working_size=64).gray
    np.testing.assert_array_equal(green, ops.image(gray, working_size=64).gray)
    red = ops.image(np.stack([gray, zero, zero], -1), working_size=64).gray
    np.testing.assert_allclose(red, 0.299 * gray / 255, atol=1e-6)


@pytest.mark.parametrize(
    ("maximum", "unit"),
    [
        (1, 1023),
        (1023, 1023),
        (1024, 4095),
        (4095, 4095),
        (4096, 16383),
        (16383, 16383),
        (16384, 65535),
        (65535, 65535),
    ],
)
def test_uint16_range_follows_the_maximum(maximum, unit):
    image = np.zeros((64, 64), np.uint16)
    image[20, 30] = maximum
    np.testing.assert_allclose(ops.image(image, working_size=64).gray[20, 30], maximum / unit, rtol=1e-6)


def test_geometry():
    got = ops.image(textured(90, 200), working_size=100, multiple=32)
    assert (got.scale, got.input_size, got.content_size) == (0.5, (200, 90), (100, 45))
    assert got.plane.shape == got.mask.shape == (64, 128)
    assert got.gray.shape == (45, 100)


# -- NumPy reference ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "options"),
    [
        ((128, 128), {"working_size": 128}),
        ((150, 97), {"working_size": 96, "multiple": 8}),
        ((97, 150), {"working_size": 131, "multiple": 1}),
        ((65, 300), {"working_size": 70, "multiple": 16}),
        ((64, 64), {"working_size": 101, "dark_fraction": 0.3, "erode_px": 5, "clip": 2.0}),
        ((200, 180), {"working_size": 66, "erode_px": 0}),
        ((640, 64), {"working_size": 64}),
    ],
)
def test_reference(shape, options):
    compare(textured(*shape), **options)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("channels", [1, 3])
def test_reference_types(dtype, channels):
    image = textured(110, 100)
    if channels == 3:
        image = np.stack([image, textured(110, 100, seed=1), image[::-1]], -1)
    scale = {np.uint8: 1, np.uint16: 16, np.float32: np.float32(1 / 255)}[dtype]
    compare(image.astype(dtype) * dtype(scale), working_size=80)


def test_reference_on_ties():
    """Few grey levels: the percentile falls on a plateau, and pixels lie exactly on the threshold."""
    levels = np.array([0, 1 / 32, 1 / 2], np.float32)
    image = np.random.default_rng(5).choice(levels, (72, 72), p=[0.3, 0.3, 0.4])
    compare(image, working_size=72, dark_fraction=1 / 16)  # the middle level is the threshold: not below it
    compare(image, working_size=72, dark_fraction=1 / 8)


def test_strided_arrays():
    image = np.stack([textured(90, 80, seed=s) for s in range(4)], -1)
    for view in (image[..., 1], image[::-1, ::-1, :3], image[..., 2::-1], image[5:-5, 3:-4, 0], image[:, :, 0].T):
        got, expected = ops.image(view, working_size=64), ops.image(np.ascontiguousarray(view), working_size=64)
        np.testing.assert_array_equal(got.plane, expected.plane)


# -- torch twin and training --------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(120, 90), (64, 64, 3), (70, 200)])
def test_torch_twin(shape):
    torch = pytest.importorskip("torch")
    from fastretina.torch_path.image import image as twin

    image = textured(*shape[:2])
    if len(shape) == 3:
        image = np.stack([image // 2, image, image // 3], -1)
    options = dict(_core.IMAGE_DEFAULTS, working_size=96)
    got, other = ops.image(image, **options), twin(torch.from_numpy(image), **options)
    np.testing.assert_allclose(got.gray, other.gray.numpy(), atol=GRAY_TOLERANCE)
    np.testing.assert_array_equal(got.mask, other.mask.numpy())
    np.testing.assert_allclose(got.plane, other.plane.numpy(), atol=PLANE_TOLERANCE)
    assert got.contrast == pytest.approx(other.contrast, abs=1e-5)
    assert got.scale == other.scale


def test_training_normalises_alike():
    torch = pytest.importorskip("torch")
    training = pytest.importorskip("fastretina.training.normalise")
    got = ops.image(textured(130, 110), working_size=120)
    mask = torch.from_numpy(got.mask[:120, : got.gray.shape[1]].astype(np.float32))[None, None]
    plane = training.normalise(torch.from_numpy(got.gray)[None, None], mask)[0, 0].numpy()
    np.testing.assert_allclose(got.plane[:120, : plane.shape[1]], plane, atol=PLANE_TOLERANCE)


# -- properties ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("working_size", [64, 96, 128])  # whole cells: the cell grid flips onto itself
def test_flips_flip_the_plane(working_size):
    image = textured(128, 128)
    whole = ops.image(image, working_size=working_size)
    for axis in (0, 1):
        flipped = ops.image(np.flip(image, axis), working_size=working_size)
        np.testing.assert_array_equal(flipped.mask, np.flip(whole.mask, axis))
        np.testing.assert_allclose(flipped.plane, np.flip(whole.plane, axis), atol=PLANE_TOLERANCE)


def test_gain_and_offset_hardly_change_the_plane():
    image = textured(128, 128, disc=False).astype(np.float32) / 400
    plane = ops.image(image, working_size=128).plane
    np.testing.assert_allclose(ops.image(1.5 * image + 0.02, working_size=128).plane, plane, atol=0.05)


def test_plane_is_zero_outside_and_bounded():
    got = ops.image(textured(200, 150), working_size=128, clip=1.5)
    assert (got.plane[got.mask == 0] == 0).all()
    assert np.abs(got.plane).max() == 1.5


def test_input_is_not_changed():
    image = textured(80, 80)
    before = image.copy()
    ops.image(image)
    np.testing.assert_array_equal(image, before)


# -- no content ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [0, 1, 128, 255])
def test_constant_frames_have_no_contrast(value):
    got = ops.image(np.full((100, 80), value, np.uint8))
    assert got.contrast < 1e-5
    assert np.abs(got.plane).max() < 1e-2


def test_texture_has_contrast():
    assert ops.image(textured(128, 128), working_size=128).contrast > 0.05


# -- misuse -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((100, 100)),
        np.zeros((100, 100), bool),
        np.zeros((100, 100), object),
        np.zeros((100, 100), np.int32),
        np.zeros((100, 100), ">u2"),
        np.zeros((100, 100, 4), np.uint8),
        np.zeros((100, 100, 5), np.uint8),
        np.zeros((100, 100, 1), np.uint8),
        np.zeros((3, 100, 100), np.uint8),
        np.zeros(100, np.uint8),
        np.zeros((0, 100), np.uint8),
        np.zeros((63, 100), np.uint8),
        np.zeros((100, 63, 3), np.float32),
        np.full((100, 100), 1.1, np.float32),
        np.full((100, 100), 255, np.float32),
        np.full((100, 100), -0.1, np.float32),
        [[1, 2], [3, 4]],
        None,
    ],
)
def test_misuse_names_the_image(image):
    with pytest.raises(InvalidInput, match=r"^image: got .*expected"):
        ops.image(image)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("shape", [(100, 99), (100, 99, 3)])
def test_one_bad_value_is_found(shape, value):
    image = np.zeros(shape, np.float32)
    image[67, 98] = value
    with pytest.raises(InvalidInput, match=r"^image: got NaN or infinity in row 67"):
        ops.image(image)


def test_rounding_beyond_the_range_is_forgiven():
    image = np.full((64, 64), 1.0005, np.float32)
    assert ops.image(image, working_size=64).gray.max() == 1


@pytest.mark.parametrize(
    "option",
    [
        {"working_size": 63},
        {"multiple": 0},
        {"dark_fraction": 1.0},
        {"dark_fraction": np.nan},
        {"erode_px": -1},
        {"erode_px": 64},
        {"clip": 0.0},
        {"clip": np.nan},
    ],
)
def test_option_out_of_range(option):
    with pytest.raises(InvalidInput, match=rf"^{next(iter(option))}: got"):
        ops.image(textured(64, 64), **option)


def test_unknown_option():
    with pytest.raises(InvalidInput, match=r"^size: unknown option.* allowed: working_size, multiple"):
        ops.image(textured(64, 64), size=100)


# -- determinism --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("colour", [None, (1, 1, 1), (1, 0, 0)])
@pytest.mark.parametrize("working_size", [96, 150, 333])
def test_threads_and_simd_levels_give_the_same_bits(dtype, colour, working_size):
    image = textured(211, 307)
    if colour:
        image = image[..., None] * np.array(colour, np.uint8)
    image = image / np.float32(255) if dtype == np.float32 else image.astype(dtype)
    results = set()
    for level in (0, 1, 2, 3):
        _core.limit_simd_level(level)
        for threads in (1, 2, 3):
            got = ops.image(image, working_size=working_size, threads=threads)
            results.add((got.plane.tobytes(), got.mask.tobytes(), got.gray.tobytes(), got.contrast))
    assert len(results) == 1


def test_scratch_stops_growing_and_does_not_follow_the_input():
    session = _core.Session(1)
    small = textured(300, 300)
    for _ in range(3):
        _core.image(session, small)
    before = session.workspace_bytes
    for _ in range(3):
        _core.image(session, small)
    assert session.workspace_bytes == before
    large = np.zeros((3000, 3000, 3), np.uint8)
    for _ in range(3):
        _core.image(session, large)
    assert session.workspace_bytes < before + large.nbytes / 20
