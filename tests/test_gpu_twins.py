"""The CUDA twins against the CPU twins: the native tests of tests/cuda, built for the GPU at hand and run on it."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

pytestmark = [pytest.mark.gpu, pytest.mark.slow]
ROOT = Path(__file__).parents[1]


def run(*command: object) -> str:
    done = subprocess.run(
        [str(part) for part in command],
        cwd=ROOT,
        env={**os.environ, "FASTRETINA_REQUIRE_GPU": "1"},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:]
    return done.stdout


def test_every_twin_equals_the_cpu(tmp_path):
    for tool in ("nvcc", "cmake", "ninja"):
        if shutil.which(tool) is None:
            pytest.fail(f"{tool} is not on the path: the CUDA twins cannot be built")
    run("cmake", "--preset", "cuda-release", "-B", tmp_path, "-DCMAKE_CUDA_ARCHITECTURES=native")
    run("cmake", "--build", tmp_path, "-j", os.cpu_count() or 1, "--target", "cuda_tests")
    output = run("ctest", "--test-dir", tmp_path, "-R", "^test_cuda_", "-E", "_emulated$", "--output-on-failure")
    assert "100% tests passed" in output
    assert "Not Run" not in output
    assert "Skipped" not in output
