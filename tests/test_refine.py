"""Room refine: vessel ridges, their alignment, and its score."""

import numpy as np
import pytest
from fastretina import _core, ops
from fastretina.errors import InvalidInput
from fastretina.transform import Transform
from reference import refine as reference


def vessels(height=160, width=192, seed=0, count=14, polarity=1.0, warp=None):
    """Smooth dark or bright curves; `warp` maps pixels of this image to pixels of the scene that every call shares."""
    rng = np.random.default_rng(seed)
    ys, xs = np.mgrid[0:height, 0:width].astype(float)
    if warp is not None:
        scene = warp(np.column_stack([xs.ravel(), ys.ravel()]))
        xs, ys = scene[:, 0].reshape(height, width), scene[:, 1].reshape(height, width)
    plane = np.zeros((height, width))
    for _ in range(count):
        angle, offset = rng.uniform(0, np.pi), rng.uniform(-60, 60)
        bend, phase, wide = rng.uniform(0, 8), rng.uniform(0, 6), rng.uniform(1.2, 2.5)
        along = (xs - 96) * np.cos(angle) + (ys - 80) * np.sin(angle)
        across = -(xs - 96) * np.sin(angle) + (ys - 80) * np.cos(angle) - offset - bend * np.sin(along / 17 + phase)
        plane += np.exp(-(across**2) / (2 * wide**2))
    return (polarity * (plane - plane.mean())).astype(np.float32)


ALL = np.ones((160, 192), np.uint8)
TRUTH = {
    "similarity": Transform.from_matrix([[0.97, -0.08, 9.3], [0.08, 0.97, -5.2]]),
    "mirror": Transform.from_matrix([[-0.99, 0.05, 185.2], [0.05, 0.99, -3.4]]),
    "affine": Transform.from_matrix([[1.04, 0.03, -4.3], [-0.05, 0.97, 6.1]]),
    "homography": Transform.from_matrix([[1.02, 0.04, -3.1], [-0.03, 0.99, 2.2], [1.5e-4, -1e-4, 1]]),
    "quadratic": Transform("quadratic", [[3.1, 1.0, 0.03, 2e-4, -1e-4, 5e-5], [-2.2, -0.02, 1.01, 5e-5, 1e-4, -2e-4]]),
}
KINDS = {"mirror": "similarity"}


def grid(step=16):
    xs, ys = np.meshgrid(np.arange(16.0, 180, step), np.arange(16.0, 150, step))
    return np.column_stack([xs.ravel(), ys.ravel()])


def pair(truth):
    """FIXED is the scene; a MOVING pixel shows what the scene has where `truth` puts it, in the other polarity."""
    return ops.ridges(vessels(), ALL), ops.ridges(vessels(polarity=-1.0, warp=truth), ALL)


def off(a, b, points=None):
    return np.linalg.norm(a(grid() if points is None else points) - b(grid() if points is None else points), axis=1)


def nudged(truth, x=2.5, y=-1.5, spin=0.01):
    start = truth.params.copy()
    if truth.kind == "quadratic":
        start[:, 0] += [x, y]
        return Transform("quadratic", start)
    turn = (
        np.array([[1, -spin, x], [spin, 1, y], [0, 0, 1]])
        if truth.kind != "similarity"
        else np.array([[np.cos(spin), -np.sin(spin), x], [np.sin(spin), np.cos(spin), y], [0, 0, 1]])
    )
    return Transform(truth.kind, turn @ start)


# -- hand table ---------------


@pytest.mark.parametrize(("angle", "c2", "s2"), [(0, 1, 0), (90, -1, 0), (45, 0, 1), (135, 0, -1)])
@pytest.mark.parametrize("polarity", [1, -1])
def test_a_line_has_the_direction_across_it(angle, c2, s2, polarity):
    ys, xs = np.mgrid[0:64, 0:64] - 32.0
    across = xs * np.cos(np.radians(angle)) + ys * np.sin(np.radians(angle))
    plane = (polarity * np.exp(-(across**2) / 8)).astype(np.float32)
    value, inside = reference.unpack(ops.ridges(plane).full)
    assert inside[32, 32]
    assert not inside[3, 32]
    strength = value[32, 32, 0]
    assert strength > 0.2
    np.testing.assert_allclose(value[32, 32, 1:] / strength, [c2, s2], atol=0.03)


def test_a_blob_is_no_ridge():
    ys, xs = np.mgrid[0:65, 0:65] - 32.0
    value, _ = reference.unpack(ops.ridges(np.exp(-(xs**2 + ys**2) / 18).astype(np.float32)).full)
    assert value[32, 32, 0] < 0.55 * value[..., 0].max()


def test_a_map_agrees_with_itself():
    ridges = ops.ridges(vessels(), ALL)
    score, overlap = ops.ridge_correlation(ridges, ridges, Transform.identity())
    assert score == pytest.approx(1, abs=1e-6)
    assert overlap == 152 * 184


# -- NumPy reference ---------------


@pytest.mark.parametrize(("height", "width"), [(160, 192), (57, 83), (33, 16)])
def test_ridges_are_the_reference(height, width):
    plane = vessels(height, width)
    mask = np.ones((height, width), np.uint8)
    mask[: height // 4, : width // 3] = 0
    plane = plane * mask
    got = ops.ridges(plane, mask)
    levels, inside, points = reference.ridges(plane, mask)
    assert np.array_equal(reference.unpack(got.full)[1], inside)
    assert np.array_equal(got.points, points)
    for packed, expected in zip(got[:4], levels, strict=True):
        value, _ = reference.unpack(packed)
        assert value.shape == expected.shape
        assert np.abs(value - expected).max() < 0.51 / 127 + 1e-4  # half a step of the bytes


@pytest.mark.parametrize("name", TRUTH)
def test_correlation_is_the_reference(name):
    fixed, moving = pair(TRUTH[name])
    for t in (TRUTH[name], nudged(TRUTH[name])):
        score, overlap = ops.ridge_correlation(fixed, moving, t)
        expected, expected_overlap = reference.ridge_correlation(fixed.full, moving.full, t)
        assert score == pytest.approx(expected, abs=2e-5)
        assert abs(overlap - expected_overlap) <= 8  # a point on the border of two pixels may go either way


@pytest.mark.parametrize("name", TRUTH)
def test_the_result_is_a_maximum_of_the_reference(name):
    fixed, moving = pair(TRUTH[name])
    found = ops.refine(fixed, moving, nudged(TRUTH[name]), bend_px=1e3).transform
    seen = found(moving.points.astype(float))
    keep = ((seen > 8) & (seen < [183, 151])).all(1)
    best = reference.objective(fixed.full, moving.full, moving.points[keep], found, 1)
    for x, y in [(0.3, 0), (-0.3, 0), (0, 0.3), (0, -0.3)]:
        moved = nudged(found, x, y, 0)
        assert reference.objective(fixed.full, moving.full, moving.points[keep], moved, 1) < best


# -- torch twin ---------------


@pytest.fixture
def torch():
    torch = pytest.importorskip("torch")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # tiny planes: its threads would only wait for each other
    yield torch
    torch.set_num_threads(threads)


def test_torch_twin(torch):
    from fastretina.torch_path import refine as twin

    plane, truth = vessels(), TRUTH["similarity"]
    mine = twin.ridges(torch.from_numpy(plane), torch.from_numpy(ALL))
    core = ops.ridges(plane, ALL)
    for a, b in zip(mine.levels, core[:4], strict=True):
        value, inside = reference.unpack(b)
        assert np.abs(a[..., :3].numpy() - value).max() <= 1 / 127 + 1e-4
        assert np.array_equal(a[..., 3].numpy() > 0, inside)
    assert np.array_equal(mine.points.numpy(), core.points)
    other = ops.ridges(vessels(polarity=-1.0, warp=truth), ALL)
    other_twin = twin.ridges(torch.from_numpy(vessels(polarity=-1.0, warp=truth)), torch.from_numpy(ALL))
    points, params = torch.from_numpy(grid()), torch.from_numpy(np.append(nudged(truth).params.ravel(), [0, 0, 0]))
    assert twin.ridge_correlation(mine, other_twin, "similarity", params) == pytest.approx(
        ops.ridge_correlation(core, other, nudged(truth)), abs=1e-4
    )
    for kind in ("similarity", "affine", "homography", "quadratic"):
        got = twin.refine(mine, other_twin, "similarity", params, kind=kind)
        expected = ops.refine(core, other, nudged(truth), kind=kind)
        assert got.kind == expected.transform.kind
        # The maps differ by one step of their bytes here and there, and a level ends within epsilon_px of its maximum.
        assert np.abs(twin.apply(got.kind, got.params, points).numpy() - expected.transform(grid())).max() < 0.03
        assert got.score_after == pytest.approx(expected.score_after, abs=1e-4)
        assert got.gain_nats == pytest.approx(expected.gain_nats, rel=0.01)
        assert got.shift_px == pytest.approx(expected.shift_px, abs=0.03)


@pytest.mark.parametrize("name", TRUTH)
def test_torch_twin_of_every_kind(name, torch):
    from fastretina.torch_path import refine as twin

    truth = TRUTH[name]
    planes = vessels(), vessels(polarity=-1.0, warp=truth)
    mine, core = (
        [twin.ridges(torch.from_numpy(p), torch.from_numpy(ALL)) for p in planes],
        [ops.ridges(p, ALL) for p in planes],
    )
    start = nudged(truth, 4, -3)
    params = torch.zeros(12, dtype=torch.float64)
    params[: start.params.size] = torch.from_numpy(start.params.ravel().copy())
    got, expected = twin.refine(*mine, start.kind, params), ops.refine(*core, start)
    seen = ((truth(grid()) > 0) & (truth(grid()) < [191, 159])).all(1)
    points = grid()[seen]
    difference = twin.apply(got.kind, got.params, torch.from_numpy(points)).numpy() - expected.transform(points)
    assert np.abs(difference).max() < 0.03
    assert got.refused == expected.refused
    assert got.score_after == pytest.approx(expected.score_after, abs=1e-4)


# -- properties ---------------


@pytest.mark.parametrize("name", TRUTH)
@pytest.mark.parametrize("size", [1.0, 3.0])
def test_it_finds_the_truth(name, size):
    truth = TRUTH[name]
    fixed, moving = pair(truth)
    start = nudged(truth, 2 * size, -1.5 * size, 0.01)
    result = ops.refine(fixed, moving, start, bend_px=100.0)
    assert result.transform.kind == KINDS.get(name, name)
    assert result.score_after > result.score_before
    seen = truth(grid())
    keep = ((seen > 0) & (seen < [191, 159])).all(1)
    assert np.mean(off(result.transform, truth, grid()[keep])) < 0.05
    assert not result.refused


def test_it_raises_the_model():
    truth = TRUTH["homography"]
    fixed, moving = pair(truth)
    start = Transform.from_matrix([[1.0, 0.03, -3], [-0.03, 1.0, 2]])
    kept = ops.refine(fixed, moving, start)
    raised = ops.refine(fixed, moving, start, kind="homography")
    assert kept.transform.kind == "similarity"
    assert raised.transform.kind == "homography"
    assert raised.score_after > kept.score_after
    assert np.mean(off(raised.transform, truth)) < 0.3 * np.mean(off(kept.transform, truth))


def test_the_gain_is_what_the_ridges_say_of_the_higher_model():
    truth = TRUTH["quadratic"]
    fixed, moving = pair(truth)
    flat = ops.refine(fixed, moving, Transform.identity(), kind="homography", max_shift_px=100, max_frame_shift_px=200)
    bent = ops.refine(fixed, moving, flat.transform, kind="quadratic")
    samples = ops.ridge_correlation(fixed, moving, flat.transform)[1] / 5**2 * 0.1  # an observation ten lattice points
    expected = samples / 2 * np.log((1 - bent.score_before**2) / (1 - bent.score_after**2))
    assert bent.gain_nats == pytest.approx(expected, rel=1e-9)
    assert bent.gain_nats > 10
    seen = grid()[((truth(grid()) > 12) & (truth(grid()) < [179, 147])).all(1)]
    moved = off(bent.transform, flat.transform, seen)
    assert bent.shift_px == pytest.approx(np.sqrt((moved**2).mean()), rel=0.3)  # of other points of the same overlap
    straight = pair(TRUTH["homography"])
    fit = ops.refine(*straight, TRUTH["homography"])
    assert 0 <= ops.refine(*straight, fit.transform, kind="quadratic").gain_nats < 2  # four parameters of noise


def test_polarity_does_not_matter():
    plane = vessels()
    for a, b in zip(ops.ridges(plane, ALL), ops.ridges(-plane, ALL), strict=True):
        assert np.array_equal(a, b)


def test_a_translated_plane_has_translated_ridges():
    plane = np.zeros((80, 96), np.float32)
    plane[20:50, 24:60] = vessels(30, 36)
    moved = np.roll(plane, (8, 16), (0, 1))
    for scale, a, b in zip((8, 4, 2, 1), ops.ridges(plane)[:4], ops.ridges(moved)[:4], strict=True):
        shifted = np.roll(reference.unpack(a)[0], (8 // scale, 16 // scale), (0, 1))
        assert np.abs(shifted - reference.unpack(b)[0]).max() < 1.01 / 127  # the mean is summed in another order


def test_a_flip_flips_directions():
    plane = vessels()
    a, b = ops.ridges(plane, ALL), ops.ridges(np.ascontiguousarray(plane[:, ::-1]), ALL)
    flipped = reference.unpack(b.full)[0][:, ::-1] * [1, 1, -1]
    assert np.abs(reference.unpack(a.full)[0] - flipped).max() < 1.01 / 127


def test_never_worse_and_never_wild():
    rng = np.random.default_rng(3)
    fixed, moving = ops.ridges(vessels(seed=1), ALL), ops.ridges(vessels(seed=2), ALL)
    corners = np.array([[0, 0], [191, 0], [0, 159], [191, 159.0]])
    for kind in ("similarity", "affine", "homography", "quadratic"):
        for _ in range(6):
            start = Transform.from_matrix([[1, 0, rng.uniform(-60, 60)], [0, 1, rng.uniform(-60, 60)]])
            result = ops.refine(fixed, moving, start, kind=kind)
            assert result.score_after >= result.score_before
            assert off(result.transform, start, corners).max() <= 120
            if result.refused:
                assert np.array_equal(result.transform(corners), start(corners))


def test_bounds_refuse():
    fixed, moving = pair(TRUTH["similarity"])
    result = ops.refine(fixed, moving, nudged(TRUTH["similarity"], 5, 4), max_shift_px=1.0)
    assert result.refused
    assert result.score_after == result.score_before
    assert result.transform.params == pytest.approx(nudged(TRUTH["similarity"], 5, 4).params)


def test_wrong_eyes_do_not_agree():
    fixed, moving = ops.ridges(vessels(seed=1), ALL), ops.ridges(vessels(seed=2), ALL)
    right = ops.ridge_correlation(*pair(TRUTH["affine"]), TRUTH["affine"])[0]
    wrong = ops.refine(fixed, moving, Transform.identity(), kind="affine").score_after
    assert right > 0.9
    assert wrong < 0.5


# -- misuse ---------------


def test_misuse():
    plane = vessels()
    ridges, identity = ops.ridges(plane, ALL), Transform.identity()
    for bad in (plane.astype(np.float64), plane[0], "plane"):
        with pytest.raises(InvalidInput, match="plane"):
            ops.ridges(bad)
    broken = plane.copy()
    broken[3, 4] = np.nan
    with pytest.raises(InvalidInput, match="plane"):
        ops.ridges(broken)
    for bad in (ALL[1:], ALL.astype(bool)):
        with pytest.raises(InvalidInput, match="mask"):
            ops.ridges(plane, bad)
    for name, value in [("sigma_px", 0.1), ("sigma_px", 11), ("saturation", 0.0), ("rim_px", -1), ("max_points", -1)]:
        with pytest.raises(InvalidInput, match=name):
            ops.ridges(plane, ALL, **{name: value})
    for name, value in [("max_iterations", -1), ("bend_px", 0.0)]:
        with pytest.raises(InvalidInput, match=name):
            ops.refine(ridges, ridges, identity, **{name: value})
    with pytest.raises(InvalidInput, match="kind"):
        ops.refine(ridges, ridges, identity, kind="spline")
    with pytest.raises(InvalidInput, match="moving"):
        ops.refine(ridges, ridges._replace(half=ridges.full), identity)
    with pytest.raises(InvalidInput, match="fixed"):
        ops.ridge_correlation(ridges._replace(full=plane), ridges, identity)
    with pytest.raises(InvalidInput, match="max_iteration: unknown option; did you mean 'max_iterations'"):
        ops.refine(ridges, ridges, identity, max_iteration=3)


# -- determinism ---------------


@pytest.mark.parametrize("name", ["mirror", "homography", "quadratic"])
def test_same_bits_for_every_level_and_thread_count(name):
    truth = TRUTH[name]
    plane, other = vessels()[:159, :191].copy(), vessels(polarity=-1.0, warp=truth)
    kept = None
    for level in (3, 2, 1, 0):
        _core.limit_simd_level(level)
        for threads in (1, 2, 3) if level == 3 else (1,):
            fixed = ops.ridges(plane, threads=threads)
            moving = ops.ridges(other, ALL, threads=threads)
            result = ops.refine(fixed, moving, nudged(truth), threads=threads)
            score = ops.ridge_correlation(fixed, moving, truth, threads=threads)
            found = [
                *(a.tobytes() for a in fixed),
                *(a.tobytes() for a in moving),
                result.transform.params.tobytes(),
                *result[1:],
                *score,
            ]
            kept = kept or found
            assert found == kept, (level, threads)
    _core.limit_simd_level(3)


# -- degenerate sizes ---------------


@pytest.mark.parametrize("height", [0, 1, 2, 3, 5])
@pytest.mark.parametrize("width", [0, 1, 4, 5])
def test_tiny_planes(height, width):
    ridges = ops.ridges(np.zeros((height, width), np.float32))
    assert ridges.full.shape == (height, width)
    assert ridges.points.shape == (0, 2)
    assert ops.ridge_correlation(ridges, ridges, Transform.identity()) == (0.0, 0)
    result = ops.refine(ridges, ridges, Transform.identity())
    assert result.refused
    assert result.transform.kind == "identity"


def test_no_structure_and_no_overlap():
    flat = ops.ridges(np.zeros((160, 192), np.float32), ALL)
    ridges = ops.ridges(vessels(), ALL)
    assert ops.ridge_correlation(flat, ridges, Transform.identity())[0] == 0
    assert ops.refine(flat, ridges, Transform.identity()).score_after == 0
    away = Transform.from_matrix([[1, 0, 500], [0, 1, 0]])
    assert ops.ridge_correlation(ridges, ridges, away) == (0.0, 0)
    assert ops.refine(ridges, ridges, away).refused
    pole = Transform.from_matrix([[1, 0, 0], [0, 1, 0], [-1 / 96, 0, 1]])
    assert ops.refine(ridges, ridges, pole).refused
