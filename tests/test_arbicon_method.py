"""The method "arbicon": pairs that it registers, what it keeps of a field, what it refuses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the network needs torch (fastretina[torch])")
cv2 = pytest.importorskip("cv2", reason="training needs OpenCV")

from fastretina import InvalidInput, Registrar, Transform, displacement  # noqa: E402
from fastretina.networks.arbicon import FRAME_PX  # noqa: E402
from fastretina.synth import SyntheticPair, synthetic_pair  # noqa: E402


@pytest.fixture(scope="module")
def registrar() -> Registrar:
    pytest.importorskip("safetensors", reason="weights are safetensors (fastretina[torch])")
    pytest.importorskip("fastretina._core", reason="methods need the compiled core")
    return Registrar(method="arbicon", threads=1)


@pytest.fixture(scope="module")
def pair() -> SyntheticPair:
    return synthetic_pair(5, (420, 420), ("CF", "FA"), "easy")


def error_px(transform: Transform, truth: Transform) -> float:
    points = np.random.default_rng(0).uniform(80, 340, (50, 2))
    return float(np.linalg.norm(transform(points) - truth(points), axis=1).mean())


def test_a_pair_of_two_modalities_is_registered(registrar: Registrar, pair: SyntheticPair) -> None:
    result = registrar.register(pair.fixed, pair.moving)
    assert isinstance(pair.truth, Transform)
    assert result.transform is not None
    assert error_px(result.transform, pair.truth) < 10
    assert error_px(Transform.identity(), pair.truth) > 13  # what is there to find
    assert result.choices["model"] in ("affine", "dense @ affine")
    assert result.heatmap_fixed is not None
    assert result.heatmap_fixed.shape == (FRAME_PX, FRAME_PX)
    assert result.inliers.sum() > 50
    again = registrar.register(registrar.prepare(pair.fixed), pair.moving)
    assert again.to_json() == result.to_json()
    points = np.random.default_rng(1).uniform(100, 300, (20, 2))
    np.testing.assert_allclose(result.transform.inverse(result.transform(points)), points, atol=1e-6)
    assert Transform.from_json(result.transform.to_json()) == result.transform


def test_only_the_vessels_decide_on_a_field(registrar: Registrar, pair: SyntheticPair) -> None:
    affine = Registrar(method="arbicon", threads=1, transform="affine").register(pair.fixed, pair.moving)
    bent = registrar.register(pair.fixed, pair.moving)
    assert affine.transform is not None
    assert bent.transform is not None
    assert affine.transform.kind == "affine"
    assert bent.transform.steps[-1].transform == affine.transform
    assert bent.confidence == affine.confidence  # of the transform without the field


def test_a_dense_transform_warps_inverts_and_is_kept_in_files(
    registrar: Registrar, pair: SyntheticPair, tmp_path: Path
) -> None:
    result = Registrar(method="arbicon", threads=1, transform="dense").register(pair.fixed, pair.moving)
    assert result.transform is not None
    assert result.choices["model"] == "dense @ affine"
    assert error_px(result.transform, pair.transform) < 10
    field, affine = (step.transform for step in result.transform.steps)
    points = np.random.default_rng(1).uniform(100, 300, (20, 2))
    assert np.abs(field(points) - points).max() > 0.01
    np.testing.assert_allclose(result.transform(points), field(affine(points)))
    np.testing.assert_allclose(result.transform.inverse(result.transform(points)), points, atol=1e-6)
    assert Transform.from_json(result.transform.to_json()) == result.transform
    np.savez(tmp_path / "field.npz", control=field.params, rectangle=field.rectangle)
    with np.load(tmp_path / "field.npz") as file:
        assert Transform("dense", file["control"], tuple(file["rectangle"])) == field
    warped, valid = result.warp(pair.moving)
    assert warped.shape == pair.fixed.shape[:2]
    assert 0.5 < valid.mean() < 1


def test_a_small_part_is_found_in_a_window(registrar: Registrar, pair: SyntheticPair) -> None:
    result = registrar.register(pair.fixed, pair.moving[140:280, 140:280])
    assert result.transform is not None
    assert (result.ok, result.choices["rung"]) == (True, 1)
    shift = Transform.from_matrix([[1, 0, 140], [0, 1, 140]])
    points = np.random.default_rng(0).uniform(0, 139, (50, 2))
    assert np.linalg.norm(result.transform(points) - pair.truth(shift(points)), axis=1).mean() < 5


def test_frames_of_other_shapes(registrar: Registrar, pair: SyntheticPair) -> None:
    """What is seen of a wide frame lies where its pixels are."""
    wide = np.zeros((420, 600, 3), np.uint8)
    wide[:, 90:510] = pair.fixed
    result = registrar.register(wide, pair.moving)
    assert isinstance(pair.truth, Transform)
    assert result.transform is not None
    shift = Transform.from_matrix([[1, 0, 90], [0, 1, 0]])
    assert error_px(shift.inverse @ result.transform, pair.truth) < 20
    assert result.heatmap_fixed is not None
    assert result.heatmap_fixed.shape == (252, 360)


def test_nothing_to_see_and_another_eye_are_refused(registrar: Registrar, pair: SyntheticPair) -> None:
    black = registrar.register(pair.fixed, np.zeros((100, 120), np.uint8))
    assert (black.status, black.transform, black.confidence) == ("no_content", None, 0)
    assert not registrar.register(pair.fixed, synthetic_pair(6, (420, 420), ("CF", "FA"), "easy").moving).ok


def test_it_takes_its_own_options_only() -> None:
    with pytest.raises(InvalidInput, match="transform: got 'homography'; allowed for 'arbicon': auto, affine, dense"):
        Registrar(method="arbicon", transform="homography")
    with pytest.raises(InvalidInput, match="working_size: got 500, which means nothing to method 'arbicon'"):
        Registrar(method="arbicon", working_size=500)


def test_the_control_points_of_a_field_give_its_values() -> None:
    from fastretina.methods.arbicon import LEAST_JACOBIAN, interpolating, unfolded

    def least_jacobian(field: np.ndarray) -> float:
        return displacement.least_jacobian(field, (-1.0, -1.0, 1.0, 1.0))[0]

    values = np.random.default_rng(0).normal(0, 0.02, (6, 6, 2))
    control = interpolating(values)
    axis = np.linspace(-1, 1, 6)
    points = np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2)
    found = displacement.displacement(control, (-1.0, -1.0, 1.0, 1.0), points)
    np.testing.assert_allclose(found.reshape(6, 6, 2), values, atol=1e-12)
    np.testing.assert_array_equal(unfolded(control), control)
    folds = next(k * control for k in range(2, 100) if least_jacobian(k * control) <= LEAST_JACOBIAN)
    assert least_jacobian(0.7 * folds) > LEAST_JACOBIAN
    np.testing.assert_array_equal(unfolded(folds), 0.7 * folds)
    assert unfolded(1000 * control) is None
