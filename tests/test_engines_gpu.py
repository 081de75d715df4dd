"""Engines on a GPU: torch in CUDA graphs, and TensorRT where it is installed and an engine can be built."""

from __future__ import annotations

import numpy as np
import pytest
from fastretina import engines

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module")
def manifest() -> engines.Manifest:
    return engines.load_manifest("retina_fast")


def plane(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.clip(np.random.default_rng(seed).normal(size=(height, width)), -4, 4).astype(np.float32)


@pytest.mark.parametrize("precision", ["f32", "bf16", "f16"])
def test_a_graph_gives_the_bits_of_the_first_call(manifest, precision):
    engine = engines.create("torch", manifest, precision=precision, device="cuda", threads=1)
    for seed in (0, 1):  # one graph serves planes of other content
        fresh = engines.create("torch", manifest, precision=precision, device="cuda", threads=1)
        plain = [m.copy() for m in fresh.run(plane(96, 128, seed))]
        for _ in range(3):
            assert all(np.array_equal(a, b) for a, b in zip(plain, engine.run(plane(96, 128, seed)), strict=True))


def test_f32_on_the_gpu_is_f32(manifest):
    from fastretina.engines.verify import BOUNDS

    outputs = [
        engines.create("torch", manifest, precision="f32", device=d, threads=1).run(plane(96, 128))
        for d in ("cpu", "cuda")
    ]
    for a, b in zip(*outputs, strict=True):  # TF32 would be a thousand times beyond
        assert np.sqrt(np.square(a - b).mean() / np.square(a).mean()) <= BOUNDS["f32"].class_difference


def test_more_sizes_than_graphs_are_kept(manifest):
    from fastretina.engines.torch_graphs import MAX_GRAPHS

    engine = engines.create("torch", manifest, precision="f16", device="cuda", threads=1)
    sizes = [(64, 64 + 8 * i) for i in range(MAX_GRAPHS + 4)]
    first = [[m.copy() for m in engine.run(plane(*size))] for size in sizes]
    for _ in range(2):
        for size, expected in zip(sizes, first, strict=True):
            assert all(np.array_equal(a, b) for a, b in zip(expected, engine.run(plane(*size)), strict=True))


@pytest.mark.parametrize("precision", ["f16", "bf16", "int8", "f32"])
def test_tensorrt_keeps_the_bounds(manifest, precision, tmp_path, monkeypatch):
    from fastretina.engines import tensorrt_build, tensorrt_file, verify

    flavours = tensorrt_file.installed()
    if not flavours:
        pytest.skip("neither tensorrt nor tensorrt-rtx is installed")
    monkeypatch.setenv(tensorrt_file.FOLDER_VARIABLE, str(tmp_path))
    sizes = tensorrt_build.default_sizes(manifest)
    path = tensorrt_build.build(manifest, precision, sizes, tmp_path)
    capability = tensorrt_file.gpu_capability()
    if capability not in tensorrt_file.read_sidecar(path).capabilities:
        pytest.skip(f"{next(iter(flavours))} does not run on compute capability {capability}")
    found = verify.verify("retina_fast", "tensorrt", precision, "cuda")
    assert found.ok, found.rows()
