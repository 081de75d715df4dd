"""The expected error: what a covariance must be, by simulation; where it is large; what it is undefined for."""

import dataclasses

import numpy as np
import pytest
from fastretina import InvalidInput, Registration, Transform
from fastretina.evaluation import both_ways, evaluate, markdown, summarise
from fastretina.evaluation.cases import Case, Target
from fastretina.uncertainty import error_map, spread

TRUTH = Transform.from_matrix([[1.02, -0.05, 30], [0.05, 1.02, -12]])
SIZE = (640, 480)


def design(xy: np.ndarray) -> np.ndarray:
    x, y = ((xy - [319.5, 239.5]) / 320).T
    return np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=1)


def result(moving: np.ndarray, noise: np.ndarray | float = 0.0, agreement: float = 0.5, **changes) -> Registration:
    values = {
        "status": "ok",
        "confidence": 0.9,
        "transform": TRUTH,
        "fixed_size": SIZE,
        "moving_size": (600, 500),
        "matches": np.hstack([TRUTH(moving) + noise, moving]),
        "match_scores": np.ones(len(moving)),
        "inliers": np.ones(len(moving), bool),
        "quality": {"ridge_correlation": agreement},
    }
    return Registration(**(values | changes))


def test_the_spread_is_that_of_refitted_noise() -> None:
    """A correction is drawn, noise added, the correction fitted again: how far is it off?"""
    rng = np.random.default_rng(0)
    moving = rng.uniform([50, 50], [450, 350], (60, 2))
    places = np.array([[200.0, 200.0], [320.0, 240.0], [620.0, 20.0], [10.0, 470.0]])
    sigma, stiffness, at, there = 1.3, 2.0, design(TRUTH(moving)), design(places)
    off, foretold = [], []
    for _ in range(800):
        correction = rng.normal(0, stiffness * sigma, (6, 2))
        offsets = at @ correction + rng.normal(0, sigma, moving.shape)
        fitted = np.linalg.solve(at.T @ at + np.eye(6) / stiffness**2, at.T @ offsets)
        off.append(((there @ (fitted - correction)) ** 2).sum(1))
        foretold.append(spread(result(moving, offsets), places) ** 2)
    # 800 draws give a root mean square to 2.5 % (1 sigma), the six residuals of 1 px instead of 1.3 take 2 % off
    np.testing.assert_allclose(np.sqrt(np.mean(foretold, 0)), np.sqrt(np.mean(off, 0)), rtol=0.1)


def test_it_is_larger_where_nothing_holds_the_model() -> None:
    moving = np.random.default_rng(1).uniform([40, 40], [220, 200], (40, 2))
    error = result(moving, 0.5).expected_error()
    held, far = TRUTH([130, 120]).astype(int), TRUTH([580, 450]).astype(int)
    assert error[far[1], far[0]] > 5 * error[held[1], held[0]]


def test_more_inliers_less_noise_and_more_agreement_make_it_smaller() -> None:
    rng = np.random.default_rng(2)
    moving = rng.uniform(20, 460, (160, 2))
    noise = rng.normal(0, 3, (160, 2))  # far above the floor
    middle = np.array([[250.0, 250.0]])
    usual = result(moving, noise).expected_error(middle)
    assert result(moving[:40], noise[:40]).expected_error(middle) > 1.5 * usual
    assert result(moving, 3 * noise).expected_error(middle) > 2 * usual
    assert result(moving, noise, agreement=0.95).expected_error(middle) < 0.5 * usual
    outliers = result(moving, np.where(np.arange(160)[:, None] < 40, noise, 99), inliers=np.arange(160) < 40)
    assert outliers.expected_error(middle) == result(moving[:40], noise[:40]).expected_error(middle)


def test_the_map_is_that_of_the_points_and_nan_beyond_moving() -> None:
    rng = np.random.default_rng(3)
    moving = rng.uniform(20, 460, (80, 2))
    r = result(moving, rng.normal(0, 1, (80, 2)))
    error = r.expected_error()
    assert error.shape == (480, 640)
    assert error.dtype == np.float32
    y, x = np.mgrid[3:480:37, 5:640:41]
    places = np.stack([x.ravel(), y.ravel()], 1).astype(float)
    back = TRUTH.inverse(places)
    at_points = r.expected_error(back)
    inside = ((back >= -0.5) & (back <= [599.5, 499.5])).all(1)
    assert 0.5 < inside.mean() < 1
    np.testing.assert_array_equal(np.isnan(at_points), ~inside)
    clear = (np.abs(back) > 2).all(1) & (np.abs(back - [599.5, 499.5]) > 2).all(1)  # the lattice rounds the border
    np.testing.assert_array_equal(np.isnan(error[y, x].ravel()[clear]), ~inside[clear])
    both = inside & clear
    np.testing.assert_allclose(error[y, x].ravel()[both], at_points[both], rtol=0.05)  # 33 nodes along a side


def test_a_smaller_map_shows_the_same() -> None:
    moving = np.random.default_rng(4).uniform(20, 460, (80, 2))
    r = result(moving, 1.0)
    whole, half = error_map(r), error_map(r, (320, 240))
    blocks = whole.reshape(240, 2, 320, 2).mean((1, 3))
    both = np.isfinite(blocks) & np.isfinite(half)
    assert both.sum() > 0.99 * np.isfinite(half).sum() - 600
    np.testing.assert_allclose(half[both], blocks[both], rtol=0.01)


def test_it_scales_with_the_image() -> None:
    rng = np.random.default_rng(5)
    moving, noise = rng.uniform(20, 460, (50, 2)), rng.normal(0, 1, (50, 2))
    r = result(moving, noise)
    larger = Transform.from_matrix([[2, 0, 0.5], [0, 2, 0.5]])  # x' = 2 (x + 1/2) - 1/2
    matches = np.hstack([larger(r.matches[:, :2]), larger(r.matches[:, 2:])])
    big = result(moving, transform=larger @ TRUTH @ larger.inverse, matches=matches, fixed_size=(1280, 960),
                 moving_size=(1200, 1000))  # fmt: skip
    places = rng.uniform(20, 460, (30, 2))
    np.testing.assert_allclose(big.expected_error(larger(places)), 2 * r.expected_error(places), rtol=1e-9)


@pytest.mark.parametrize("count", [0, 1, 3])
def test_few_inliers_promise_nothing(count: int) -> None:
    moving = np.random.default_rng(6).uniform(20, 460, (count, 2))
    error = result(moving, agreement=0.0).expected_error()
    assert np.nanmin(error) > 0
    assert np.nanmax(error) > 10  # px: what the stiffness of a quadratic leaves


def test_misuse_is_named() -> None:
    with pytest.raises(InvalidInput, match="expected_error: the registration was refused"):
        result(np.zeros((0, 2)), status="no_content", transform=None).expected_error()
    with pytest.raises(InvalidInput, match=r"points: got shape \(3,\)"):
        result(np.zeros((4, 2))).expected_error([1, 2, 3])


def test_an_evaluation_compares_it_with_the_truth() -> None:
    rng = np.random.default_rng(7)
    moving = rng.uniform(20, 460, (50, 2))

    class Registrar:
        def register(self, fixed: np.ndarray, moving_image: np.ndarray) -> Registration:
            return result(moving, 0.5)

    image = np.zeros((480, 640), np.uint8)
    case = Case("a", "k", "CF>FA", image, image, Target(moving, TRUTH(moving) + np.array([0.3, 0.4])))
    rows = evaluate({"ours": Registrar()}, [case])
    assert rows[0]["actual_errors"] == pytest.approx([0.5] * 50)
    np.testing.assert_allclose(rows[0]["expected_errors"], result(moving, 0.5).expected_error(moving))
    summary = summarise(rows)
    assert summary["ours"]["expected_error"]["points"] == 50
    assert len(summary["ours"]["expected_error"]["bins"]) == 10
    assert "Expected error (ours): rank correlation" in markdown(summary)


def exchanged(transform: Transform | None, status: str = "ok") -> Registration:
    """The registration of the same images with FIXED and MOVING exchanged."""
    sizes = {"fixed_size": (600, 500), "moving_size": SIZE}
    return result(np.zeros((0, 2)), transform=transform, status=status, **sizes)


def test_inverse_consistency_is_how_far_points_are_from_where_they_began() -> None:
    forward = result(np.zeros((0, 2)))
    assert forward.inverse_consistency(exchanged(TRUTH.inverse)) == pytest.approx(0, abs=1e-9)
    # 3 and 4 px of MOVING are 5 of it, and TRUTH enlarges by the root of its determinant
    aside = Transform.from_matrix([[1, 0, 3], [0, 1, 4]]) @ TRUTH.inverse
    scale = np.sqrt(1.02**2 + 0.05**2)
    assert forward.inverse_consistency(exchanged(aside)) == pytest.approx(5 * scale, rel=1e-6)
    assert exchanged(aside).inverse_consistency(forward) == pytest.approx(5, rel=1e-6)
    nowhere = Transform.from_matrix([[1, 0, 5000], [0, 1, 0]])
    assert forward.inverse_consistency(exchanged(nowhere)) == np.inf
    pole = Transform.from_matrix([[1, 0, 0], [0, 1, 0], [-1 / 159.75, 0, 1]])  # a column of the lattice of FIXED
    assert result(np.zeros((0, 2)), transform=pole).inverse_consistency(exchanged(Transform.identity())) == np.inf


def test_inverse_consistency_names_what_it_cannot_compare() -> None:
    forward = result(np.zeros((0, 2)))
    with pytest.raises(InvalidInput, match="back: got FIXED and MOVING of"):
        forward.inverse_consistency(forward)
    refused = exchanged(None, "too_few_matches")
    with pytest.raises(InvalidInput, match="back: the registration was refused"):
        forward.inverse_consistency(refused)
    with pytest.raises(InvalidInput, match="inverse_consistency: the registration was refused"):
        refused.inverse_consistency(forward)


def test_the_evaluation_registers_both_ways() -> None:
    """A registrar off by 2 px one way and by 1 px the other; one that finds nothing the other way; one that crashes."""

    class Off:
        def register(self, fixed, moving):
            turned = fixed.shape[0] == 500
            shift = Transform.from_matrix([[1, 0, 1.0 if turned else 2.0], [0, 1, 0]])
            return exchanged(shift @ TRUTH.inverse) if turned else result(np.zeros((0, 2)), transform=shift @ TRUTH)

    class Refuses(Off):
        def register(self, fixed, moving):
            found = super().register(fixed, moving)
            return exchanged(None, "implausible") if fixed.shape[0] == 500 else found

    class Crashes(Off):
        def register(self, fixed, moving):
            if fixed.shape[0] == 500:
                raise RuntimeError("not this way")
            return super().register(fixed, moving)

    points = np.random.default_rng(4).uniform(50, 400, (30, 2))
    case = Case("a", "none", "CF>FA", np.zeros((480, 640)), np.zeros((500, 600)), Target(points, TRUTH(points)))
    methods = {"off": Off(), "refuses": Refuses(), "crashes": Crashes()}
    strangers = dataclasses.replace(case, id="b", target=None)
    rows = evaluate(methods, [case, strangers], measure=both_ways(methods))
    apart = np.linalg.norm([1.02 + 2, 0.05])  # 1 px of MOVING under TRUTH, and 2 of FIXED
    assert rows[0]["inverse"] == pytest.approx(apart, rel=1e-6)
    assert rows[1]["inverse"] == rows[2]["inverse"] == np.inf
    text = markdown(summarise(rows))
    assert "inverse px" in text
    assert f"{apart:.2f}" in text
    assert "Inverse consistency (off): as a judge of 2 pairs AUROC 0.5" in text  # it says the same of both
