"""Pruning: matches that their neighbours confirm are kept, others are not."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("fastretina._core")

from fastretina import InvalidInput, Registrar, Transform
from fastretina.methods.pruning import NEIGHBOURS, SUPPORT, locally_consistent
from fastretina.synth import synthetic_pair

TURN, SCALE = np.radians(30), 1.4
MATRIX = SCALE * np.array([[np.cos(TURN), -np.sin(TURN)], [np.sin(TURN), np.cos(TURN)]])


def points(right: int, wrong: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Matched points of 640-px frames; the first ``right`` are right to 1 px."""
    rng = np.random.default_rng(seed)
    moving = rng.uniform(0, 640, (right + wrong, 2))
    fixed = moving @ MATRIX.T + [80, -40] + rng.normal(0, 0.7, moving.shape)
    fixed[right:] = rng.uniform(0, 640, (wrong, 2))
    return fixed.astype(np.float32), moving.astype(np.float32)


def test_four_matches_of_one_similarity_and_a_stranger():
    moving = np.float32([[0, 0], [100, 0], [0, 100], [100, 100], [50, 60]])
    fixed = moving + np.float32([20, 10])
    fixed[4] += 90
    assert locally_consistent(fixed, moving).tolist() == [True, True, True, True, False]


@pytest.mark.parametrize(
    ("right", "wrong", "kept", "let_in"), [(200, 0, 1.0, 0.0), (100, 100, 0.99, 0.15), (60, 140, 0.9, 0.2)]
)
def test_precision_rises_and_right_matches_stay(right: int, wrong: int, kept: float, let_in: float):
    shares = []
    for seed in range(5):
        keep = locally_consistent(*points(right, wrong, seed))
        shares.append((keep[:right].mean(), keep[right:].mean() if wrong else 0.0))
    recall, false = np.mean(shares, axis=0)
    assert recall >= kept
    assert false <= let_in


def test_the_reference_one_match_at_a_time():
    """The definition, written out."""
    fixed, moving = points(40, 40)
    f, m = (p.astype(np.float64) for p in (fixed, moving))

    def nearest(p: np.ndarray, i: int) -> list[int]:
        order = sorted((j for j in range(len(p)) if j != i), key=lambda j: (np.hypot(*(p[j] - p[i])), j))
        return order[:NEIGHBOURS]

    expected = []
    for i in range(len(f)):
        best = 0
        asked = sorted(set(nearest(f, i)) | set(nearest(m, i)))
        for j in asked:
            a, b = f[j] - f[i], m[j] - m[i]
            if np.hypot(*a) <= 4 or np.hypot(*b) <= 4:
                continue
            size, turn = np.hypot(*a) / np.hypot(*b), np.arctan2(a[1], a[0]) - np.arctan2(b[1], b[0])
            if not 1 / 3 < size < 3:
                continue
            matrix = size * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
            votes = 0
            for k in asked:
                if k in (i, j) or np.hypot(*(f[k] - f[i])) <= 4 or np.hypot(*(m[k] - m[i])) <= 4:
                    continue
                off = np.hypot(*(matrix @ (m[k] - m[i]) - (f[k] - f[i])))
                votes += off < 4 + 0.06 * np.hypot(*(f[k] - f[i]))
            best = max(best, votes)
        expected.append(best >= SUPPORT)
    np.testing.assert_array_equal(locally_consistent(fixed, moving), expected)


def test_order_and_number_do_not_matter():
    """The same verdict in another order, and beyond one chunk."""
    fixed, moving = points(500, 700)
    keep = locally_consistent(fixed, moving)
    order = np.random.default_rng(3).permutation(len(fixed))
    np.testing.assert_array_equal(locally_consistent(fixed[order], moving[order]), keep[order])


@pytest.mark.parametrize("count", range(SUPPORT + 2))
def test_too_few_to_ask_stay(count: int):
    fixed, moving = points(0, count)
    assert locally_consistent(fixed, moving).tolist() == [True] * count


def test_many_matches_of_one_point_confirm_nothing():
    moving = np.random.default_rng(0).uniform(0, 600, (30, 2)).astype(np.float32)
    assert not locally_consistent(np.full_like(moving, 100), moving).any()


def test_it_is_chosen_by_a_keyword():
    pair = synthetic_pair(5, (420, 420), ("CF", "FA"), "easy")
    eye = pair.fixed[..., 1].copy()
    cut = eye[10:, 7:]
    truth = Transform.from_matrix([[1, 0, -7], [0, 1, -10]])
    results = {p: Registrar(method="rootsift", threads=1, prune=p).register(eye, cut) for p in ("on", "off")}
    assert len(results["on"].matches) < len(results["off"].matches)
    for result in results.values():
        assert np.abs(result.transform(np.float64([[200, 200]])) - truth.inverse([[200, 200]])).max() < 0.2
    with pytest.raises(InvalidInput, match="prune: got 'yes'"):
        Registrar(method="sift", prune="yes")
    with pytest.raises(InvalidInput, match="prune: got 'on', which means nothing to method 'retina'"):
        Registrar(prune="on")
