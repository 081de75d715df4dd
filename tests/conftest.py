"""Fixtures that several rooms share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

HIGHEST_LEVEL = 3


@pytest.fixture(params=range(HIGHEST_LEVEL + 1), ids=["scalar", "avx2", "avx512", "avx512bf16"])
def simd_level(request: pytest.FixtureRequest) -> Iterator[str]:
    """Runs the test at every SIMD level; above the machine's own, that means the machine's own again."""
    _core = pytest.importorskip("fastretina._core")
    _core.limit_simd_level(request.param)
    yield _core.simd_level()
    _core.limit_simd_level(HIGHEST_LEVEL)
