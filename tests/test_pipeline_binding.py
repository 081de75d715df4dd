"""An engine behind the pipeline, and NumPy arrays as the rooms take them: what is broken is an error, never a crash."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from fastretina import EngineError, InvalidInput, _core, ops
from fastretina.transform import SINGLE_KINDS

SIDE = 160


class Engine:
    """Key points are dark cells; a descriptor is the cell's 16 pixels. ``spoil`` changes what run() returns."""

    multiple = 8
    dims = 16

    def __init__(self, spoil: Callable[[np.ndarray, np.ndarray], Any] | None = None):
        self.spoil = spoil
        self.seen: list[tuple[bool, bool]] = []

    def run(self, plane: np.ndarray) -> Any:
        h, w = plane.shape[0] // 4, plane.shape[1] // 4
        cells = plane.reshape(h, 4, w, 4).transpose(1, 3, 0, 2).reshape(16, h, w)
        maps = np.stack([-cells.mean(0), cells.mean(0) * 0]).astype(np.float32)
        self.seen.append((plane.flags.writeable, plane.flags.owndata))
        descriptors = np.ascontiguousarray(cells)
        return self.spoil(maps, descriptors) if self.spoil else (maps, descriptors)


def pipeline(engine: Engine, threads: int = 1) -> _core.Pipeline:
    options = _core.Options()
    options.features.image.working_size = SIDE
    options.features.detect.threshold = 0.0
    return _core.Pipeline(engine, options, threads)


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    coarse = np.random.default_rng(7).integers(60, 200, (SIDE // 8, SIDE // 8)).astype(np.uint8)
    return np.kron(coarse, np.ones((8, 8), np.uint8))


def misaligned(array: np.ndarray) -> np.ndarray:
    """The same values, one byte off the boundary of their type."""
    buffer = np.zeros(array.nbytes + 1, np.uint8)
    shifted = buffer[1:].view(array.dtype).reshape(array.shape)
    shifted[...] = array
    assert not shifted.flags.aligned
    return shifted


def same_features(a: Any, b: Any) -> bool:
    return np.array_equal(a.keypoints, b.keypoints) and np.array_equal(a.heatmap, b.heatmap)


def test_an_engine_in_python_registers_an_image_with_itself(image):
    session = pipeline(Engine())
    prepared = session.prepare(image)
    assert len(prepared.keypoints) > 50
    result = session.register(prepared, session.prepare(image))
    assert result["transform"] is not None
    assert np.array_equal(result["fixed_xy"][result["inlier"] > 0], result["moving_xy"][result["inlier"] > 0])


BROKEN = {
    "nothing": (lambda m, d: None, r"engine output: got <class 'NoneType'>"),
    "one array of maps": (lambda m, d: (m,), "engine output: got <class 'tuple'>"),
    "no maps": (lambda m, d: (None, d), r"engine output 0 \(class maps\)"),
    "maps of another shape": (lambda m, d: (m[:, 1:], d), r"engine output 0 \(class maps\): got \(2, 39, 40\)"),
    "maps in float64": (lambda m, d: (m.astype(np.float64), d), r"class maps\): got \(2, 40, 40\) float64"),
    "NaN in the maps": (lambda m, d: (with_value(m, np.nan), d), r"class maps\): got NaN or infinity"),
    "infinity in the maps": (lambda m, d: (with_value(m, np.inf), d), r"class maps\): got NaN or infinity"),
    "no descriptors": (lambda m, d: (m, None), r"engine output 1 \(descriptors\)"),
    "descriptors that are text": (lambda m, d: (m, "abc"), r"descriptors\): got <class 'str'>"),
    "descriptors that are an object": (lambda m, d: (m, object()), r"descriptors\): got <class 'object'>"),
    "descriptors of another length": (lambda m, d: (m, d[:-1]), r"descriptors\): got \(15, 40, 40\) float32"),
    "NaN descriptors": (lambda m, d: (m, d * np.float32("nan")), "NaN or infinity in the descriptors"),
    "infinite descriptors": (lambda m, d: (m, d * np.float32("inf")), "NaN or infinity in the descriptors"),
}


def with_value(maps: np.ndarray, value: float) -> np.ndarray:
    maps[0, 20, 20] = value
    return maps


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_engine_is_an_engine_error_and_the_next_run_is_right(image, name):
    spoil, message = BROKEN[name]
    engine = Engine(spoil)
    session = pipeline(engine)
    with pytest.raises(EngineError, match=message):
        session.prepare(image)
    engine.spoil = None
    assert same_features(session.prepare(image), pipeline(Engine()).prepare(image))


@pytest.mark.parametrize(("fact", "value"), [("multiple", 0), ("multiple", 6), ("dims", 0)])
def test_facts_that_no_network_has_are_an_engine_error(fact, value):
    engine = Engine()
    setattr(engine, fact, value)
    with pytest.raises(EngineError, match=f"engine.{fact}: got {value}"):
        pipeline(engine)


def test_an_exception_of_the_engine_comes_through(image):
    def fail(maps, descriptors):
        raise KeyError("its own")

    with pytest.raises(KeyError, match="its own"):
        pipeline(Engine(fail)).prepare(image)


def test_the_plane_is_shared_and_read_only(image):
    engine = Engine()
    pipeline(engine).prepare(image)
    assert engine.seen == [(False, False)]


@pytest.mark.parametrize("order", ["contiguous", "channels last", "misaligned", "float64"])
def test_descriptors_in_any_memory_give_the_same_features(image, order):
    change = {
        "contiguous": lambda d: d.copy(),
        "channels last": lambda d: np.ascontiguousarray(d.transpose(1, 2, 0)).transpose(2, 0, 1),
        "misaligned": misaligned,
        "float64": lambda d: d.astype(np.float64),
    }[order]
    changed, plain = pipeline(Engine(lambda m, d: (m, change(d)))), pipeline(Engine())
    results = [session.register(session.prepare(image), session.prepare(image)) for session in (changed, plain)]
    for key in ("fixed_xy", "moving_xy", "score", "inlier"):
        assert np.array_equal(results[0][key], results[1][key]), key


def test_misaligned_arrays_give_the_same_result(image):
    session = pipeline(Engine())
    f32 = (image / 255).astype(np.float32)
    assert same_features(session.prepare(misaligned(f32)), session.prepare(f32))
    assert same_features(pipeline(Engine(lambda m, d: (misaligned(m), d))).prepare(image), session.prepare(image))
    scores = np.random.default_rng(1).normal(size=(40, 50)).astype(np.float32)
    assert np.array_equal(ops.nms(misaligned(scores), threshold=0.0).xy, ops.nms(scores, threshold=0.0).xy)
    points = np.random.default_rng(2).uniform(0, 100, (30, 2)).astype(np.float32)
    found = [ops.estimate(change(points), points + 3).inlier for change in (misaligned, np.copy)]
    assert np.array_equal(found[0], found[1])
    with pytest.raises(InvalidInput, match="map: got misaligned memory"):
        ops.describe(misaligned(np.ones((8, 10, 10), np.float32)), points[:3])


def test_a_ladder_without_rungs_is_misuse():
    options = _core.Options()
    options.ladder.max_rungs = 0
    with pytest.raises(InvalidInput, match="max_rungs: got 0"):
        _core.Pipeline(Engine(), options, 1)


def test_facts_of_the_core_are_the_ones_that_python_uses():
    assert _core.TRANSFORM_KINDS == SINGLE_KINDS
    assert tuple(kind.name for kind in _core.TransformKind) == SINGLE_KINDS
    side = _core.SMALLEST_SIDE_PX
    assert ops.image(np.zeros((side, side + 9), np.uint8)).plane.size > 0
    with pytest.raises(InvalidInput, match=f"at least {side} px"):
        ops.image(np.zeros((side - 1, side + 9), np.uint8))


FORK = """
import os, signal, sys
import numpy as np
from fastretina import _core
scores = np.random.default_rng(1).normal(size=(400, 500)).astype(np.float32)
session = _core.Session(2)
expected = _core.nms(session, scores, threshold=0.0)
child = os.fork()
if child == 0:
    signal.alarm(60)
    for _ in range(3):
        found = _core.nms(session, scores, threshold=0.0)
    os._exit(0 if all(map(np.array_equal, found, expected)) else 3)
_, status = os.waitpid(child, 0)
again = _core.nms(session, scores, threshold=0.0)
sys.exit(os.waitstatus_to_exitcode(status) or (0 if all(map(np.array_equal, again, expected)) else 4))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_session_works_in_a_forked_child():
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", FORK], timeout=120, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
