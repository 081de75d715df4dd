"""Room refine: the smooth local field on top of a transform."""

import math

import numpy as np
import pytest
from fastretina import _core, ops
from fastretina.errors import InvalidInput
from fastretina.transform import Transform
from reference import refine as reference

SIDE = 256
ALL = np.ones((SIDE, SIDE), np.uint8)
BASE = Transform.from_matrix([[1.0, 0.02, -3.0], [-0.02, 1.0, 2.0]])


def pixels(side=SIDE):
    ys, xs = np.mgrid[0:side, 0:side].astype(float)
    return np.column_stack([xs.ravel(), ys.ravel()])


def local(points):
    """A field of 3.5 px at its two peaks, on top of BASE."""
    at = BASE(points)
    out = at.copy()
    for centre, push in (((90, 100), (3.5, -1.0)), ((180, 150), (-1.5, 3.0))):
        weight = np.exp(-((at - centre) ** 2).sum(1) / (2 * 38.0**2))
        out += np.outer(weight, push)
    return out


def vessels(warp=None, polarity=1.0, noise=0.0, seed=0):
    """Wavy lines of a fixed scene, seen where `warp` puts the pixels."""
    rng = np.random.default_rng(seed)
    at = pixels() if warp is None else warp(pixels())
    plane = np.zeros(len(at))
    for _ in range(26):
        angle, offset = rng.uniform(0, np.pi), rng.uniform(-130, 130)
        bend, phase, wide = rng.uniform(2, 10), rng.uniform(0, 6), rng.uniform(1.2, 2.2)
        along = (at - 128) @ [np.cos(angle), np.sin(angle)]
        across = (at - 128) @ [-np.sin(angle), np.cos(angle)] - offset - bend * np.sin(along / 23 + phase)
        plane += np.exp(-(across**2) / (2 * wide**2))
    plane = polarity * (plane - plane.mean()) + noise * np.random.default_rng(99).standard_normal(len(at))
    return plane.reshape(SIDE, SIDE).astype(np.float32)


@pytest.fixture(scope="module")
def pair():
    return ops.ridges(vessels(), ALL), ops.ridges(vessels(local, polarity=-1.0), ALL)


def inner():
    at = BASE(pixels()[:: 7 * SIDE // 7 + 7])
    keep = ((at > 16) & (at < SIDE - 17)).all(1)
    return pixels()[:: 7 * SIDE // 7 + 7][keep]


def off(a, b):
    return np.linalg.norm(a(inner()) - b(inner()), axis=1)


# -- it finds the field ---------------


def test_the_grid_spans_the_overlap_with_steps_of_forty_px_or_more(pair):
    """The rectangle is that of the control points, one ring of them around the overlap."""
    for cells, step in ((4, (SIDE - 1) / 4), (8, 40.0)):
        field = ops.refine_field(*pair, BASE, cells=cells, min_gain_nats=-1e9, min_displacement_px=0).field
        rows, columns = field.params.shape[:2]
        assert (rows, columns) == (math.ceil((SIDE - 1) / step) + 3,) * 2
        left, top, right, bottom = field.rectangle
        got = (right - left) / (columns - 1), (bottom - top) / (rows - 1)
        assert got[0] == pytest.approx(got[1])
        assert got[0] == pytest.approx(step, rel=0.1)
        assert (left, top) == pytest.approx((-got[0], -got[0]), abs=14)


def test_it_finds_a_local_field(pair):
    found = ops.refine_field(*pair, BASE)
    assert found.field is not None
    assert found.field.kind == "dense"
    assert found.score_after > found.score_before
    assert found.gain_nats > 20
    result = found.field @ BASE
    assert off(BASE, local).mean() > 1
    assert off(result, local).mean() < 0.2 * off(BASE, local).mean()


def test_the_scores_are_the_reference(pair):
    found = ops.refine_field(*pair, BASE)
    at = found.field @ BASE
    points = np.stack(np.meshgrid(np.arange(1, SIDE, 2), np.arange(1, SIDE, 2)), -1).reshape(-1, 2).astype(float)
    inside = reference.unpack(pair[0].full)[1], reference.unpack(pair[1].full)[1]
    keep = np.ones(len(points), bool)
    for dx in (-2, 2):
        for dy in (-2, 2):
            for mask, where in ((inside[0], BASE(points)), (inside[1], points)):
                x, y = np.floor(where + [dx, dy] + 0.5).astype(int).T
                seen = (x >= 0) & (y >= 0) & (x < SIDE) & (y < SIDE)
                keep &= seen
                keep[seen] &= mask[y[seen], x[seen]]
    for transform, score in ((BASE, found.score_before), (at, found.score_after)):
        f = reference.bilinear(reference.unpack(pair[0].full)[0], *transform(points[keep]).T)
        m = reference.bilinear(reference.unpack(pair[1].full)[0], *points[keep].T)
        m = np.column_stack([m[:, 0], reference.turned(BASE, points[keep].mean(0), m[:, 1:])])
        f[:, 0] -= f[:, 0].mean()
        m[:, 0] -= m[:, 0].mean()
        expected = (f * m).sum() / np.sqrt((f * f).sum() * (m * m).sum())
        assert score == pytest.approx(expected, abs=1e-5)  # the core samples in float32


def test_torch_twin(pair):
    torch = pytest.importorskip("torch")
    from fastretina.torch_path import refine, refine_field

    mine = [
        refine.ridges(torch.from_numpy(p), torch.from_numpy(ALL)) for p in (vessels(), vessels(local, polarity=-1.0))
    ]
    params = torch.zeros(12, dtype=torch.float64)
    params[:9] = torch.from_numpy(BASE.params.ravel().copy())
    got, expected = refine_field.refine_field(*mine, "similarity", params), ops.refine_field(*pair, BASE)
    assert got.iterations == expected.iterations
    assert got.gain_nats == pytest.approx(expected.gain_nats, rel=0.01)
    assert got.score_after == pytest.approx(expected.score_after, abs=1e-4)
    twin = Transform("dense", got.control.numpy(), got.rectangle)
    # The maps differ by one step of their bytes here and there, and a level ends within epsilon_px of its maximum.
    assert off(twin @ BASE, expected.field @ BASE).max() < 0.05


# -- it bends nothing without need ---------------


@pytest.mark.parametrize("noise", [0.0, 0.4])
def test_no_field_where_the_transform_is_right(noise):
    pair = ops.ridges(vessels(), ALL), ops.ridges(vessels(BASE, polarity=-1.0, noise=noise), ALL)
    found = ops.refine_field(*pair, BASE)
    assert found.field is None
    assert found.gain_nats < 5


def test_noise_and_other_eyes_bend_nothing():
    for seed in (5, 6, 7):
        pair = ops.ridges(vessels(), ALL), ops.ridges(vessels(BASE, seed=seed), ALL)
        assert ops.refine_field(*pair, BASE).field is None
    speckle = [np.random.default_rng(s).standard_normal((SIDE, SIDE)).astype(np.float32) for s in (1, 2)]
    assert ops.refine_field(*(ops.ridges(p, ALL) for p in speckle), BASE).field is None


def test_bounds_are_kept(pair):
    assert ops.refine_field(*pair, BASE, max_displacement_px=1.0).field is None
    assert ops.refine_field(*pair, BASE, min_displacement_px=5.0).field is None
    assert ops.refine_field(*pair, BASE, min_jacobian=0.999).field is None
    assert ops.refine_field(*pair, BASE, min_gain_nats=1e4).field is None
    assert ops.refine_field(*pair, BASE, min_points=10**6).field is None


def test_too_little_to_refine_on():
    small = ops.ridges(np.zeros((20, 24), np.float32))
    assert ops.refine_field(small, small, Transform.identity()).field is None
    flat = ops.ridges(np.zeros((SIDE, SIDE), np.float32))
    assert ops.refine_field(flat, flat, Transform.identity()).field is None
    away = Transform.from_matrix([[1, 0, 900], [0, 1, 0]])
    assert ops.refine_field(flat, flat, away).field is None


# -- misuse, determinism ---------------


@pytest.mark.parametrize(
    ("options", "argument"),
    [
        ({"cells": 0}, "cells"),
        ({"cells": 65}, "cells"),
        ({"bend_px": 0.0}, "bend_px"),
        ({"shift_px": float("nan")}, "shift_px"),
        ({"samples_per_point": -1.0}, "samples_per_point"),
        ({"min_points": 0}, "min_points"),
        ({"max_iterations": -1}, "max_iterations"),
        ({"min_gain_nats": float("nan")}, "min_gain_nats"),
        ({"bending_px": 1.0}, "bending_px"),
    ],
)
def test_misuse_names_the_argument(pair, options, argument):
    with pytest.raises(InvalidInput, match=argument):
        ops.refine_field(*pair, BASE, **options)


def test_a_field_is_no_start(pair):
    field = ops.refine_field(*pair, BASE).field
    with pytest.raises(InvalidInput, match="transform: got"):
        ops.refine_field(*pair, field @ BASE)


def test_same_bits_for_any_number_of_threads_and_simd_level(pair):
    expected = ops.refine_field(*pair, BASE)
    for threads in (2, 3):
        assert ops.refine_field(*pair, BASE, threads=threads) == expected
    try:
        for level in (0, 1):
            _core.limit_simd_level(level)
            assert ops.refine_field(*pair, BASE) == expected
    finally:
        _core.limit_simd_level(3)
