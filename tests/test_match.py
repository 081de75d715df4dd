"""Rooms match and match_guided."""

import numpy as np
import pytest
from fastretina import _core, ops
from fastretina.errors import InvalidInput
from fastretina.transform import Transform
from reference import match as reference

PRECISIONS = ("f32", "bf16", "i8")
LEVELS = (0, 1, 2, 3)


@pytest.fixture(autouse=True)
def restore_level():
    yield
    _core.limit_simd_level(max(LEVELS))


def unit(rows):
    rows = np.asarray(rows, np.float32)
    return (rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)).astype(np.float32)


def random_sets(n, m, dims, seed=0, noise=0.6):
    """Two sets; half of the rows of the smaller one have a noisy copy in the other."""
    rng = np.random.default_rng([seed, n, m, dims])
    fixed, moving = unit(rng.standard_normal((n, dims))), unit(rng.standard_normal((m, dims)))
    copies = min(n, m) // 2
    at_fixed, at_moving = rng.permutation(n)[:copies], rng.permutation(m)[:copies]
    disturbance = noise / np.sqrt(dims) * rng.standard_normal((copies, dims))
    moving[at_moving] = unit(fixed[at_fixed] + disturbance)
    return fixed, moving


def tied_sets(n, m, dims, seed=0):
    """Rows drawn from few directions, so that most best scores occur several times, and a zero row."""
    rng = np.random.default_rng([seed, n, m, dims])
    directions = unit(rng.choice([-1, 0, 1], (6, dims)))
    directions[0] = 0
    return directions[rng.integers(0, 6, n)], directions[rng.integers(0, 6, m)]


def assert_equal(got, expected):
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


SIZES = [(1, 1, 1), (1, 5, 3), (5, 2, 16), (8, 48, 128), (9, 49, 17), (61, 97, 33), (150, 131, 130)]


# -- hand table ------------------------------------------------------------------------------------------


def test_hand_table():
    fixed = np.array([[1, 0], [0, 1], [0.6, 0.8], [0.8, 0.6]], np.float32)
    moving = np.array([[0, 1], [1, 0], [0.6, 0.8]], np.float32)
    found = ops.match(fixed, moving)
    # Row 3 wants moving 1 (0.8) less than moving 2 (0.96), which prefers row 2 (1.0): no match for it.
    np.testing.assert_array_equal(found.fixed, [0, 1, 2])
    np.testing.assert_array_equal(found.moving, [1, 0, 2])
    np.testing.assert_allclose(found.score, [1, 1, 1], atol=1e-7)
    assert found.fixed.dtype == found.moving.dtype == np.int32
    assert found.score.dtype == np.float32


def test_ties_go_to_the_lower_index():
    fixed = np.array([[1, 0], [1, 0], [0, 1]], np.float32)
    moving = np.array([[0, 1], [1, 0], [1, 0], [0, 1]], np.float32)
    found = ops.match(fixed, moving)
    assert list(zip(found.fixed, found.moving, strict=True)) == [(0, 1), (2, 0)]


def test_best_score_comes_first():
    fixed = np.array([[0.8, 0.6, 0], [0, 0, 1]], np.float32)
    moving = np.array([[1, 0, 0], [0, 0, 1]], np.float32)
    found = ops.match(fixed, moving)
    assert list(found.fixed) == [1, 0]
    assert list(found.score) == [1.0, np.float32(0.8)]


def test_min_similarity_is_inclusive():
    fixed = np.array([[0.8, 0.6], [-1, 0]], np.float32)
    moving = np.array([[1, 0], [-1, 0]], np.float32)
    kept = float(np.float32(0.8))
    assert len(ops.match(fixed, moving, min_similarity=kept).score) == 2
    assert len(ops.match(fixed, moving, min_similarity=kept + 1e-6).score) == 1


def test_ratio_by_hand():
    # Squared distances from row 0: 2 - 2 * 0.96 = 0.08 to the best, 2 - 2 * 0.8 = 0.4 to the second: ratio 0.447.
    fixed = np.array([[0.8, 0.6]], np.float32)
    moving = np.array([[1, 0], [0.6, 0.8]], np.float32)
    assert len(ops.match(fixed, moving, ratio=0.45).score) == 1
    assert len(ops.match(fixed, moving, ratio=0.44).score) == 0
    # The same sets exchanged: now the second best is a column's.
    assert len(ops.match(moving, fixed, ratio=0.45).score) == 1
    assert len(ops.match(moving, fixed, ratio=0.44).score) == 0


def test_ratio_without_a_second_passes_and_with_an_equal_one_fails():
    one = np.array([[1, 0]], np.float32)
    assert len(ops.match(one, one, ratio=0.1).score) == 1
    assert len(ops.match(one, np.repeat(one, 2, axis=0), ratio=0.999).score) == 0
    assert len(ops.match(np.repeat(one, 2, axis=0), one, ratio=0.999).score) == 0


def test_guided_by_hand():
    rows = np.array([[1, 0], [1, 0], [0, 1]], np.float32)
    fixed_points = np.array([[10, 10], [50, 10], [90, 10]], np.float32)
    moving_points = np.array([[45, 10], [6, 10], [81, 10]], np.float32)  # fixed - 5, - 4, - 9
    shift = Transform("similarity", [[1, 0, 5], [0, 1, 0], [0, 0, 1]])
    found = ops.match_guided(rows, rows, fixed_points, moving_points, shift, radius_px=2)
    assert list(zip(found.fixed, found.moving, strict=True)) == [(0, 1), (1, 0)]  # the third is 4 px off
    found = ops.match_guided(rows, rows, fixed_points, moving_points, shift, radius_px=4)
    assert list(zip(found.fixed, found.moving, strict=True)) == [(0, 1), (1, 0), (2, 2)]


# -- NumPy reference -------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [random_sets, tied_sets])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("options", [{}, {"ratio": 0.85}, {"min_similarity": 0.25}])
def test_reference(make, size, precision, options):
    fixed, moving = make(*size)
    expected = reference.match(fixed, moving, precision=precision, **options)
    for level in LEVELS:
        _core.limit_simd_level(level)
        assert_equal(ops.match(fixed, moving, precision=precision, **options), expected)


def screening_cases():
    """Sets large enough for f32 to be screened in bf16, with answers that bf16 cannot tell apart."""
    rng = np.random.default_rng(7)
    for n, m, dims in ((300, 257, 64), (261, 400, 97)):
        fixed, moving = random_sets(n, m, dims)
        yield fixed, moving
        centres = rng.standard_normal((40, dims))
        for spread in (0.0, 1e-6, 1e-3, 0.05):  # too many equals for a shortlist ... a few close to equal
            yield tuple(unit(centres[rng.integers(0, 40, k)] + spread * rng.standard_normal((k, dims))) for k in (n, m))
        few = moving.copy()
        few[::25] = fixed[5]  # more equals than a shortlist holds, but of few rows
        few[7::60] = 0
        yield fixed, few
        for far in (0.005, 0.3):  # the best comes when the shortlist has overflowed: close to the others, or far
            late = few.copy()
            late[::13] = unit(fixed[5] + far * unit(rng.standard_normal((len(late[::13]), dims))))
            late[-1] = fixed[5]
            yield fixed, late
        signs = unit(np.sign(rng.standard_normal((n, dims)))), unit(np.sign(rng.standard_normal((m, dims))))
        yield signs  # exact ties everywhere
        scale = np.float32(2.0) ** -rng.integers(0, 140, (1, dims)).astype(np.float32)
        yield unit(signs[0] * scale), unit(moving * scale)


@pytest.mark.parametrize("threads", [1, 3])
def test_screening_changes_nothing(threads):
    for fixed, moving in screening_cases():
        for a, b in ((fixed, moving), (moving, fixed), (np.tile(fixed, (8, 1)), moving)):  # the last: several chunks
            _core.limit_simd_level(max(LEVELS))
            screened = ops.match(a, b, threads=threads)
            _core.limit_simd_level(1)
            assert_equal(screened, ops.match(a, b))


def test_the_cases_hold_ties_and_rejections():
    fixed, moving = tied_sets(61, 97, 33)
    score = reference.similarity(fixed, moving)
    assert np.mean((score == score.max(axis=1, keepdims=True)).sum(axis=1) > 1) > 0.5
    fixed, moving = random_sets(150, 131, 130)
    counts = [len(ops.match(fixed, moving, **options).score) for options in ({}, {"ratio": 0.85})]
    assert counts[0] > counts[1] > 10


def test_bf16_of_tiny_elements():
    """Subnormal products never arise: elements below 2^-50 count as zero, so flushing hardware cannot differ."""
    rng = np.random.default_rng(3)
    scale = np.float32(2.0) ** rng.integers(-149, -1, (60, 64)).astype(np.float32)
    fixed, moving = (unit(np.c_[np.ones(60), scale * rng.standard_normal((60, 64))]) for _ in range(2))
    expected = reference.match(fixed, moving, precision="bf16")
    for level in LEVELS:
        _core.limit_simd_level(level)
        assert_equal(ops.match(fixed, moving, precision="bf16"), expected)


def guided_case(n=80, m=70, seed=0):
    fixed, moving = random_sets(n, m, 24, seed)
    rng = np.random.default_rng(seed)
    fixed_points = rng.uniform(0, 100, (n, 2)).astype(np.float32)
    moving_points = rng.uniform(0, 100, (m, 2)).astype(np.float32)
    return fixed, moving, fixed_points, moving_points


TRANSFORMS = [
    Transform.identity(),
    Transform("similarity", [[0.9, -0.2, 12], [0.2, 0.9, -7], [0, 0, 1]]),
    Transform("affine", [[0.9, -0.2, 12], [0.1, 1.1, -7], [0, 0, 1]]),
    Transform("homography", [[1, 0, 0], [0, 1, 0], [0.02, 0, -1]]),  # its pole, x = 50, crosses the points
    Transform("quadratic", [[3, 1, 0, 0, 1e-3, 0], [0, 0, 1, 1e-3, 0, 0]]),
]


@pytest.mark.parametrize("transform", TRANSFORMS, ids=lambda t: t.kind)
@pytest.mark.parametrize("radius", [1.0, 12.0, 500.0])
def test_guided_reference(transform, radius):
    case = guided_case()
    expected = reference.match_guided(*case, transform, radius_px=radius, min_similarity=-1)
    for level in LEVELS:
        _core.limit_simd_level(level)
        assert_equal(ops.match_guided(*case, transform, radius_px=radius, min_similarity=-1), expected)


def test_guided_reference_with_points_on_a_lattice():
    """Distances equal to the radius, points on cell borders, equal descriptors."""
    fixed, moving = tied_sets(100, 90, 9)
    lattice = np.stack(np.meshgrid(np.arange(10), np.arange(10)), axis=-1).reshape(-1, 2).astype(np.float32)
    case = fixed, moving, lattice, lattice[:90]
    for radius in (0.5, 1.0, 3.0, 5.0):
        expected = reference.match_guided(*case, Transform.identity(), radius_px=radius, min_similarity=-1)
        assert_equal(ops.match_guided(*case, Transform.identity(), radius_px=radius, min_similarity=-1), expected)


def test_guided_with_far_points_has_no_match():
    fixed, moving, fixed_points, moving_points = guided_case()
    away = Transform("similarity", [[1, 0, 1e12], [0, 1, -1e12], [0, 0, 1]])
    assert len(ops.match_guided(fixed, moving, fixed_points, moving_points, away).score) == 0


# -- torch twin ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("options", [{}, {"ratio": 0.85}, {"min_similarity": 0.25}])
def test_torch_twin(precision, options):
    torch = pytest.importorskip("torch")
    from fastretina.torch_path import match as twin

    for size in SIZES:
        fixed, moving = random_sets(*size)
        found = ops.match(fixed, moving, precision=precision, **options)
        other = twin.match(torch.from_numpy(fixed), torch.from_numpy(moving), precision=precision, **options)
        tolerance = 0 if precision == "i8" else size[2] * 2.0**-24
        ours = sorted(zip(found.fixed.tolist(), found.moving.tolist(), strict=True))
        assert ours == sorted(zip(other[0].tolist(), other[1].tolist(), strict=True))
        np.testing.assert_allclose(other[2].numpy(), found.score, rtol=0, atol=tolerance)


def test_torch_twin_with_ties():
    torch = pytest.importorskip("torch")
    from fastretina.torch_path import match as twin

    for size in SIZES:
        fixed, moving = tied_sets(*size)
        other = twin.match(torch.from_numpy(fixed), torch.from_numpy(moving), precision="i8")
        assert_equal(ops.match(fixed, moving, precision="i8"), other)


def test_torch_twin_guided():
    torch = pytest.importorskip("torch")
    from fastretina.torch_path import match as twin

    case = guided_case()
    for transform in TRANSFORMS:
        found = ops.match_guided(*case, transform)
        other = twin.match_guided(
            *(torch.from_numpy(x) for x in case), lambda p, t=transform: torch.from_numpy(t(p.numpy()))
        )
        np.testing.assert_array_equal(other[0], found.fixed)
        np.testing.assert_array_equal(other[1], found.moving)
        np.testing.assert_allclose(other[2], found.score, rtol=0, atol=24 * 2.0**-24)


def test_torch_defaults_are_those_of_the_core():
    pytest.importorskip("torch")
    from fastretina.torch_path import match as twin

    assert twin.match.__kwdefaults__ == pytest.approx(_core.MATCH_DEFAULTS)
    assert twin.match_guided.__kwdefaults__ == pytest.approx(_core.GUIDED_MATCH_DEFAULTS)


# -- properties ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", PRECISIONS)
def test_permuting_the_rows_permutes_the_matches(precision):
    fixed, moving = random_sets(120, 90, 40)
    order = np.random.default_rng(1).permutation(len(moving))
    before = ops.match(fixed, moving, precision=precision)
    after = ops.match(fixed, moving[order], precision=precision)
    assert_equal((after.fixed, order[after.moving], after.score), before)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_exchanging_the_sets_exchanges_the_matches(precision):
    fixed, moving = random_sets(120, 90, 40)
    there, back = (ops.match(*sets, precision=precision) for sets in ((fixed, moving), (moving, fixed)))
    there, back = (sorted(zip(*m, strict=True)) for m in (there, (back.moving, back.fixed, back.score)))
    assert there == back


@pytest.mark.parametrize("precision", PRECISIONS)
def test_padding_the_dimensions_with_zeros_changes_nothing(precision):
    fixed, moving = random_sets(70, 60, 37)
    padded = (np.pad(x, ((0, 0), (0, 11))) for x in (fixed, moving))
    assert_equal(ops.match(*padded, precision=precision), ops.match(fixed, moving, precision=precision))


def test_precisions_agree_on_clear_matches():
    fixed, moving = random_sets(300, 300, 128)
    sets = [set(zip(*ops.match(fixed, moving, precision=p, ratio=0.9)[:2], strict=True)) for p in PRECISIONS]
    assert len(sets[0]) >= 150
    for other in sets[1:]:
        assert len(sets[0] & other) / len(sets[0] | other) >= 0.98


def test_a_wide_radius_is_plain_matching():
    fixed, moving, fixed_points, moving_points = guided_case()
    guided = ops.match_guided(
        fixed, moving, fixed_points, moving_points, Transform.identity(), radius_px=1e4, min_similarity=-1
    )
    assert_equal(guided, ops.match(fixed, moving))


# -- misuse ----------------------------------------------------------------------------------------------

GOOD = unit(np.random.default_rng(0).standard_normal((4, 8)))
POINTS = np.zeros((4, 2), np.float32)


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("fixed", GOOD.tolist()),
        ("fixed", GOOD.astype(np.float64)),
        ("fixed", GOOD[0]),
        ("fixed", np.zeros((3, 0), np.float32)),
        ("fixed", 2 * GOOD),
        ("fixed", np.where(np.arange(8) == 3, np.nan, GOOD).astype(np.float32)),
        ("moving", np.where(np.arange(8) == 3, np.inf, GOOD).astype(np.float32)),
        ("moving", GOOD[:, :7] / np.linalg.norm(GOOD[:, :7], axis=1, keepdims=True)),
        ("precision", "f16"),
        ("min_similarity", 1.5),
        ("min_similarity", float("nan")),
        ("ratio", 0.0),
        ("ratio", 1.01),
        ("ratio", float("nan")),
    ],
)
def test_misuse_names_the_argument(argument, value):
    arguments = {"fixed": GOOD, "moving": GOOD, argument: value}
    with pytest.raises(InvalidInput, match=argument):
        ops.match(**arguments)


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("fixed", 2 * GOOD),
        ("moving", GOOD.astype(np.float64)),
        ("fixed_points", POINTS[:3]),
        ("fixed_points", POINTS.astype(np.float64)),
        ("moving_points", np.zeros((4, 3), np.float32)),
        ("moving_points", np.full((4, 2), np.nan, np.float32)),
        ("transform", "identity"),
        ("radius_px", 0.0),
        ("radius_px", float("inf")),
        ("min_similarity", -2.0),
    ],
)
def test_guided_misuse_names_the_argument(argument, value):
    arguments = {
        "fixed": GOOD,
        "moving": GOOD,
        "fixed_points": POINTS,
        "moving_points": POINTS,
        "transform": Transform.identity(),
        argument: value,
    }
    with pytest.raises(InvalidInput, match=argument):
        ops.match_guided(**arguments)


def test_unknown_options_are_errors():
    with pytest.raises(InvalidInput, match="ration: unknown option; did you mean 'ratio'"):
        ops.match(GOOD, GOOD, ration=0.8)
    with pytest.raises(InvalidInput, match="radius: unknown option; did you mean 'radius_px'"):
        ops.match_guided(GOOD, GOOD, POINTS, POINTS, Transform.identity(), radius=3)


# -- determinism -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("ratio", [1.0, 0.9])
@pytest.mark.parametrize("make", [random_sets, tied_sets])
def test_same_bits_for_every_thread_count_and_level(precision, ratio, make):
    fixed, moving = make(2300, 130, 33)  # more rows than one chunk
    expected = ops.match(fixed, moving, precision=precision, ratio=ratio)
    for threads in (2, 3):
        assert_equal(ops.match(fixed, moving, precision=precision, ratio=ratio, threads=threads), expected)
    for level in LEVELS[1:]:
        _core.limit_simd_level(level)
        assert_equal(ops.match(fixed, moving, precision=precision, ratio=ratio, threads=2), expected)


def test_many_columns_in_several_blocks():
    fixed, moving = random_sets(60, 1200, 260)  # packed rows exceed one cache block
    expected = reference.match(fixed, moving)
    for level in LEVELS[1:]:
        _core.limit_simd_level(level)
        assert_equal(ops.match(fixed, moving), expected)


def test_scratch_memory_stops_growing():
    session = _core.Session(1)
    fixed, moving = random_sets(300, 200, 64)
    sizes = []
    for _ in range(4):
        for precision in PRECISIONS:
            _core.match(session, fixed, moving, precision=precision, ratio=0.9)
        sizes.append(session.workspace_bytes)
    assert sizes[1] == sizes[2] == sizes[3]


# -- degenerate sizes ------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", range(6))
@pytest.mark.parametrize("m", range(6))
def test_few_rows(n, m):
    for dims in (1, 3, 16):
        fixed, moving = random_sets(n, m, dims)
        for precision in PRECISIONS:
            for ratio in (1.0, 0.9):
                expected = reference.match(fixed, moving, precision=precision, ratio=ratio)
                assert_equal(ops.match(fixed, moving, precision=precision, ratio=ratio), expected)
        points = np.arange(2.0 * max(n, m), dtype=np.float32).reshape(-1, 2)
        case = fixed, moving, points[:n], points[:m]
        assert_equal(ops.match_guided(*case, Transform.identity()), reference.match_guided(*case, Transform.identity()))
