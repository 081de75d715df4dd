"""Registration as a value, the checked configuration, and a light import."""

import dataclasses
import json
import subprocess
import sys

import fastretina
import numpy as np
import pytest
from fastretina import Config, InvalidInput, Registration, Transform, engines
from fastretina.config import CHOICES


def registration(**changes) -> Registration:
    values = {
        "status": "ok",
        "confidence": 0.75,
        "transform": Transform.from_matrix([[1, 0, 0.1], [0, 1, -3]]),
        "fixed_size": (100, 80),
        "moving_size": (120, 90),
        "choices": {"engine": "openvino", "precision": "f32", "threads": 2, "scale": np.float64(1.5)},
        "weights_hash": "ab12",
    }
    return Registration(**(values | changes))


def test_json_has_the_contract_and_no_run() -> None:
    document = json.loads(registration(timings_ms={"total": 3.0}).to_json())
    assert document == {
        "choices": {"engine": "openvino", "precision": "f32", "scale": 1.5},
        "confidence": 0.75,
        "engine": "openvino",
        "fixed_size": [100, 80],
        "moving_size": [120, 90],
        "pixel_convention": "(x, y), pixel centres at integers",
        "precision": "f32",
        "status": "ok",
        "transform": {"kind": "similarity", "direction": "moving_to_fixed",
                      "parameters": [[1.0, 0.0, 0.1], [0.0, 1.0, -3.0], [0.0, 0.0, 1.0]]},
        "version": fastretina.__version__,
        "weights_hash": "ab12",
    }  # fmt: skip


def test_json_is_the_same_whatever_the_threads_and_times() -> None:
    one = registration(choices={"threads": 1, "b": 1, "a": 2}, timings_ms={"total": 1.0})
    two = registration(choices={"a": 2, "b": 1, "threads": 2}, timings_ms={"total": 9.0})
    assert one.to_json() == two.to_json()


def test_refused_keeps_its_candidate_but_does_not_write_it() -> None:
    refused = registration(status="low_agreement")
    assert not refused
    assert not refused.ok
    assert refused.transform is not None
    assert json.loads(refused.to_json())["transform"] is None
    assert json.loads(refused.to_json())["status"] == "low_agreement"


def test_a_registration_is_consistent_and_frozen() -> None:
    with pytest.raises(ValueError, match="needs a transform"):
        registration(transform=None)
    with pytest.raises(ValueError, match="inliers"):
        registration(matches=np.zeros((3, 4)))
    result = registration(matches=np.zeros((1, 4)), match_scores=np.ones(1), inliers=np.ones(1, bool))
    with pytest.raises(AttributeError):
        result.status = "ok"
    with pytest.raises(ValueError, match="read-only"):
        result.matches[0, 0] = 1
    with pytest.raises(TypeError):
        result.choices["engine"] = "torch"


def test_warp_moves_pixels_into_the_fixed_frame() -> None:
    moving = np.zeros((90, 120), np.uint8)
    moving[40, 30] = 200
    shift = registration(transform=Transform.from_matrix([[1, 0, 5], [0, 1, -7]]))
    warped, valid = shift.warp(moving, interpolation="nearest")
    assert warped.shape == valid.shape == (80, 100)
    assert np.argwhere(warped).tolist() == [[33, 35]]
    assert valid.dtype == bool
    assert not valid[:, :5].any()
    assert valid[:, 5:].all()


def test_warp_refuses_what_does_not_fit() -> None:
    with pytest.raises(InvalidInput, match="has no transform"):
        registration(status="no_content", transform=None).warp(np.zeros((90, 120), np.uint8))
    with pytest.raises(InvalidInput, match=r"moving: got size \(50, 90\)"):
        registration().warp(np.zeros((90, 50), np.uint8))
    with pytest.raises(InvalidInput, match="moving: got list, expected a NumPy array"):
        registration().warp([[1]])
    with pytest.raises(InvalidInput, match="allowed: nearest, linear, cubic"):
        registration().warp(np.zeros((90, 120), np.uint8), interpolation="lanczos")


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"engin": "auto"}, "engin: unknown keyword; did you mean 'engine'"),
        ({"max_keypoint": 9}, "did you mean 'max_keypoints'"),
        ({"zzz": 1}, "zzz: unknown keyword; allowed: method, weights"),
        ({"engine": "openvio"}, "engine: got 'openvio'; did you mean 'openvino'"),
        ({"precision": 16}, "precision: got 16; did you mean 'f16'? allowed: auto, f32"),
        ({"backend": None}, "backend: got None"),
        ({"transform": "spline"}, "similarity, affine, homography, quadratic"),
        ({"device": "tpu"}, "device: got 'tpu'; allowed: auto, cpu, cuda"),
        ({"device": "cuda:x"}, "device"),
        ({"threads": 0}, "threads: got 0; allowed: an integer in 1 ... 1024, or None"),
        ({"threads": True}, "threads: got True"),
        ({"threads": 2.0}, "threads: got 2.0"),
        ({"working_size": 20}, "working_size: got 20"),
        ({"max_keypoints": -1}, "max_keypoints"),
        ({"seed": None}, "seed: got None"),
        ({"seed": -1}, "seed"),
        ({"weights": ""}, "weights"),
    ],
)
def test_config_misuse(keywords: dict, message: str) -> None:
    with pytest.raises(InvalidInput) as error:
        Config.from_keywords(**keywords)
    assert message in str(error.value)


def test_a_config_is_checked_however_it_is_made() -> None:
    with pytest.raises(InvalidInput, match="transform: got 'foo'"):
        Config(transform="foo")
    with pytest.raises(InvalidInput, match="threads: got -3"):
        dataclasses.replace(Config(), threads=-3)


def test_every_engine_that_can_be_asked_for_exists() -> None:
    assert CHOICES["engine"] == ("auto", *engines.ENGINES)
    with pytest.raises(InvalidInput, match="engine: got 'caffe2'; allowed: auto, openvino"):
        Config.from_keywords(engine="caffe2")


def test_config_takes_what_is_allowed() -> None:
    config = Config.from_keywords(threads=np.int64(2), device="cuda:1", precision="int8", seed=7)
    assert (config.threads, config.device, config.precision, config.seed) == (2, "cuda:1", "int8", 7)
    assert Config.from_keywords() == Config()


def test_import_loads_nothing_heavy() -> None:
    heavy = ("cv2", "torch", "openvino", "onnxruntime", "onnx", "matplotlib", "tensorrt", "fastretina._core")
    code = f"import fastretina, sys; print([m for m in {heavy} if m in sys.modules])"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"


def test_public_names() -> None:
    assert set(fastretina.__all__) <= set(dir(fastretina))
    with pytest.raises(AttributeError, match="no attribute 'regster'"):
        _ = fastretina.regster
