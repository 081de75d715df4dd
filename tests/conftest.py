"""Fixtures that several rooms share."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator

import pytest

HIGHEST_LEVEL = 3


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Tests marked gpu are skipped where torch sees no GPU; FASTRETINA_REQUIRE_GPU=1 makes that a failure."""
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
