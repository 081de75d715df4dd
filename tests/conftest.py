"""Fixtures that several rooms share."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterator

import pytest

HIGHEST_LEVEL = 3
EMULATED = "FASTRETINA_CORE" in os.environ

if EMULATED:  # an extension module to test in place of the package's own: the one that is built on the emulator of CUDA
    _spec = importlib.util.spec_from_file_location("fastretina._core", os.environ["FASTRETINA_CORE"])
    assert _spec is not None
    assert _spec.loader is not None
    sys.modules["fastretina._core"] = importlib.util.module_from_spec(_spec)
    _spec.loader.exec_module(sys.modules["fastretina._core"])


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Tests marked gpu are skipped where torch sees no GPU; FASTRETINA_REQUIRE_GPU=1 makes that a failure.

    Tests marked emulated need the core of FASTRETINA_CORE (tests/cuda/CMakeLists.txt runs them).
    """
    if item.get_closest_marker("emulated") is not None and not EMULATED:
        pytest.skip("FASTRETINA_CORE names no core on the emulator of CUDA")
    if item.get_closest_marker("gpu") is None or _sees_gpu():
        return
    if os.environ.get("FASTRETINA_REQUIRE_GPU") == "1":
        pytest.fail("torch sees no CUDA device, and FASTRETINA_REQUIRE_GPU=1")
    pytest.skip("torch sees no CUDA device")


def _sees_gpu() -> bool:
    if importlib.util.find_spec("torch") is None:
        return False
    import torch

    return torch.cuda.is_available()


@pytest.fixture(params=range(HIGHEST_LEVEL + 1), ids=["scalar", "avx2", "avx512", "avx512bf16"])
def simd_level(request: pytest.FixtureRequest) -> Iterator[str]:
    """Runs the test at every SIMD level; above the machine's own, that means the machine's own again."""
    _core = pytest.importorskip("fastretina._core")
    _core.limit_simd_level(request.param)
    yield _core.simd_level()
    _core.limit_simd_level(HIGHEST_LEVEL)
