"""core/transform.h against NumPy."""

import numpy as np
import pytest
from fastretina import _core
from fastretina.errors import InvalidInput

IDENTITY, SIMILARITY, AFFINE, HOMOGRAPHY, QUADRATIC = range(5)


def matrix(*rows):
    return np.array([*np.ravel(rows), 0, 0, 0], np.float64)


def quadratic(*rows):
    return np.array(rows, np.float64).ravel()


CASES = [
    (IDENTITY, matrix(np.eye(3))),
    (SIMILARITY, matrix([0.8, -0.6, 3], [0.6, 0.8, -7], [0, 0, 1])),
    (AFFINE, matrix([1.2, 0.1, -7.3], [-0.2, 0.8, 9.9], [0, 0, 1])),
    (HOMOGRAPHY, matrix([1.1, 0.1, -5.2], [-0.1, 0.9, 6.1], [1e-4, -2e-4, 1])),
    (QUADRATIC, quadratic([2.1, 1.05, 0.02, 1e-4, -5e-5, 2e-5], [-3.2, -0.03, 0.97, 3e-5, 8e-5, -1e-4])),
]
POINTS = np.random.default_rng(0).uniform(-50, 300, (40, 2))


def apply_numpy(kind, p, points):
    x, y = points.T
    if kind == QUADRATIC:
        return np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], 1) @ p.reshape(2, 6).T
    u, v, w = p[:9].reshape(3, 3) @ np.stack([x, y, np.ones_like(x)])
    return np.stack([u / w, v / w], 1)


def test_apply_by_hand():
    np.testing.assert_array_equal(
        _core.transform_apply(AFFINE, matrix([2, 0, 1], [0, 3, -1], [0, 0, 1]), np.array([[1.0, 1], [0, 0]])),
        [[3, 2], [1, -1]],
    )
    p = quadratic([1, 2, 3, 4, 5, 6], [6, 5, 4, 3, 2, 1])
    np.testing.assert_array_equal(
        _core.transform_apply(QUADRATIC, p, np.array([[1.0, 2.0]])), [[1 + 2 + 6 + 4 + 10 + 24, 6 + 5 + 8 + 3 + 4 + 4]]
    )


@pytest.mark.parametrize(("kind", "p"), CASES)
def test_apply(kind, p):
    np.testing.assert_allclose(_core.transform_apply(kind, p, POINTS), apply_numpy(kind, p, POINTS), rtol=1e-12)


@pytest.mark.parametrize(("kind", "p"), CASES)
def test_jacobian_is_the_derivative(kind, p):
    step = 1e-4
    for axis in (0, 1):
        delta = np.eye(2)[axis] * step
        slope = (apply_numpy(kind, p, POINTS + delta) - apply_numpy(kind, p, POINTS - delta)) / (2 * step)
        np.testing.assert_allclose(_core.transform_jacobian(kind, p, POINTS)[:, :, axis], slope, atol=1e-7)


@pytest.mark.parametrize(("kind", "p"), CASES[:4])
def test_invert_matrix(kind, p):
    back_kind, back = _core.transform_invert(kind, p)
    assert back_kind == kind
    inverse = np.linalg.inv(p[:9].reshape(3, 3))
    np.testing.assert_allclose(back[:9].reshape(3, 3), inverse / inverse[2, 2], rtol=1e-12, atol=1e-12)
    np.testing.assert_array_equal(back[9:], 0)


def test_invert_refuses_what_has_no_inverse_matrix():
    assert _core.transform_invert(*CASES[4]) is None
    assert _core.transform_invert(AFFINE, matrix([1, 2, 0], [2, 4, 0], [0, 0, 1])) is None


@pytest.mark.parametrize(("kind", "p"), CASES)
def test_invert_points(kind, p):
    targets = apply_numpy(kind, p, POINTS)
    np.testing.assert_allclose(_core.transform_invert_points(kind, p, targets, targets), POINTS, atol=1e-6)


def test_invert_points_gives_nan_beyond_a_fold():
    p = quadratic([0, 1, 0, -0.01, 0, 0], [0, 0, 1, 0, 0, 0])  # x - x^2 / 100 never exceeds 25
    got = _core.transform_invert_points(QUADRATIC, p, np.array([[24.0, 5], [26.0, 5]]), np.zeros((2, 2)))
    np.testing.assert_allclose(got[0], [40, 5], atol=1e-6)
    assert np.isnan(got[1]).all()


@pytest.mark.parametrize("outer", range(5))
@pytest.mark.parametrize("inner", range(5))
def test_compose(outer, inner):
    a, b = CASES[outer], CASES[inner]
    product = _core.transform_compose(*a, *b)
    if outer == inner == QUADRATIC or {outer, inner} == {QUADRATIC, HOMOGRAPHY}:
        assert product is None
        return
    assert product[0] == max(outer, inner)
    expected = apply_numpy(*a, apply_numpy(*b, POINTS))
    np.testing.assert_allclose(_core.transform_apply(*product, POINTS), expected, rtol=1e-9, atol=1e-9)


def test_scaling():
    kind, p = _core.transform_scaling(0.5, -0.25, 2)
    assert kind == SIMILARITY
    np.testing.assert_array_equal(_core.transform_apply(kind, p, np.array([[10.0, 20]])), [[4.75, 12]])


def test_no_points():
    assert _core.transform_apply(*CASES[1], np.zeros((0, 2))).shape == (0, 2)
    assert _core.transform_invert_points(*CASES[4], np.zeros((0, 2)), np.zeros((0, 2))).shape == (0, 2)


def test_point_on_the_pole_is_infinite():
    got = _core.transform_apply(HOMOGRAPHY, matrix([1, 0, 0], [0, 1, 0], [-0.5, 0, 1]), np.array([[2.0, 1]]))
    assert not np.isfinite(got).any()


@pytest.mark.parametrize(
    ("kind", "p", "points", "argument"),
    [
        (5, CASES[0][1], POINTS, "kind"),
        (-1, CASES[0][1], POINTS, "kind"),
        (0, np.zeros(9), POINTS, "params"),
        (0, np.full(12, np.nan), POINTS, "params"),
        (0, CASES[0][1], POINTS[:, :1].copy(), "points"),
        (0, CASES[0][1], POINTS.astype(np.float32), "points"),
        (0, CASES[0][1], POINTS[0], "points"),
    ],
)
def test_misuse_names_the_argument(kind, p, points, argument):
    with pytest.raises(InvalidInput, match=rf"^{argument}: got"):
        _core.transform_apply(kind, p, points)
