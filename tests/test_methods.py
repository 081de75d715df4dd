"""The registry, and the methods by key points: what each was made for, on synthetic eyes turned and cut."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from fastretina import EngineError, InvalidInput, Registrar, Transform, methods
from fastretina.cli import main
from fastretina.config import Config
from fastretina.evaluation import evaluate
from fastretina.evaluation.cases import Case, Target
from fastretina.evaluation.perturb import perturb
from fastretina.synth import SyntheticPair, synthetic_pair

pytest.importorskip("fastretina._core")

SIDE = 420
CLASSICAL = ("sift", "rootsift", "symmetric-sift")


@pytest.fixture(scope="module")
def pair() -> SyntheticPair:
    return synthetic_pair(5, (SIDE, SIDE), ("CF", "FA"), "easy")


@pytest.fixture(scope="module")
def eye(pair: SyntheticPair) -> np.ndarray:
    return pair.fixed[..., 1].copy()


def error(name: str, fixed: np.ndarray, moving: np.ndarray, truth: Transform) -> float:
    points = np.random.default_rng(0).uniform(120, 300, (50, 2))
    case = Case("a", "k", "", fixed, moving, Target(points, truth.inverse(points), truth.inverse))
    return evaluate({name: Registrar(method=name, threads=1)}, [case])[0]["error"]


@pytest.mark.parametrize("name", CLASSICAL)
def test_a_cut_image_is_found_to_a_tenth_of_a_pixel(eye: np.ndarray, name: str) -> None:
    cut = eye[10:, 7:]
    assert error(name, eye, cut, Transform.from_matrix([[1, 0, -7], [0, 1, -10]])) < 0.15  # px of a 640-px frame


@pytest.mark.parametrize(("name", "finds"), [("sift", True), ("rootsift", True), ("symmetric-sift", False)])
def test_the_upright_one_does_not_turn(eye: np.ndarray, name: str, finds: bool) -> None:
    turned, change = perturb(eye, "rot90", "a")
    assert (error(name, eye, turned, change) < 2) == finds


@pytest.mark.parametrize(("name", "finds"), [("sift", False), ("rootsift", True), ("symmetric-sift", True)])
def test_polarity(eye: np.ndarray, name: str, finds: bool) -> None:
    cut = 255 - eye[10:, 7:]
    assert (error(name, eye, cut, Transform.from_matrix([[1, 0, -7], [0, 1, -10]])) < 1) == finds


@pytest.mark.parametrize("name", CLASSICAL)
def test_sizes_and_depths_may_differ(eye: np.ndarray, name: str) -> None:
    moving = np.repeat(eye[::2, ::2, None].astype(np.uint16) * 257, 3, axis=2)  # pixel i shows pixel 2i
    assert error(name, eye, moving, Transform.from_matrix([[0.5, 0, 0], [0, 0.5, 0]])) < 3


@pytest.mark.parametrize("name", CLASSICAL)
def test_nothing_to_see_is_refused(eye: np.ndarray, name: str) -> None:
    result = Registrar(method=name, threads=1).register(eye, np.zeros((100, 120), np.uint8))
    assert result.status == "no_content"
    assert result.transform is None
    assert result.confidence == 0
    assert result.moving_size == (120, 100)


@pytest.mark.parametrize("name", CLASSICAL)
def test_the_same_every_time_and_after_prepare(pair: SyntheticPair, name: str) -> None:
    registrar = Registrar(method=name, threads=1)
    first = registrar.register(pair.fixed, pair.moving)
    second = registrar.register(registrar.prepare(pair.fixed), pair.moving)
    assert first.transform == second.transform
    assert first.to_json() == second.to_json()
    np.testing.assert_array_equal(first.inliers, second.inliers)


def test_ok_means_the_same_another_eye_is_refused(pair: SyntheticPair) -> None:
    other = synthetic_pair(6, (SIDE, SIDE), ("CF", "FA"), "easy")
    for name in CLASSICAL:
        assert not Registrar(method=name, threads=1).register(pair.fixed, other.moving).ok


def test_a_method_takes_its_own_options_only() -> None:
    with pytest.raises(InvalidInput, match="method: got 'sfit'; did you mean 'sift'"):
        Config(method="sfit")
    with pytest.raises(InvalidInput, match="weights: got 'retina', which means nothing to method 'sift'; it takes"):
        Config(method="sift", weights="retina")
    with pytest.raises(InvalidInput, match="transform: method 'sift' has no local field"):
        Registrar(method="sift", transform="dense")
    assert Config(method="sift", transform="affine", working_size=500).working_size == 500


def test_the_model_is_what_is_asked_for(eye: np.ndarray) -> None:
    for kind in ("similarity", "affine", "homography"):
        result = Registrar(method="sift", threads=1, transform=kind).register(eye, eye)
        assert result.transform is not None
        assert result.transform.kind == kind


def test_a_method_without_its_libraries_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    heavy = dataclasses.replace(methods.METHODS["sift"], needs_torch=True)
    monkeypatch.setitem(methods.METHODS, "sift", heavy)
    monkeypatch.setattr(methods, "find_spec", lambda name: None)
    with pytest.raises(EngineError, match=r"method: 'sift' needs PyTorch.*fastretina\[torch\]"):
        Registrar(method="sift")


def test_the_list_of_methods(capsys: pytest.CaptureFixture) -> None:
    assert main(["methods"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:]] == list(methods.METHODS)
    assert main(["methods", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["sift"]["licence"] == "Apache-2.0 (OpenCV)"
    assert rows["retina"]["size_mb"] > 1
    own = {f.name for f in dataclasses.fields(Config)}
    assert set(rows["retina"]["options"]) == own - {"prune", "input", "translate"}
