"""The Transform value: hand table, properties, exactness of composition and JSON, misuse."""

import json
import pickle

import numpy as np
import pytest
from fastretina import InvalidInput, Transform
from fastretina.transform import MATRIX_KINDS

SIMILARITY = Transform("similarity", [[0.0, -2.0, 3.0], [2.0, 0.0, 5.0], [0, 0, 1]])
AFFINE = Transform("affine", [[1.1, 0.2, -3.0], [0.05, 0.9, 7.0], [0, 0, 1]])
HOMOGRAPHY = Transform("homography", [[1.02, 0.1, -4.0], [-0.08, 0.97, 6.0], [1e-5, -2e-5, 1]])
QUADRATIC = Transform("quadratic", [[3, 1.01, 0.02, 1e-5, 2e-5, -1e-5], [5, -0.03, 0.98, 1e-5, -2e-5, 2e-5]])
CONTROL = np.random.default_rng(3).uniform(-12, 12, (5, 6, 2))
DENSE = Transform("dense", CONTROL, (100, 80, 600, 500))
EVERY_KIND = [
    Transform.identity(),
    SIMILARITY,
    AFFINE,
    HOMOGRAPHY,
    QUADRATIC,
    HOMOGRAPHY @ QUADRATIC,
    QUADRATIC.inverse,
    DENSE,
    DENSE.inverse,
    DENSE @ HOMOGRAPHY,
]
IDS = [
    *("identity", "similarity", "affine", "homography", "quadratic", "composite", "inverse"),
    *("dense", "dense inverse", "dense homography"),
]


@pytest.fixture
def points() -> np.ndarray:
    return np.random.default_rng(0).uniform(0, 800, (200, 2))


@pytest.mark.parametrize(
    ("transform", "point", "mapped"),
    [
        (Transform.identity(), (4, 7), (4, 7)),
        (SIMILARITY, (1, 0), (3, 7)),
        (SIMILARITY, (0, 1), (1, 5)),
        (Transform.from_matrix([[-1, 0, 99], [0, 1, 0]]), (10, 20), (89, 20)),  # mirrored
        (Transform("homography", [[1, 0, 0], [0, 1, 0], [0.5, 0, 1]]), (2, 8), (1, 4)),
        (Transform("quadratic", [[1, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0]]), (3, 5), (1, 0)),
        # one coefficient at a time: 1, x, y, x^2, xy, y^2 at (2, 3)
        (Transform("quadratic", [[1, 10, 100, 0, 0, 0], [0, 0, 0, 1, 10, 100]]), (2, 3), (321, 964)),
    ],
)
def test_hand_table(transform: Transform, point: tuple, mapped: tuple) -> None:
    assert transform(point).tolist() == list(mapped)
    assert transform([point]).tolist() == [list(mapped)]


def bump(at: float) -> float:
    """The cubic B-spline, written out from its definition."""
    t = abs(at)
    return (4 - 6 * t**2 + 3 * t**3) / 6 if t < 1 else max(0.0, 2 - t) ** 3 / 6


def test_a_dense_map_by_hand() -> None:
    control = np.zeros((3, 3, 2))
    control[1, 1] = 9, -4.5
    t = Transform("dense", control, (0, 0, 20, 40))  # steps of 10 and 20 px around (10, 20)
    assert t([10, 20]) == pytest.approx([10 + 9 * 4 / 9, 20 - 4.5 * 4 / 9])  # two thirds along each axis
    assert t([20, 20]) == pytest.approx([20 + 9 * (1 / 6) * (2 / 3), 20 - 4.5 * (1 / 6) * (2 / 3)])
    assert t([10, 40]) == pytest.approx([10 + 9 * (2 / 3) * (1 / 6), 40 - 4.5 * (2 / 3) * (1 / 6)])
    for outside in ((30, 20), (-10, 20), (10, 60), (10, -20), (1e6, 20), (-1e6, -1e6)):  # two steps away and beyond
        assert t(outside).tolist() == list(outside)


def test_a_dense_map_is_the_sum_of_its_splines(points: np.ndarray) -> None:
    expected = points.copy()
    for j in range(5):
        for i in range(6):
            centre = (100 + 100 * i, 80 + 105 * j)
            weight = [bump((x - centre[0]) / 100) * bump((y - centre[1]) / 105) for x, y in points]
            expected += np.outer(weight, CONTROL[j, i])
    np.testing.assert_allclose(DENSE(points), expected, atol=1e-12)


def test_a_dense_map_is_continuous_where_it_fades(points: np.ndarray) -> None:
    edge = np.stack([np.full(50, 100 - 2 * 100.0), np.linspace(0, 600, 50)], axis=1)  # the end of its support
    assert np.abs(DENSE(edge) - edge).max() == 0
    near = edge + np.array([0.1, 0])
    assert np.abs(DENSE(near) - near).max() < 1e-7  # it starts as a cube
    np.testing.assert_allclose(DENSE.jacobian(near), np.broadcast_to(np.eye(2), (50, 2, 2)), atol=1e-5)


@pytest.mark.parametrize("t", EVERY_KIND, ids=IDS)
def test_inverse_brings_points_back(t: Transform, points: np.ndarray) -> None:
    np.testing.assert_allclose(t.inverse(t(points)), points, atol=1e-8)
    np.testing.assert_allclose(t.inverse.inverse(points), t(points), atol=1e-8)
    if t.kind in MATRIX_KINDS:
        assert t.inverse.kind == t.kind
    np.testing.assert_allclose((t.inverse @ t)(points), points, atol=1e-8)


@pytest.mark.parametrize("t", EVERY_KIND, ids=IDS)
def test_jacobian_is_the_derivative(t: Transform, points: np.ndarray) -> None:
    h = 1e-3
    by_x, by_y = ((t(points + step) - t(points - step)) / (2 * h) for step in np.diag([h, h]))
    np.testing.assert_allclose(t.jacobian(points), np.stack([by_x, by_y], axis=-1), atol=1e-7)
    assert t.jacobian(points[0]).shape == (2, 2)


@pytest.mark.parametrize("a", EVERY_KIND, ids=IDS)
@pytest.mark.parametrize("b", EVERY_KIND, ids=IDS)
def test_product_is_first_b_then_a(a: Transform, b: Transform, points: np.ndarray) -> None:
    np.testing.assert_allclose((a @ b)(points), a(b(points)), rtol=0, atol=1e-7)


def test_products_stay_exact_kinds_where_they_can() -> None:
    assert (SIMILARITY @ SIMILARITY).kind == "similarity"
    assert (AFFINE @ SIMILARITY).kind == "affine"
    assert (AFFINE @ HOMOGRAPHY).kind == "homography"
    assert (AFFINE @ QUADRATIC).kind == (QUADRATIC @ AFFINE).kind == "quadratic"
    assert (HOMOGRAPHY @ QUADRATIC).kind == (QUADRATIC @ QUADRATIC).kind == "composite"
    assert QUADRATIC.inverse @ QUADRATIC == Transform.identity()
    assert QUADRATIC.inverse.inverse == QUADRATIC
    assert (DENSE @ DENSE).kind == (DENSE @ SIMILARITY).kind == "composite"
    assert DENSE.inverse @ DENSE == Transform.identity()
    assert DENSE.inverse.inverse == DENSE
    assert [p.transform.kind for p in (DENSE @ AFFINE @ SIMILARITY).parts] == ["dense", "affine"]
    # neighbours inside a chain are multiplied too
    assert [p.transform.kind for p in (HOMOGRAPHY @ AFFINE @ QUADRATIC).parts] == ["homography", "quadratic"]


def test_products_are_associative(points: np.ndarray) -> None:
    left, right = (HOMOGRAPHY @ QUADRATIC) @ AFFINE, HOMOGRAPHY @ (QUADRATIC @ AFFINE)
    np.testing.assert_allclose(left(points), right(points), atol=1e-9)


@pytest.mark.parametrize("t", EVERY_KIND, ids=IDS)
def test_json_and_pickle_are_exact(t: Transform) -> None:
    rng = np.random.default_rng(1)
    if t.kind == "quadratic":
        t = Transform("quadratic", t.params * rng.uniform(0.9, 1.1, (2, 6)))  # all 53 bits in use
    for copy in (Transform.from_json(t.to_json()), pickle.loads(pickle.dumps(t)), Transform.from_dict(t.to_dict())):
        assert copy == t
        assert hash(copy) == hash(t)
        assert copy.params.tobytes() == t.params.tobytes()
    assert json.loads(t.to_json())["direction"] == "moving_to_fixed"


def test_from_matrix_finds_the_most_special_kind() -> None:
    assert Transform.from_matrix(np.eye(3)).kind == "identity"
    assert Transform.from_matrix(SIMILARITY.params[:2]).kind == "similarity"
    assert Transform.from_matrix([[1, 0, 0], [0, -1, 5]]).kind == "similarity"  # mirrored
    assert Transform.from_matrix(AFFINE.params * 2) == Transform("affine", AFFINE.params)
    assert Transform.from_matrix(HOMOGRAPHY.params * 3).params[2, 2] == 1
    assert Transform.from_matrix(np.eye(3), kind="homography").kind == "homography"


def test_values_are_immutable() -> None:
    with pytest.raises(AttributeError, match="immutable"):
        SIMILARITY.kind = "affine"
    with pytest.raises(ValueError, match="read-only"):
        SIMILARITY.params[0, 0] = 1
    source = np.eye(3)
    t = Transform("homography", source)
    source[0, 2] = 9
    assert t.params[0, 2] == 0


def test_equality() -> None:
    assert Transform("affine", np.eye(3)) != Transform("homography", np.eye(3))
    assert Transform("affine", [[1, 0, -0.0], [0, 1, 0], [0, 0, 1]]) == Transform("affine", np.eye(3))
    assert SIMILARITY != "similarity"
    assert Transform("dense", CONTROL, (100, 80, 600, 500)) == DENSE
    assert Transform("dense", CONTROL, (100, 80, 600, 501)) != DENSE
    assert Transform("dense", CONTROL.reshape(6, 5, 2), (100, 80, 600, 500)) != DENSE


def test_points_without_an_image_are_not_finite() -> None:
    pole = Transform("homography", [[1, 0, 0], [0, 1, 0], [0.5, 0, 1]])
    assert not np.isfinite(pole([[-2.0, 1.0]])).any()
    never = Transform("quadratic", [[1, 0, 0, 1, 0, 0], [0, 0, 1, 0, 0, 0]])  # x' = 1 + x^2 is never 0
    assert np.isnan(never.inverse([0.0, 0.0])).all()


def test_degenerate_counts() -> None:
    assert AFFINE(np.zeros((0, 2))).shape == (0, 2)
    assert QUADRATIC.inverse(np.zeros((0, 2))).shape == (0, 2)
    assert AFFINE([]).shape == (0, 2)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Transform("projective", np.eye(3)), "kind: got 'projective'"),
        (lambda: Transform("dense", np.zeros((3, 3)), (0, 0, 1, 1)), r"needs \(rows, columns, 2\)"),
        (lambda: Transform("dense", np.zeros((1, 3, 2)), (0, 0, 1, 1)), "2 or more"),
        (lambda: Transform("dense", np.zeros((3, 3, 2))), "rectangle: got None"),
        (lambda: Transform("dense", np.zeros((3, 3, 2)), (0, 0, 0, 1)), "x0 < x1"),
        (lambda: Transform("dense", np.zeros((3, 3, 2)), (0, 0, np.inf, 1)), "rectangle: NaN or infinity"),
        (lambda: Transform("dense", np.diag([0, 99, 0])[..., None] * [1, 0], (0, 0, 20, 20)), "field folds"),
        (lambda: Transform("affine", np.eye(3), (0, 0, 1, 1)), "only a dense transform has one"),
        (lambda: Transform("composite", []), "composite is made by"),
        (lambda: Transform("affine", np.eye(2)), r"needs \(3, 3\)"),
        (lambda: Transform("quadratic", np.eye(3)), r"needs \(2, 6\)"),
        (lambda: Transform("affine", [[np.nan] * 3] * 3), "NaN"),
        (lambda: Transform("affine", [["a"] * 3] * 3), "not an array of numbers"),
        (lambda: Transform("similarity", AFFINE.params), "no similarity, but a affine"),
        (lambda: Transform("affine", HOMOGRAPHY.params), "no affine"),
        (lambda: Transform.from_matrix(np.eye(4)), "matrix: got shape"),
        (lambda: AFFINE([[1.0, 2.0, 3.0]]), "points: got shape"),
        (lambda: AFFINE([[np.nan, 0.0]]), "points: NaN"),
        (lambda: Transform("affine", np.diag([0.0, 0.0, 1.0])).inverse, "singular"),
        (lambda: Transform.from_json("{"), "not JSON"),
        (lambda: Transform.from_json("[]"), "got list"),
        (lambda: Transform.from_json("{}"), "'kind' is missing"),
        (lambda: Transform.from_json('{"kind": "affine"}'), "'parameters' is missing"),
        (lambda: Transform.from_json('{"kind": "warp", "parameters": []}'), "kind: got 'warp'"),
        (lambda: Transform.from_json('{"kind": "composite"}'), "parts"),
        (lambda: Transform.from_json('{"transform": null, "status": "no_content"}'), "refused.*no_content"),
        (lambda: Transform.from_dict(AFFINE.to_dict() | {"direction": "fixed_to_moving"}), "direction"),
    ],
)
def test_misuse_names_what_is_wrong(make, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        make()
