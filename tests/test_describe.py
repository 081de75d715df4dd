"""Room describe: dense descriptors + key points -> unit rows."""

import numpy as np
import pytest
from fastretina import _core, ops
from fastretina.errors import InvalidInput
from reference.describe import describe as reference

TOLERANCE = 1e-6  # of unit rows: a few float32 roundings


@pytest.fixture(autouse=True)
def _all_levels():
    yield
    _core.limit_simd_level(3)


def random_map(dims, height, width, seed=0):
    return np.random.default_rng(seed).standard_normal((dims, height, width)).astype(np.float32)


def random_points(count, height, width, seed=1):
    points = np.random.default_rng(seed).uniform(-6, 6 + 4 * max(width, height), (count, 2))
    return points.astype(np.float32)


def memory_orders(dense):
    yield "DHW", dense
    yield "HWD", np.ascontiguousarray(dense.transpose(1, 2, 0)).transpose(2, 0, 1)
    yield "HDW", np.ascontiguousarray(dense.transpose(1, 0, 2)).transpose(1, 0, 2)
    wide = np.zeros((2 * dense.shape[0], dense.shape[1] + 3, 3 * dense.shape[2]), np.float32)
    wide[::2, 2:-1, ::3] = dense
    yield "sliced", wide[::2, 2:-1, ::3]
    yield "flipped", np.ascontiguousarray(dense[:, ::-1])[:, ::-1]


# -- hand table ---------------------------------------------------------------------------------------------------


def test_hand_table():
    # Cells (x, y): (0, 0) = (3, 4), (1, 0) = (0, 2); their centres are pixels 1.5 and 5.5.
    dense = np.array([[[3, 0]], [[4, 2]]], np.float32)
    xy = np.array([[1.5, 1.5], [5.5, 1.5], [-100, 7], [100, -7], [3.5, 0]], np.float32)
    expected = [[0.6, 0.8], [0, 1], [0.6, 0.8], [0, 1], np.array([1.5, 3]) / np.hypot(1.5, 3)]
    np.testing.assert_allclose(ops.describe(dense, xy), expected, atol=TOLERANCE)


def test_zero_row_stays_zero():
    dense = np.zeros((5, 2, 2), np.float32)
    dense[:, 0, 0] = 1e-14
    np.testing.assert_array_equal(ops.describe(dense, np.array([[1.5, 1.5]], np.float32)), np.zeros((1, 5)))


# -- NumPy reference ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dims", [1, 3, 15, 16, 17, 64, 128, 250])
def test_reference_in_every_memory_order(dims):
    dense, xy = random_map(dims, 9, 13), random_points(70, 9, 13)
    expected = reference(dense, xy)
    for name, view in memory_orders(dense):
        np.testing.assert_allclose(ops.describe(view, xy), expected, atol=TOLERANCE, err_msg=name)


def test_memory_orders_agree_bit_for_bit():
    dense, xy = random_map(128, 21, 33), random_points(300, 21, 33)
    rows = [ops.describe(view, xy).tobytes() for _, view in memory_orders(dense)]
    assert len(set(rows)) == 1


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 5), (5, 1), (2, 2), (40, 3)])
def test_degenerate_sizes(height, width):
    dense = random_map(16, height, width)
    for count in range(6):
        xy = random_points(count, height, width)
        np.testing.assert_allclose(ops.describe(dense, xy), reference(dense, xy), atol=TOLERANCE)


# -- torch twin ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dims", [7, 128])
def test_torch_twin(dims):
    torch = pytest.importorskip("torch")
    from fastretina.torch_path.describe import describe as twin

    dense, xy = random_map(dims, 12, 17), random_points(200, 12, 17)
    np.testing.assert_allclose(
        ops.describe(dense, xy), twin(torch.from_numpy(dense), torch.from_numpy(xy)).numpy(), atol=TOLERANCE
    )


# -- properties ---------------------------------------------------------------------------------------------------


def test_rows_have_length_one():
    rows = ops.describe(random_map(128, 20, 20), random_points(500, 20, 20))
    np.testing.assert_allclose(np.linalg.norm(rows.astype(np.float64), axis=1), 1, atol=TOLERANCE)


def test_permuting_points_permutes_rows():
    dense, xy = random_map(32, 20, 20), random_points(100, 20, 20)
    order = np.random.default_rng(3).permutation(100)
    np.testing.assert_array_equal(ops.describe(dense, xy[order]), ops.describe(dense, xy)[order])


def test_flipping_map_and_points_changes_nothing():
    dense, xy = random_map(32, 20, 24), np.random.default_rng(4).uniform(1.5, 70, (100, 2)).astype(np.float32)
    mirrored = np.stack([4 * 24 - 1 - xy[:, 0], xy[:, 1]], 1)
    np.testing.assert_allclose(
        ops.describe(dense, xy), ops.describe(np.ascontiguousarray(dense[:, :, ::-1]), mirrored), atol=1e-5
    )


def test_power_of_two_scale_changes_no_bit():
    dense, xy = random_map(128, 8, 8), random_points(50, 8, 8)
    np.testing.assert_array_equal(ops.describe(dense, xy), ops.describe(16 * dense, xy))


# -- misuse -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dense", "xy", "argument"),
    [
        (np.zeros((3, 4, 4)), np.zeros((1, 2), np.float32), "map"),
        (np.zeros((4, 4), np.float32), np.zeros((1, 2), np.float32), "map"),
        (np.zeros((0, 4, 4), np.float32), np.zeros((1, 2), np.float32), "map"),
        ([1.0], np.zeros((1, 2), np.float32), "map"),
        (np.zeros((3, 4, 4), np.float32), np.zeros((1, 2)), "xy"),
        (np.zeros((3, 4, 4), np.float32), np.zeros((1, 3), np.float32), "xy"),
        (np.zeros((3, 4, 4), np.float32), np.zeros(2, np.float32), "xy"),
        (np.zeros((3, 4, 4), np.float32), np.array([[0, np.nan]], np.float32), "xy"),
    ],
)
def test_misuse_names_the_argument(dense, xy, argument):
    with pytest.raises(InvalidInput, match=rf"^{argument}: got"):
        ops.describe(dense, xy)


def test_unknown_option():
    with pytest.raises(TypeError):
        ops.describe(random_map(2, 2, 2), random_points(1, 2, 2), stride=4)


# -- determinism --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dims", [20, 128])
def test_threads_and_simd_levels_give_the_same_bits(dims):
    dense, xy = random_map(dims, 30, 40), random_points(333, 30, 40)
    for _, view in memory_orders(dense):
        results = set()
        for level in (0, 1, 2, 3):
            _core.limit_simd_level(level)
            results |= {ops.describe(view, xy, threads=threads).tobytes() for threads in (1, 2, 3)}
        assert len(results) == 1
