"""Room warp: image or points + transform -> the same in the FIXED frame."""

import numpy as np
import pytest
from fastretina import _core, ops
from fastretina.errors import InvalidInput
from fastretina.transform import Transform
from reference.warp import warp as reference

INTERPOLATIONS = ("nearest", "linear", "cubic")
IDENTITY = Transform.identity()


@pytest.fixture(autouse=True)
def _all_levels():
    yield
    _core.limit_simd_level(3)


def texture(height, width, dtype=np.uint8, channels=None, seed=0):
    shape = (height, width) if channels is None else (height, width, channels)
    values = np.random.default_rng(seed).uniform(0, 1, shape)
    if dtype == np.float32:
        return values.astype(np.float32)
    return (values * np.iinfo(dtype).max).astype(dtype)


def shift(x, y):
    return Transform.from_matrix([[1, 0, x], [0, 1, y]])


TRANSFORMS = {
    "identity": IDENTITY,
    "shift": shift(3.25, -2.5),
    "similarity": Transform.from_matrix([[0.9, -0.3, 12.3], [0.3, 0.9, -4.1]]),
    "mirror": Transform.from_matrix([[-1, 0, 60.2], [0, 1, 0.4]]),
    "affine": Transform.from_matrix([[1.2, 0.1, -7.3], [-0.2, 0.8, 9.9]]),
    "shrink": Transform.from_matrix([[0.2713, 0.0217, 5.117], [-0.0193, 0.2571, 3.331]]),
    "homography": Transform.from_matrix([[1.1, 0.1, -5.2], [-0.1, 0.9, 6.1], [1e-3, -2e-3, 1]]),
    "pole": Transform.from_matrix([[1, 0, 0.1], [0, 1, 0.2], [-0.02, 0.003, 1]]),
    "quadratic": Transform("quadratic", [[2.1, 1.05, 0.02, 1e-3, -5e-4, 2e-4], [-3.2, -0.03, 0.97, 3e-4, 8e-4, -1e-3]]),
    "fold": Transform("quadratic", [[2.1, 1.05, 0.02, -9e-3, 0, 2e-4], [-3.2, -0.03, 0.97, 3e-4, 8e-4, -1e-3]]),
}


def compare(moving, transform, size, interpolation):
    got = ops.warp(moving, transform, size, interpolation=interpolation)
    expected, valid = reference(moving, transform.kind, transform.params, size, interpolation)
    assert got.image.dtype == moving.dtype
    assert got.valid.dtype == bool
    differing = got.valid != valid  # only where a position is on the very border
    assert differing.mean() < 2e-3
    both = got.valid & valid
    span = float(np.iinfo(moving.dtype).max) if moving.dtype != np.float32 else 1.0
    if span > 1:
        expected = np.clip(expected, 0, span)
    error = np.abs(got.image.astype(np.float64) - expected)[both]
    if interpolation == "nearest":  # a position on the border of two pixels may take either
        assert (error > 0).mean() < 1e-2  # halves round either way: whether torch contracts depends on the processor
    elif error.size:
        # Rounding to integers, plus what 1e-5 px of position error are worth between random pixels.
        assert error.max() <= (0.5 if span > 1 else 0) + 5e-5 * span
    assert (got.image[~got.valid] == 0).all()
    return both.mean()


# -- hand table ---------------------------------------------------------------------------------------------------


def test_hand_table_linear():
    moving = np.array([[10, 20], [30, 50]], np.uint8)
    got = ops.warp(moving, shift(0.5, 0.5), (3, 3))
    np.testing.assert_array_equal(got.image, [[10, 15, 20], [20, 28, 35], [30, 40, 50]])  # 27.5 rounds up; edges repeat
    assert got.valid.all()


def test_hand_table_nearest_and_border():
    moving = np.array([[1, 2, 3]], np.uint16)
    got = ops.warp(moving, shift(1.5, 0), (6, 2), interpolation="nearest")
    np.testing.assert_array_equal(got.image, [[0, 1, 2, 3, 3, 0], [0] * 6])  # halves go up, the last one is clamped
    np.testing.assert_array_equal(got.valid, [[False, True, True, True, True, False], [False] * 6])


def test_hand_table_cubic():
    moving = np.array([[0, 0, 1, 0, 0, 0]], np.float32)
    got = ops.warp(moving, shift(0.5, 0), (6, 1), interpolation="cubic").image
    np.testing.assert_allclose(got, [[0, -0.09375, 0.59375, 0.59375, -0.09375, 0]], atol=1e-7)


def test_cubic_integers_are_clamped():
    moving = np.array([[0, 0, 255, 255, 0, 0]], np.uint8)
    got = ops.warp(moving, shift(0.5, 0), (6, 1), interpolation="cubic").image
    np.testing.assert_array_equal(got, [[0, 0, 128, 255, 128, 0]])  # 255 (0.59375 - 0.09375) = 127.5; 302.8; -23.9


# -- NumPy reference ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize("name", TRANSFORMS)
def test_reference(name, interpolation):
    share = compare(texture(47, 60), TRANSFORMS[name], (71, 40), interpolation)
    assert share > 0.05


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize("channels", [None, 1, 2, 3, 4])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_reference_types(dtype, channels, interpolation):
    compare(texture(30, 41, dtype, channels), TRANSFORMS["similarity"], (70, 25), interpolation)


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 2), (2, 1), (3, 3), (4, 5), (5, 4), (1, 70), (70, 1)])
def test_degenerate_sizes(height, width, interpolation):
    for dtype in (np.uint8, np.float32):
        for channels in (None, 3):
            compare(texture(height, width, dtype, channels), shift(0.3, -0.2), (width + 2, height + 1), interpolation)


def test_strided_arrays():
    image = texture(40, 50, channels=4)
    for view in (image[..., 1], image[::-1], image[3:-3, 5:-2, :3], image[..., ::-1], image[:, ::2]):
        got = ops.warp(view, TRANSFORMS["affine"], (50, 40))
        np.testing.assert_array_equal(got.image, ops.warp(view.copy(), TRANSFORMS["affine"], (50, 40)).image)


# -- large frames -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_wider_than_32767_px(interpolation):
    moving = texture(3, 40000)
    got = ops.warp(moving, shift(-39000, 0), (1100, 3), interpolation=interpolation)
    np.testing.assert_array_equal(got.image[:, :1000], moving[:, 39000:])
    assert not got.valid[:, 1000:].any()


def test_sub_pixel_accuracy_far_from_the_origin():
    """A ramp tells the position: 1e-3 px at 60 000 px, where float32 positions would be 4e-3 px wide."""
    ramp = np.tile((np.arange(60000) % 1000 / 1000).astype(np.float32), (2, 1))
    transform = Transform.from_matrix([[1, 0, -59000.123], [0, 1, 0]])
    got = ops.warp(ramp, transform, (900, 2)).image[0]
    expected = (np.arange(900) + 59000.123) % 1000 / 1000
    np.testing.assert_allclose(got[:998], expected[:998], atol=2e-6)


@pytest.mark.parametrize("name", ["similarity", "homography", "quadratic"])
def test_positions_inside_a_span_match_the_transform(name):
    """Ramps in x and y read the source positions out of the room."""
    height, width = 300, 400
    y, x = np.mgrid[:height, :width].astype(np.float32)
    t = {
        "similarity": Transform.from_matrix([[0.99, -0.14, 20.7], [0.14, 0.99, -30.2]]),
        "homography": Transform.from_matrix([[1.02, 0.1, -5.2], [-0.1, 0.97, 6.1], [2e-4, -3e-4, 1]]),
        "quadratic": Transform("quadratic", [[2, 1.02, 0.05, 8e-5, -5e-5, 2e-5], [-3, -0.03, 0.98, 3e-5, 8e-5, -9e-5]]),
    }[name]
    sx, valid = ops.warp(x, t, (width, height))
    sy, _ = ops.warp(y, t, (width, height))
    inner = valid & (sx > 0) & (sx < width - 1) & (sy > 0) & (sy < height - 1)
    assert inner.mean() > 0.5
    back = t(np.stack([sx[inner], sy[inner]], 1).astype(np.float64))
    np.testing.assert_allclose(back, np.argwhere(inner)[:, ::-1], atol=2e-4)  # float32 samples of 400: 3e-5


# -- torch twin ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize("name", TRANSFORMS)
def test_torch_twin(name, interpolation):
    torch = pytest.importorskip("torch")
    from fastretina.torch_path.warp import warp as twin

    moving, t = texture(80, 90, np.uint8, 3), TRANSFORMS[name]
    got = ops.warp(moving, t, (130, 70), interpolation=interpolation)
    image, valid = twin(torch.from_numpy(moving), t.kind, torch.from_numpy(t.params.copy()), (130, 70), interpolation)
    assert (got.valid != valid.numpy()).mean() < 1e-3
    both = got.valid & valid.numpy()
    error = np.abs(got.image.astype(int) - image.numpy())[both]
    assert (error > 0).mean() < 1e-2  # halves round either way: whether torch contracts depends on the processor
    assert interpolation == "nearest" or error.max() <= 1


# -- properties ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_identity_changes_no_bit(dtype, interpolation):
    moving = texture(100, 150, dtype, 3)
    got = ops.warp(moving, IDENTITY, (150, 100), interpolation=interpolation)
    np.testing.assert_array_equal(got.image, moving)
    assert got.valid.all()


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_quarter_turn_is_exact(interpolation):
    moving = texture(100, 150)
    turned = ops.warp(moving, Transform.from_matrix([[0, 1, 0], [-1, 0, 149]]), (100, 150), interpolation=interpolation)
    np.testing.assert_array_equal(turned.image, np.rot90(moving))


def test_whole_pixel_shift_commutes():
    moving = texture(100, 150)
    t = TRANSFORMS["similarity"]
    whole = ops.warp(moving, t, (200, 150)).image
    np.testing.assert_allclose(
        ops.warp(moving, shift(8, 5) @ t, (200, 150)).image[5:, 8:].astype(int), whole[:-5, :-8].astype(int), atol=1
    )


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize("name", TRANSFORMS)
def test_size_of_the_frame_changes_no_pixel(name, interpolation):
    moving = texture(90, 100)
    large = ops.warp(moving, TRANSFORMS[name], (200, 120), interpolation=interpolation)
    small = ops.warp(moving, TRANSFORMS[name], (77, 41), interpolation=interpolation)
    np.testing.assert_array_equal(small.image, large.image[:41, :77])
    np.testing.assert_array_equal(small.valid, large.valid[:41, :77])


def test_channels_are_independent():
    moving = texture(60, 70, channels=3)
    for interpolation in INTERPOLATIONS:
        whole = ops.warp(moving, TRANSFORMS["affine"], (80, 80), interpolation=interpolation).image
        for c in range(3):
            one = ops.warp(moving[..., c], TRANSFORMS["affine"], (80, 80), interpolation=interpolation).image
            np.testing.assert_array_equal(whole[..., c], one)


def test_constant_image_stays_constant():
    moving = np.full((60, 70), 173, np.uint8)
    for interpolation in INTERPOLATIONS:
        got = ops.warp(moving, TRANSFORMS["homography"], (80, 80), interpolation=interpolation)
        assert set(np.unique(got.image[got.valid])) == {173}


def test_nothing_is_shown_twice():
    """Beyond a pole or a fold the same pixels would appear again, mirrored."""
    y, x = np.mgrid[:120, :160].astype(np.float32)
    for name in ("pole", "fold"):
        t = TRANSFORMS[name]
        sx, valid = ops.warp(x, t, (400, 400), interpolation="linear")
        sy, _ = ops.warp(y, t, (400, 400), interpolation="linear")
        points = np.stack([sx[valid], sy[valid]], 1).astype(np.float64)
        orientation = np.linalg.det(t.jacobian(np.array([[79.5, 59.5]])))
        assert (np.linalg.det(t.jacobian(points)) * orientation > -1e-6).all()


# -- points -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [n for n in TRANSFORMS if n != "fold"])
def test_points(name):
    t = TRANSFORMS[name]
    points = np.random.default_rng(0).uniform(0, 40, (50, 2))
    moved = ops.warp_points(points, t)
    np.testing.assert_allclose(moved, t(points), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(ops.warp_points(moved, t, inverse=True), points, atol=1e-6)


# -- misuse -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "moving",
    [
        np.zeros((10, 10)),
        np.zeros((10, 10), bool),
        np.zeros((10, 10, 5), np.uint8),
        np.zeros((10, 10, 0), np.uint8),
        np.zeros((0, 10), np.uint8),
        np.zeros(10, np.uint8),
        [[1]],
    ],
)
def test_misuse_names_the_image(moving):
    with pytest.raises(InvalidInput, match=r"^moving: got"):
        ops.warp(moving, IDENTITY, (10, 10))


@pytest.mark.parametrize(
    "transform",
    [
        Transform("affine", [[1, 0, 0], [0, 0, 0], [0, 0, 1]]),
        Transform("quadratic", np.zeros((2, 6))),
        Transform("homography", [[1, 0, 0], [0, 1, 0], [-2 / 9, 0, 1]]),  # the pole crosses the centre, (4.5, 4.5)
        TRANSFORMS["quadratic"].inverse,
        np.eye(3),
        None,
    ],
)
def test_misuse_names_the_transform(transform):
    with pytest.raises(InvalidInput, match=r"^transform: got"):
        ops.warp(np.zeros((10, 10), np.uint8), transform, (10, 10))


def test_other_misuse():
    image = np.zeros((10, 10), np.uint8)
    with pytest.raises(InvalidInput, match=r"^interpolation: got 'lanczos'"):
        ops.warp(image, IDENTITY, (10, 10), interpolation="lanczos")
    with pytest.raises(InvalidInput, match=r"^size: got"):
        ops.warp(image, IDENTITY, (0, 10))
    with pytest.raises(TypeError):
        ops.warp(image, IDENTITY, (10, 10), border=0)
    with pytest.raises(InvalidInput, match=r"^points: got"):
        ops.warp_points(np.zeros((3, 3)), IDENTITY)
    with pytest.raises(InvalidInput, match=r"^transform: got"):
        ops.warp_points(np.zeros((3, 2)), Transform("affine", [[1, 0, 0], [0, 0, 0], [0, 0, 1]]), inverse=True)


def test_default_is_the_option_struct_s():
    moving = texture(20, 20)
    default = INTERPOLATIONS[_core.WARP_DEFAULTS["interpolation"]]
    np.testing.assert_array_equal(
        ops.warp(moving, TRANSFORMS["affine"], (20, 20)).image,
        ops.warp(moving, TRANSFORMS["affine"], (20, 20), interpolation=default).image,
    )


# -- determinism --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize("name", TRANSFORMS)
def test_threads_and_simd_levels_give_the_same_bits(name, interpolation):
    for dtype, channels in [(np.uint8, None), (np.uint8, 3), (np.uint16, None), (np.float32, 3), (np.uint8, 4)]:
        moving = texture(130, 150, dtype, channels)
        results = set()
        for level in (0, 1, 2, 3):
            _core.limit_simd_level(level)
            for threads in (1, 2, 3):
                got = ops.warp(moving, TRANSFORMS[name], (170, 110), interpolation=interpolation, threads=threads)
                results.add((got.image.tobytes(), got.valid.tobytes()))
        assert len(results) == 1, (dtype, channels)


DENSE = Transform("dense", np.random.default_rng(4).uniform(-9, 9, (6, 7, 2)), (10, 20, 260, 190))


@pytest.mark.parametrize("base", ["identity", "homography", "quadratic", "fold"])
def test_a_field_is_undone_before_the_base(base):
    torch = pytest.importorskip("torch")
    from fastretina.torch_path.warp import warp as twin

    moving = texture(150, 200, np.float32)
    scaled = Transform.from_matrix([[1.2, 0.1, 20], [-0.1, 1.1, 30]]) if base == "identity" else TRANSFORMS[base]
    got = ops.warp(moving, DENSE @ scaled, (280, 210))
    params = torch.from_numpy(np.array(scaled.params))
    image, valid = twin(
        torch.from_numpy(moving), scaled.kind, params, (280, 210), field=(DENSE.params, DENSE.rectangle)
    )
    assert (got.valid != valid.numpy()).mean() < 1e-3  # only where a position is on the very border
    both = got.valid & valid.numpy()
    assert both.any()
    assert np.abs(got.image - image.numpy())[both].max() < 4e-4  # 1e-4 px, times the steepest gradient


def test_a_steep_field_is_undone_too():
    control = np.zeros((9, 9, 2))
    control[3:6, 3:6] = 0.9 * 10, 0.5 * 10  # fixed-point steps alone diverge in places
    steep = Transform("dense", control, (20, 20, 100, 100))
    ramp = np.broadcast_to(np.arange(128, dtype=np.float32) / 128, (128, 128)).copy()
    image, valid = ops.warp(ramp, steep, (128, 128))
    xy = np.stack(np.meshgrid(np.arange(128.0), np.arange(128.0)), -1).reshape(-1, 2)
    expected = steep.inverse(xy)[:, 0].reshape(128, 128) / 128
    assert valid[8:-8, 8:-8].all()
    assert np.abs(image - expected)[8:-8, 8:-8].max() < 2e-6


def test_a_field_gives_the_same_bits_for_any_number_of_threads_and_simd_level():
    moving = texture(150, 200, channels=3)
    transform = DENSE @ TRANSFORMS["homography"]
    expected = ops.warp(moving, transform, (280, 210))
    for level in (0, 1, 2, 3):
        _core.limit_simd_level(level)
        for threads in (1, 2, 3):
            got = ops.warp(moving, transform, (280, 210), threads=threads)
            assert np.array_equal(got.image, expected.image)
            assert np.array_equal(got.valid, expected.valid)


@pytest.mark.parametrize(
    "transform", [DENSE.inverse, DENSE @ DENSE, IDENTITY @ shift(1, 2) @ DENSE, DENSE @ TRANSFORMS["quadratic"].inverse]
)
def test_other_composites_are_misuse(transform):
    with pytest.raises(InvalidInput, match="transform: got composite"):
        ops.warp(texture(20, 20), transform, (20, 20))
