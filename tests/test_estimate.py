"""Room estimate: hand table, reference, torch twin, properties, misuse, determinism, degenerate sizes."""

import inspect

import numpy as np
import pytest
from fastretina import _core, ops
from fastretina.errors import InvalidInput
from fastretina.transform import Transform
from reference import estimate as reference

SIZE = 640
KINDS = ("similarity", "affine", "homography", "quadratic")
GRID = np.stack(np.meshgrid(np.linspace(0, SIZE, 5), np.linspace(0, SIZE, 5)), -1).reshape(-1, 2)

A = np.array([[0.9, -0.3, 60.0], [0.3, 0.9, -20.0], [0, 0, 1]])
TRUTH = {
    "similarity": Transform("similarity", A),
    "affine": Transform("affine", A + np.array([[0.05, -0.04, 0], [0.02, -0.06, 0], [0, 0, 0]])),
    "homography": Transform("homography", A + np.array([[0, 0, 0], [0, 0, 0], [2e-4, -1e-4, 0]])),
    "quadratic": Transform("quadratic", [[30, 0.95, 0.04, 2e-5, -1e-5, 3e-5], [-9, 0.02, 1.03, 1e-5, 4e-5, -2e-5]]),
}


def scene(kind, n=200, share=0.4, noise=0.5, seed=0, informative=False):
    """fixed, moving (float32) and which pairs are right."""
    rng = np.random.default_rng(seed)
    moving = rng.uniform(0, SIZE, (n, 2)).astype(np.float32)
    fixed = TRUTH[kind](moving.astype(float)) + rng.normal(0, noise, (n, 2))
    right = np.zeros(n, bool)
    right[rng.permutation(n)[: round(n * share)]] = True
    fixed[~right] = rng.uniform(0, SIZE, ((~right).sum(), 2))
    if informative:
        order = np.argsort(-(right + rng.normal(0, 0.7, n)))
        fixed, moving, right = fixed[order], moving[order], right[order]
    return fixed.astype(np.float32), moving, right


def error(transform, kind):
    return np.linalg.norm(transform(GRID) - TRUTH[kind](GRID), axis=1).max()


def padded(transform):
    p = np.zeros(12)
    p[: transform.params.size] = transform.params.ravel()
    return p


# -- hand table -----------------------------------------------------------------------------------------------------


def test_two_pairs_make_a_similarity():
    # (x, y) -> 2 (-y, x) + (10, 20): a quarter turn, twice the size
    moving = np.array([[0, 0], [100, 0]], np.float32)
    fixed = np.array([[10, 20], [10, 220]], np.float32)
    found = ops.estimate(fixed, moving, kind="similarity")
    np.testing.assert_allclose(found.transform.params, [[0, -2, 10], [2, 0, 20], [0, 0, 1]], atol=1e-6)
    assert found.inlier.tolist() == [True, True]
    assert found.cost == pytest.approx(0, abs=1e-6)
    assert found.coverage == 1


def test_an_outlier_costs_the_squared_threshold():
    moving = np.array([[0, 0], [100, 0], [0, 100], [100, 100], [50, 50]], np.float32)
    fixed = moving + np.array([5, 7], np.float32)
    fixed[4] += 10
    found = ops.estimate(fixed, moving, kind="affine", threshold_px=2.0)
    np.testing.assert_allclose(found.transform.params, [[1, 0, 5], [0, 1, 7], [0, 0, 1]], atol=1e-5)
    assert found.inlier.tolist() == [True, True, True, True, False]
    assert found.cost == pytest.approx(4.0, abs=1e-5)
    assert found.coverage == pytest.approx(0.8)  # four corner cells of five that hold pairs


@pytest.mark.parametrize("kind", KINDS)
def test_minimal_exact_pairs(kind):
    moving = np.array([[20, 30], [600, 60], [560, 610], [40, 580], [300, 90], [330, 420]], np.float32)
    n = reference.MINIMAL_PAIRS[kind]
    fixed = TRUTH[kind](moving.astype(float)).astype(np.float32)
    found = ops.estimate(fixed[:n], moving[:n], kind=kind)
    assert found.transform.kind == kind
    assert found.inlier.all()
    assert error(found.transform, kind) < 0.1  # of float32 points, extrapolated to the corners


def test_a_strong_perspective_is_found():
    # Corners moved by half of the frame: no affine map resembles it.
    strong = Transform("homography", [[2.0, 0.4, 0], [0.1, 1.2, 0], [0.0016, 0.0002, 1]])
    rng = np.random.default_rng(0)
    moving = rng.uniform(0, SIZE, (80, 2)).astype(np.float32)
    fixed = strong(moving.astype(float)).astype(np.float32)
    fixed[40:] = rng.uniform(0, SIZE, (40, 2))
    found = ops.estimate(fixed, moving, kind="homography", sorted=False)
    assert found.inlier[:40].all()
    assert np.abs(found.transform(GRID) - strong(GRID)).max() < 0.1


# -- reference ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "n"), [("similarity", 60), ("affine", 22), ("homography", 13), ("quadratic", 11)])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_equals_the_exhaustive_reference(kind, n, seed):
    fixed, moving, right = scene(kind, n, share=0.5 if n > 15 else 0.85, noise=0.3, seed=seed)
    expected, inlier = reference.estimate(kind, fixed.astype(float), moving.astype(float), 3.0)
    found = ops.estimate(fixed, moving, kind=kind, sorted=False)
    np.testing.assert_array_equal(found.inlier, inlier)
    at = moving[right].astype(float)
    # The core's last fit stops at 1e-4 px, and steadies what bends by a weak ridge.
    np.testing.assert_allclose(found.transform(at), expected(at), atol=0.05 if kind in KINDS[2:] else 2e-3)


@pytest.mark.parametrize("repeat", [1, 3])  # 3: every pair thrice, so that samples and residuals tie
@pytest.mark.parametrize("kind", KINDS)
def test_reported_numbers(kind, repeat):
    fixed, moving, _ = scene(kind, seed=4)
    fixed, moving = np.tile(fixed, (repeat, 1)), np.tile(moving, (repeat, 1))
    found = ops.estimate(fixed, moving, kind=kind, sorted=False)
    mapped = found.transform(moving.astype(float))
    inlier, cost, rms, coverage = reference.numbers(mapped, fixed.astype(float), 3.0)
    np.testing.assert_array_equal(found.inlier, inlier)
    assert found.cost == pytest.approx(cost, abs=1e-7)
    assert found.rms_px == pytest.approx(rms, abs=1e-9)
    assert found.coverage == coverage


@pytest.fixture(name="torch")
def torch_on_one_thread():
    """The twin's many small operations gain nothing from threads, and starve where cores are shared."""
    torch = pytest.importorskip("torch")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield torch
    torch.set_num_threads(before)


# -- torch twin -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("kind", "n"), [(k, n) for k in KINDS for n in (60, 900)])
def test_torch_twin(torch, kind, n, weighted):
    from fastretina.torch_path.estimate import estimate

    fixed, moving, _ = scene(kind, n, seed=5, informative=True)
    weight = np.random.default_rng(5).uniform(0, 2, n).astype(np.float32) if weighted else None
    options = {"kind": kind, "sorted": weighted, "allow_mirror": n == 900, "seed": 3}
    native = ops.estimate(fixed, moving, weight, **options)
    tensors = [None if a is None else torch.from_numpy(a) for a in (fixed, moving, weight)]
    twin = estimate(*tensors, **options)
    assert (twin.kind, twin.iterations) == (native.transform.kind, native.iterations)
    np.testing.assert_array_equal(twin.inlier.numpy(), native.inlier)
    np.testing.assert_allclose(twin.params.numpy(), padded(native.transform), rtol=1e-9, atol=1e-9)
    assert twin.cost == pytest.approx(native.cost, abs=1e-6)
    assert twin.coverage == native.coverage


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cover", [1.0, 0.4])
def test_torch_twin_of_upgrade(torch, kind, cover):
    from fastretina.torch_path.upgrade import upgrade

    fixed, moving, start = guided(kind, cover=cover)
    native = ops.upgrade(fixed, moving, start, (SIZE, SIZE), (SIZE, SIZE))
    twin = upgrade(
        torch.from_numpy(fixed), torch.from_numpy(moving), "similarity", torch.from_numpy(padded(start)),
        (SIZE, SIZE), (SIZE, SIZE),
    )  # fmt: skip
    assert (twin.kind, twin.iterations) == (native.transform.kind, native.iterations)
    np.testing.assert_array_equal(twin.inlier.numpy(), native.inlier)
    np.testing.assert_allclose(twin.params.numpy(), padded(native.transform), rtol=1e-9, atol=1e-9)


def test_torch_defaults_are_the_cores(torch):
    from fastretina.torch_path.estimate import estimate
    from fastretina.torch_path.upgrade import upgrade

    for function, defaults in ((estimate, _core.ESTIMATE_DEFAULTS), (upgrade, _core.UPGRADE_DEFAULTS)):
        keywords = inspect.signature(function).parameters.values()
        assert {p.name: p.default for p in keywords if p.kind is p.KEYWORD_ONLY} == defaults


# -- properties -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sorted_", [False, True])
def test_finds_the_truth(kind, sorted_):
    fixed, moving, right = scene(kind, 300, share=0.25, informative=sorted_, seed=6)
    found = ops.estimate(fixed, moving, kind=kind, sorted=sorted_)
    assert (found.inlier & right).sum() >= 0.97 * right.sum()
    assert error(found.transform, kind) < 3  # at the corners, which the pairs hardly hold


@pytest.mark.parametrize("seed", range(10))
def test_seven_right_pairs_of_three_hundred(seed):
    fixed, moving, right = scene("similarity", 300, share=7 / 300, noise=1.0, seed=seed)
    found = ops.estimate(fixed, moving, kind="similarity", sorted=False)
    assert error(found.transform, "similarity") < 5
    assert (found.inlier & right).sum() >= 6


@pytest.mark.parametrize("kind", KINDS)
def test_translation_of_either_frame(kind):
    fixed, moving, _ = scene(kind, seed=7)
    found = ops.estimate(fixed, moving, kind=kind)
    # Shifts by a power of two keep float32 differences nearly exact.
    shifted = ops.estimate(fixed + np.float32(1024), moving - np.float32(512), kind=kind)
    np.testing.assert_array_equal(shifted.inlier, found.inlier)
    np.testing.assert_allclose(shifted.transform(GRID - 512), found.transform(GRID) + 1024, atol=0.02)


@pytest.mark.parametrize("kind", KINDS)
def test_permutation(kind):
    fixed, moving, _ = scene(kind, seed=8)
    order = np.random.default_rng(8).permutation(len(fixed))
    found = ops.estimate(fixed, moving, kind=kind, sorted=False)
    permuted = ops.estimate(fixed[order], moving[order], kind=kind, sorted=False)
    np.testing.assert_array_equal(permuted.inlier, found.inlier[order])
    np.testing.assert_allclose(permuted.transform(GRID), found.transform(GRID), atol=0.02)


@pytest.mark.parametrize("kind", KINDS)
def test_mirror_only_if_allowed(kind):
    fixed, moving, right = scene(kind, seed=9)
    mirrored = moving * np.array([-1, 1], np.float32) + np.array([SIZE, 0], np.float32)
    refused = ops.estimate(fixed, mirrored, kind=kind, max_iterations=4000)
    assert refused.inlier.sum() < 0.3 * right.sum()
    found = ops.estimate(fixed, mirrored, kind=kind, allow_mirror=True)
    assert (found.inlier & right).sum() >= 0.97 * right.sum()


def test_scale_limits():
    fixed, moving, right = scene("similarity", seed=10)
    assert ops.estimate(fixed, moving, min_scale=1.2, max_iterations=4000).inlier.sum() < 0.3 * right.sum()
    assert ops.estimate(fixed, moving, min_scale=0.9, max_scale=1.0).inlier.sum() >= 0.97 * right.sum()


def test_weights_decide_between_two_motions():
    rng = np.random.default_rng(11)
    moving = rng.uniform(0, SIZE, (100, 2)).astype(np.float32)
    fixed = moving.copy()
    fixed[:60] += np.float32(40)  # the larger group, of small weight
    weight = np.where(np.arange(100) < 60, 0.1, 1).astype(np.float32)
    assert ops.estimate(fixed, moving, sorted=False).inlier[:60].all()
    assert ops.estimate(fixed, moving, weight, sorted=False).inlier[60:].all()


def guided(kind, n=200, cover=1.0, seed=12):
    """Pairs as guided matching gives them: half right, the others within 15 px; and the similarity they came from."""
    rng = np.random.default_rng(seed)
    moving = rng.uniform(0, SIZE, (n, 2)) * [cover, 1]
    fixed = TRUTH[kind](moving) + rng.normal(0, 0.7, (n, 2))
    fixed[n // 2 :] = TRUTH[kind](moving[n // 2 :]) + rng.uniform(-15, 15, (n - n // 2, 2))
    fixed, moving = fixed.astype(np.float32), moving.astype(np.float32)
    return fixed, moving, ops.estimate(fixed, moving, threshold_px=6.0, sorted=False).transform


@pytest.mark.parametrize("kind", KINDS)
def test_upgrade_chooses_the_kind(kind):
    fixed, moving, start = guided(kind)
    found = ops.upgrade(fixed, moving, start, (SIZE, SIZE), (SIZE, SIZE))
    assert found.transform.kind == kind
    overlap = TRUTH[kind](GRID)
    inside = ((overlap >= 0) & (overlap <= SIZE)).all(1)
    assert np.linalg.norm(found.transform(GRID) - overlap, axis=1)[inside].max() < 3


@pytest.mark.parametrize("kind", KINDS[:3])
def test_upgrade_stops_at_max_kind(kind):
    fixed, moving, start = guided("quadratic")
    found = ops.upgrade(fixed, moving, start, (SIZE, SIZE), (SIZE, SIZE), max_kind=kind)
    assert KINDS.index(found.transform.kind) <= KINDS.index(kind)


@pytest.mark.parametrize("seed", range(20))
def test_upgrade_extrapolates_tamely(seed):
    # Pairs in the left quarter only, from a similarity: whatever is chosen must stay near it all over the frame.
    fixed, moving, start = guided("similarity", n=60, cover=0.25, seed=seed)
    found = ops.upgrade(fixed, moving, start, (SIZE, SIZE), (SIZE, SIZE))
    assert error(found.transform, "similarity") < 8


def test_upgrade_starts_from_identity():
    rng = np.random.default_rng(13)
    moving = rng.uniform(0, SIZE, (50, 2)).astype(np.float32)
    found = ops.upgrade(moving + np.float32(4), moving, Transform.identity(), (SIZE, SIZE), (SIZE, SIZE))
    np.testing.assert_allclose(found.transform.params, [[1, 0, 4], [0, 1, 4], [0, 0, 1]], atol=1e-4)


# -- misuse ---------------------------------------------------------------------------------------------------------


POINTS = np.zeros((5, 2), np.float32)


@pytest.mark.parametrize(
    ("arguments", "options", "name"),
    [
        ((POINTS.astype(float), POINTS), {}, "fixed_xy"),
        ((POINTS, POINTS[:4]), {}, "moving_xy"),
        ((POINTS, np.zeros((5, 3), np.float32)), {}, "moving_xy"),
        ((POINTS.ravel(), POINTS), {}, "fixed_xy"),
        ((POINTS, POINTS + np.float32(np.nan)), {}, "moving_xy"),
        ((POINTS + np.float32(np.inf), POINTS), {}, "fixed_xy"),
        ((POINTS, POINTS, np.zeros(4, np.float32)), {}, "weight"),
        ((POINTS, POINTS, np.full(5, -1, np.float32)), {}, "weight"),
        ((POINTS, POINTS, np.full(5, np.nan, np.float32)), {}, "weight"),
        ((POINTS, POINTS), {"kind": "projective"}, "kind"),
        ((POINTS, POINTS), {"threshold_px": 0.0}, "threshold_px"),
        ((POINTS, POINTS), {"confidence": 1.0}, "confidence"),
        ((POINTS, POINTS), {"max_iterations": 0}, "max_iterations"),
        ((POINTS, POINTS), {"min_scale": 3.0, "max_scale": 2.0}, "min_scale"),
        ((POINTS, POINTS), {"max_scale": np.inf}, "max_scale"),
    ],
)
def test_misuse_of_estimate(arguments, options, name):
    with pytest.raises(InvalidInput, match=name):
        ops.estimate(*arguments, **options)


def test_misuse_of_upgrade():
    similarity, size = TRUTH["similarity"], (SIZE, SIZE)
    with pytest.raises(InvalidInput, match="moving_size"):
        ops.upgrade(POINTS, POINTS, similarity, size, (0, 5))
    with pytest.raises(InvalidInput, match="min_gain"):
        ops.upgrade(POINTS, POINTS, similarity, size, size, min_gain=1.0)
    with pytest.raises(InvalidInput, match="max_kind"):
        ops.upgrade(POINTS, POINTS, similarity, size, size, max_kind="cubic")
    with pytest.raises(InvalidInput, match="transform"):
        ops.upgrade(POINTS, POINTS, "similarity", size, size)


def test_unknown_options_fail():
    with pytest.raises(InvalidInput, match="treshold_px: unknown option; did you mean 'threshold_px'"):
        ops.estimate(POINTS, POINTS, treshold_px=3.0)
    with pytest.raises(InvalidInput, match="treshold_px: unknown option; did you mean 'threshold_px'"):
        ops.upgrade(POINTS, POINTS, TRUTH["similarity"], (9, 9), (9, 9), treshold_px=3.0)


# -- determinism ----------------------------------------------------------------------------------------------------


def bits(found):
    return (None if found.transform is None else found.transform.params.tobytes(), found.inlier.tobytes(), *found[2:])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n", [61, 1503])
def test_same_bits_for_threads_and_instruction_sets(kind, n):
    fixed, moving, _ = scene(kind, n, share=0.15, seed=14)
    weight = np.random.default_rng(14).uniform(0, 1, n).astype(np.float32)
    start = ops.estimate(fixed, moving, kind="similarity", threshold_px=20.0).transform

    def everything(threads):
        return (
            bits(ops.estimate(fixed, moving, weight, kind=kind, max_iterations=20000, threads=threads)),
            bits(ops.upgrade(fixed, moving, start, (SIZE, SIZE), (SIZE, SIZE), weight, threads=threads)),
        )

    expected = everything(1)
    assert everything(2) == expected
    assert everything(3) == expected
    try:
        for level in range(4):
            _core.limit_simd_level(level)
            assert everything(1) == expected
    finally:
        _core.limit_simd_level(3)


def test_seeds_draw_other_samples_and_agree():
    fixed, moving, _ = scene("homography", seed=15)
    found = [ops.estimate(fixed, moving, kind="homography", seed=seed) for seed in (0, 1, 2**64 - 1)]
    for other in found[1:]:
        np.testing.assert_array_equal(other.inlier, found[0].inlier)


# -- degenerate -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n", range(6))
def test_few_pairs(kind, n):
    moving = np.random.default_rng(n).uniform(0, SIZE, (n, 2)).astype(np.float32)
    fixed = TRUTH["similarity"](moving.astype(float)).astype(np.float32)
    found = ops.estimate(fixed, moving, kind=kind, max_iterations=2000)
    assert found.inlier.shape == (n,)
    if n < reference.MINIMAL_PAIRS[kind]:
        assert found.transform is None
        assert found.iterations == 0
    upgraded = ops.upgrade(fixed, moving, TRUTH["similarity"], (SIZE, SIZE), (SIZE, SIZE))
    assert (upgraded.transform is None) == (n < 2)


@pytest.mark.parametrize("kind", KINDS[1:])
def test_points_on_a_line_hold_no_plane(kind):
    t = np.linspace(0, SIZE, 40, dtype=np.float32)
    line = np.stack([t, 0.5 * t], 1)
    assert ops.estimate(line, line, kind=kind, max_iterations=2000).transform is None


@pytest.mark.parametrize("kind", KINDS)
def test_one_place_holds_nothing(kind):
    here = np.full((20, 2), 7, np.float32)
    assert ops.estimate(here, here, kind=kind, max_iterations=2000).transform is None


@pytest.mark.parametrize("kind", KINDS)
def test_no_weight_no_answer(kind):
    fixed, moving, _ = scene(kind)
    nothing = np.zeros(len(fixed), np.float32)
    assert ops.estimate(fixed, moving, nothing, kind=kind, max_iterations=2000).transform is None


def test_nothing_grows_after_warm_up():
    fixed, moving, _ = scene("homography", 1000)
    session = _core.Session(1)
    run = lambda: _core.estimate(session, fixed, moving, None, kind="homography")  # noqa: E731
    run()
    held = session.workspace_bytes
    run()
    assert session.workspace_bytes == held
