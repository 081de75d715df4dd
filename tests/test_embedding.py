"""The examples of the embeddable library, built beforehand: a program without Python gives the bits that Python gives.

FASTRETINA_EXAMPLES names the folder with the built c_register and cpp_stream (see examples/CMakeLists.txt).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import fastretina
import numpy as np
import pytest
from fastretina.engines.manifest import WEIGHTS
from fastretina.evaluation.pairs import load_pairs
from fastretina.synth import synthetic_pair

EXAMPLES = os.environ.get("FASTRETINA_EXAMPLES")
DATA = os.environ.get("FASTRETINA_DATA")

pytestmark = pytest.mark.skipif(
    not EXAMPLES, reason="FASTRETINA_EXAMPLES does not name the folder of the built examples"
)


def run(*arguments):
    program, *rest = map(str, arguments)
    # no environment: the program finds its libraries by itself, and no Python
    return subprocess.run([Path(EXAMPLES) / program, *rest], env={}, capture_output=True, text=True, check=False)


def register_in_c(folder, fixed, moving, precision, threads):
    arguments = []
    for name, image in (("fixed", fixed), ("moving", moving)):
        path = folder / f"{name}.raw"
        path.write_bytes(np.ascontiguousarray(image).tobytes())
        arguments += [path, f"{image.shape[1]}x{image.shape[0]}"]
    return run("c_register", WEIGHTS / "retina.toml", *arguments, precision, threads)


def assert_same_bits(folder, fixed, moving, precision, threads):
    done = register_in_c(folder, fixed, moving, precision, threads)
    registrar = fastretina.Registrar(engine="openvino", precision=precision, threads=threads)
    expected = registrar.register(fixed, moving)
    assert done.returncode == (0 if expected.ok else 3), done.stderr
    printed = json.loads(done.stdout)
    assert printed["status"] == expected.status
    assert printed["confidence"] == expected.confidence
    assert expected.transform.to_json() in done.stdout  # the text itself, every digit


@pytest.mark.parametrize(("precision", "threads"), [("auto", 1), ("f32", 1), ("f32", 2)])
def test_c_registers_to_the_same_bits_as_python(tmp_path, precision, threads):
    pair = synthetic_pair(seed=5)
    assert_same_bits(tmp_path, pair.fixed, pair.moving, precision, threads)


@pytest.mark.skipif(not DATA, reason="real pairs: FASTRETINA_DATA does not name the folder that holds val/")
@pytest.mark.parametrize("precision", ["auto", "f32"])
def test_c_registers_a_real_pair_to_the_same_bits_as_python(tmp_path, precision):
    pair = next(p for p in load_pairs(Path(DATA) / "val") if p.id == "mmim_32")
    assert_same_bits(tmp_path, *pair.read(), precision, 1)


def test_misuse_is_told_and_has_its_own_exit_status(tmp_path):
    image = np.zeros((32, 400), np.uint8)
    done = register_in_c(tmp_path, image, image, "f32", 1)
    assert done.returncode == 1
    assert "64 px" in done.stderr
    assert run("c_register").returncode == 2


@pytest.fixture(scope="module")
def stream(tmp_path_factory):
    folder = tmp_path_factory.mktemp("frames")
    maker = Path(__file__).resolve().parent.parent / "examples" / "cpp_stream" / "make_frames.py"
    subprocess.run([sys.executable, maker, folder, "--frames", "40"], check=True)
    done = run("cpp_stream", WEIGHTS / "retina.toml", folder, "auto", 1)
    assert done.returncode == 0, done.stderr
    truth = [json.loads(line) for line in (folder / "truth.jsonl").read_text().splitlines()]
    return list(zip(truth[1:], [json.loads(line) for line in done.stdout.splitlines()], strict=True))


def test_the_stream_follows_the_motion(stream):
    corners = np.array([[100, 100], [540, 100], [100, 380], [540, 380]])
    moved = [(truth, line) for truth, line in stream if truth["event"] == "motion"]
    assert len(moved) > 25
    for truth, line in moved:
        assert truth["frame"] == line["frame"]
        assert line["status"] == "ok"
        found = fastretina.Transform.from_dict(line["transform"])
        error = np.linalg.norm(found(corners) - fastretina.Transform.from_dict(truth["transform"])(corners), axis=1)
        assert error.mean() < 1  # px: one modality, mild noise; a wrong frame is tens of pixels off


def test_a_blink_or_a_blurred_frame_is_refused_and_the_next_one_works(stream):
    bad = [i for i, (truth, _) in enumerate(stream) if truth["event"] != "motion"]
    assert {stream[i][0]["event"] for i in bad} == {"blink", "blur"}
    for i in bad:
        assert stream[i][1]["status"] != "ok"
        assert stream[i][1]["transform"] is None
