"""Engines: one network behind one interface, whoever runs it."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from fastretina import EngineError, InvalidInput, engines

# Rounding of a network of ~20 layers whose sums have a few hundred terms: f32 differs by accumulation order only.
F32_BOUND = 2e-3  # of outputs whose standard deviation is of order 1 to 10


@pytest.fixture(scope="module")
def plane() -> np.ndarray:
    noise = np.random.default_rng(3).normal(size=(96, 128)).astype(np.float32)
    return np.clip(noise, -4, 4)


@pytest.fixture(scope="module")
def manifest() -> engines.Manifest:
    return engines.load_manifest("default")


def run(name: str, manifest: engines.Manifest, plane: np.ndarray, precision: str = "f32", threads: int = 1):
    engine = engines.create(name, manifest, precision=precision, device="cpu", threads=threads)
    maps, descriptors = engine.run(plane)
    return maps.copy(), descriptors.copy()


def test_output_shapes_are_those_of_the_manifest(manifest, plane):
    maps, descriptors = run("openvino", manifest, plane)
    assert maps.shape == (2, 24, 32)
    assert descriptors.shape == (manifest.dims, 24, 32)
    assert maps.dtype == descriptors.dtype == np.float32


@pytest.mark.parametrize("other", ["torch", "onnxruntime"])
def test_f32_engines_agree(manifest, plane, other):
    pytest.importorskip(other)
    expected = run("openvino", manifest, plane)
    for a, b in zip(expected, run(other, manifest, plane), strict=True):
        assert np.abs(a - b).max() <= F32_BOUND * max(1.0, float(np.abs(a).max()))


@pytest.mark.parametrize("precision", ["f32", "int8"])
def test_openvino_gives_the_same_bits_again_and_on_two_threads(manifest, plane, precision):
    first = run("openvino", manifest, plane, precision)
    for threads in (1, 2):
        again = run("openvino", manifest, plane, precision, threads)
        assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))


def test_lower_precisions_stay_close_in_direction(manifest, plane):
    reference = run("openvino", manifest, plane)[1]
    low = run("openvino", manifest, plane, "int8")[1]
    cosine = (reference * low).sum(0) / np.linalg.norm(reference, axis=0) / np.linalg.norm(low, axis=0)
    assert np.median(cosine) > 0.97


def test_misuse(manifest):
    with pytest.raises(InvalidInput, match="engine: got 'openvin'"):
        engines.create("openvin", manifest, precision="auto", device="cpu", threads=1)
    with pytest.raises(EngineError, match="precision: 'f16'"):
        engines.create("openvino", manifest, precision="f16", device="cpu", threads=1)
    with pytest.raises(EngineError, match="device"):
        engines.create("openvino", manifest, precision="f32", device="cuda", threads=1)
    with pytest.raises(InvalidInput, match="weights: got 'nothing'"):
        engines.load_manifest("nothing")


def test_every_engine_says_where_it_runs(manifest):
    for name in (n for n in engines.available() if n != "tensorrt"):  # which has no CPU
        engine = engines.create(name, manifest, precision="f32", device="cpu", threads=1)
        assert (engine.name, engine.precision, engine.device) == (name, "f32", "cpu")


def test_a_cuda_device_that_is_not_there_is_refused(manifest, monkeypatch):
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(EngineError, match=r"device: got 'cuda:2', and torch sees 2 CUDA devices"):
        engines.create("torch", manifest, precision="f32", device="cuda:2", threads=1)


def test_auto_on_a_gpu_is_torch(manifest, monkeypatch):
    pytest.importorskip("torch")
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(EngineError, match=r"device: got 'cuda', and torch sees"):  # not: openvino runs on the CPU
        engines.create("auto", manifest, precision="auto", device="cuda", threads=1)


def test_auto_never_takes_an_engine_that_has_to_be_built(manifest, monkeypatch):
    monkeypatch.setattr(engines, "available", lambda: ["tensorrt"])
    with pytest.raises(EngineError, match="engine: none is installed; remedy: pip install openvino"):
        engines.create("auto", manifest, precision="auto", device="auto", threads=1)


def test_what_an_engine_lacks_is_named(manifest, monkeypatch):
    monkeypatch.setattr(engines, "available", lambda: ["openvino"])
    with pytest.raises(EngineError, match=r"'tensorrt' is not installed; remedy: pip install tensorrt-rtx"):
        engines.create("tensorrt", manifest, precision="auto", device="auto", threads=1)
    monkeypatch.setitem(engines.ENGINES, "openvino", (("openvino",), "a_library_that_is_not_there:Engine"))
    with pytest.raises(EngineError, match="'openvino' also needs a_library_that_is_not_there"):
        engines.create("openvino", manifest, precision="auto", device="auto", threads=1)


def test_torch_runs_batches_of_tensors(manifest, plane):
    torch = pytest.importorskip("torch")
    engine = engines.create("torch", manifest, precision="f32", device="cpu", threads=1)
    alone = [m.copy() for m in engine.run(plane)]
    together = engine.run_on_device(torch.from_numpy(np.stack([plane[None], -plane[None], plane[None]])))
    for one, many in zip(alone, together, strict=True):
        for i in (0, 2):
            np.testing.assert_allclose(many[i].numpy(), one, rtol=0, atol=F32_BOUND * max(1, np.abs(one).max()))
        assert not np.allclose(many[1].numpy(), one, atol=0.1)


def custom(folder, **size):
    """A weight set of a network of other sizes; only its PyTorch file is there."""
    from fastretina.engines import export
    from fastretina.networks.retina_craquelure import NetworkSize, RetinaCraquelureNet

    network = RetinaCraquelureNet(NetworkSize(**size))
    tensors = export.export_safetensors(network, folder / "own.safetensors")
    facts = {"name": "own", "pad_multiple": 8, "descriptor_dims": network.size.dim, "network": network.size.as_dict()}
    export.write_manifest(folder / "own.toml", facts, {"onnx": tensors, "safetensors": tensors})
    return folder / "own.toml"


def test_a_network_of_other_sizes_is_built_from_its_manifest(tmp_path, plane):
    pytest.importorskip("torch")
    pytest.importorskip("safetensors")
    path = custom(tmp_path, quarter=16, dim=32, eighth_dilations=(1,))
    maps, descriptors = run("torch", engines.load_manifest(path), plane)
    assert maps.shape == (2, 24, 32)
    assert descriptors.shape == (32, 24, 32)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("dim = 32", "dim = 64"),  # not the sizes of the weights
        ("dim = 32", "dimm = 32"),
        ("dim = 32", "dim = 'x'"),
        ("descriptor_dims = 32", "descriptor_dims = 64"),
        ("pad_multiple = 8", "pad_multiple = 16"),
        ("[network]", "[size]"),  # then the sizes of the shipped network count
    ],
)
def test_weights_of_another_network_than_the_manifest_says(tmp_path, old, new):
    pytest.importorskip("torch")
    pytest.importorskip("safetensors")
    path = custom(tmp_path, dim=32)
    text = path.read_text()
    assert f"\n{old}\n" in text
    path.write_text(text.replace(f"\n{old}\n", f"\n{new}\n"))
    with pytest.raises(EngineError, match="weights: ") as error:
        engines.load_manifest(path).torch_network()
    assert len(str(error.value)) < 600


def test_altered_or_missing_weights_are_refused(manifest, tmp_path):
    for file in manifest.folder.iterdir():
        shutil.copy(file, tmp_path)
    altered = engines.load_manifest(tmp_path / f"{manifest.name}.toml")
    path = altered.weights("f32")
    path.write_bytes(path.read_bytes()[:-1] + b"\0\0")
    with pytest.raises(EngineError, match="is not the file of its manifest"):
        altered.weights("f32")
    path.unlink()
    with pytest.raises(EngineError, match="is missing"):
        altered.weights("f32")


def test_a_broken_manifest_is_refused(tmp_path):
    path = tmp_path / "broken.toml"
    path.write_text("name = 'x'\n")
    with pytest.raises(EngineError, match="is no manifest"):
        engines.load_manifest(path)
