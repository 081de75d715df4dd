"""Typed graphs, engines that TensorRT-RTX really builds (without a GPU), and the adapter around a context."""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import json

import numpy as np
import pytest
from fastretina import EngineError, InvalidInput, engines
from fastretina.cli import main
from fastretina.engines import tensorrt_build, tensorrt_file, typed_onnx, verify

onnx = pytest.importorskip("onnx", reason="typed graphs need onnx")

SMALL = tensorrt_build.Sizes((8, 8), (96, 128), (160, 160), 4)


@pytest.fixture(scope="module")
def manifest() -> engines.Manifest:
    return engines.load_manifest("retina_fast")


@pytest.fixture(scope="module")
def trt():
    return pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed: pip install tensorrt-rtx")


# ---- typed graphs --------------------------------------------------------------------------------------------------


class TypedEngine:
    """A typed graph, run by ONNX Runtime as it is written: its optimiser would fold casts and scales."""

    def __init__(self, manifest: engines.Manifest, precision: str) -> None:
        runtime = pytest.importorskip("onnxruntime")
        options = runtime.SessionOptions()
        options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.intra_op_num_threads = 1
        model = typed_onnx.typed_model(manifest, precision).SerializeToString()
        self.multiple = manifest.multiple
        self.session = runtime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    def batch(self, planes):
        return self.session.run(None, {"plane": planes})

    def run(self, plane):
        maps, descriptors = self.batch(plane[None, None])
        return maps[0], descriptors[0]


@pytest.mark.parametrize("precision", ["f32", "f16", "int8"])  # ONNX Runtime has no bf16 convolution on CPUs
def test_a_typed_graph_keeps_the_bounds(manifest, precision):
    from fastretina.synth import synthetic_pair

    reference = engines.create("onnxruntime", manifest, precision="f32", device="cpu", threads=1)
    image = synthetic_pair(4, size=(480, 480)).fixed
    difference, descriptors, found, points = verify.compare(reference, TypedEngine(manifest, precision), image)
    bound = verify.BOUNDS[precision]
    assert difference <= bound.class_difference
    assert descriptors <= bound.descriptors
    assert found >= bound.recall * points
    assert (difference < 1e-6) == (precision == "f32")  # the types are really other ones


def test_a_batch_is_its_planes_one_by_one(manifest):
    planes = np.clip(np.random.default_rng(5).normal(size=(3, 1, 40, 56)), -4, 4).astype(np.float32)
    typed = TypedEngine(manifest, "f16")
    for together, alone in zip(typed.batch(planes), zip(*(typed.run(p[0]) for p in planes), strict=True), strict=True):
        np.testing.assert_array_equal(together, np.stack(alone))


@pytest.mark.parametrize(("precision", "element"), [("f32", 1), ("f16", 10), ("bf16", 16), ("int8", 10)])
def test_every_operator_has_the_type(manifest, precision, element):
    model = onnx.shape_inference.infer_shapes(typed_onnx.typed_model(manifest, precision), strict_mode=True)
    ports = [*model.graph.input, *model.graph.output]
    assert [port.name for port in ports] == ["plane", "class_maps", "descriptors"]
    for port in ports:
        assert port.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
        assert port.type.tensor_type.shape.dim[0].dim_param == "batch"
    types = {value.name: value.type.tensor_type.elem_type for value in model.graph.value_info}
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    inner = {types[node.output[0]] for node in convolutions if node.output[0] in types}
    assert inner == {element}
    quantised = [node for node in model.graph.node if node.op_type == "QuantizeLinear"]
    assert bool(quantised) == (precision == "int8")
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in quantised:
        zero = onnx.numpy_helper.to_array(constants[node.input[2]])
        assert zero.dtype == np.int8
        assert not zero.any()


def test_misuse_of_typed_graphs(manifest):
    with pytest.raises(InvalidInput, match="precision: got 'auto'; allowed: f32, f16, bf16, int8"):
        typed_onnx.typed_model(manifest, "auto")
    bare = engines.Manifest(manifest.folder, {**manifest.data, "weights": {"onnx": manifest.data["weights"]["onnx"]}})
    with pytest.raises(EngineError, match="has no int8 file"):
        typed_onnx.typed_model(bare, "int8")


# ---- engines that are really built ---------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", ["f16", "int8"])
def test_an_engine_is_built_without_a_gpu(trt, manifest, tmp_path, precision):
    path = tensorrt_build.build(manifest, precision, SMALL, tmp_path)
    assert path.name == f"retina_fast.{precision}.tensorrt_rtx.engine"
    assert sorted(p.name for p in tmp_path.iterdir()) == [path.name, path.name + ".json"]
    sidecar, plan = tensorrt_file.read_engine(path, tensorrt_file.here(manifest))
    assert len(plan) > 100_000
    assert (sidecar.precision, sidecar.flavour, sidecar.version) == (precision, "tensorrt_rtx", trt.__version__)
    assert (sidecar.min_shape, sidecar.opt_shape, sidecar.max_shape) == ((1, 8, 8), (4, 96, 128), (4, 160, 160))
    assert sidecar.network_sha256 == manifest.file_hash(precision)
    assert "8.9" in sidecar.capabilities
    assert "7.5" not in sidecar.capabilities
    assert sidecar.identity.encode() in plan  # what the runtime will call the engine


def test_what_the_builder_sees(trt, manifest):
    """Names, types, dynamic sides and batch, as TensorRT reads them out of the typed graph."""
    builder = trt.Builder(tensorrt_build._log(trt))
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, tensorrt_build._log(trt))
    assert parser.parse(typed_onnx.typed_model(manifest, "bf16").SerializeToString())
    ports = [network.get_input(0), network.get_output(0), network.get_output(1)]
    assert (network.num_inputs, network.num_outputs) == (1, 2)
    assert [port.name for port in ports] == ["plane", "class_maps", "descriptors"]
    assert [tuple(port.shape) for port in ports] == [(-1, 1, -1, -1), (-1, 2, -1, -1), (-1, manifest.dims, -1, -1)]
    assert {port.dtype for port in ports} == {trt.DataType.FLOAT}


def test_an_engine_for_one_gpu(trt, manifest, tmp_path):
    path = tensorrt_build.build(manifest, "f32", SMALL, tmp_path, "tensorrt_rtx", ("7.5",))
    assert tensorrt_file.read_sidecar(path).capabilities == ("7.5",)
    there = tensorrt_file.here(manifest, "8.9")
    with pytest.raises(
        EngineError, match=r"runs on compute capability 7.5, this GPU has 8.9; remedy: fastretina engine"
    ):
        tensorrt_file.read_engine(path, there)


def test_a_stale_engine_is_never_loaded(trt, manifest, tmp_path, monkeypatch):
    """Through the adapter's own door: a GPU is pretended, and each refusal comes before TensorRT sees the file."""
    torch = pytest.importorskip("torch")
    from fastretina.engines import tensorrt_engine

    path = tensorrt_build.build(manifest, "f16", SMALL, tmp_path)
    monkeypatch.setenv("FASTRETINA_ENGINES", str(tmp_path))
    monkeypatch.setattr(tensorrt_engine, "torch_device", lambda name: torch.device("cuda", 0))
    monkeypatch.setattr(tensorrt_file, "gpu_capability", lambda index=0: "8.9")
    monkeypatch.setattr(torch.cuda, "device", lambda device: contextlib.nullcontext())
    loaded = []
    monkeypatch.setattr(tensorrt_engine, "_deserialised", lambda *args: loaded.append(args) or pytest.fail("loaded"))

    def refusal(**changes):
        sidecar = tensorrt_file.read_sidecar(path)
        tensorrt_file.sidecar_path(path).write_text(dataclasses.replace(sidecar, **changes).to_json())
        with pytest.raises(EngineError) as error:
            engines.create("tensorrt", manifest, precision="f16", device="cuda", threads=1)
        tensorrt_file.sidecar_path(path).write_text(sidecar.to_json())
        assert "remedy: fastretina engine build --weights retina_fast --precision f16" in str(error.value)
        return str(error.value)

    assert "another network" in refusal(network_sha256="0" * 64)
    assert "here is " + trt.__version__ in refusal(version="0.9")
    assert "this GPU has 8.9" in refusal(capabilities=("12.0",))
    assert "SHA-256 differs" in refusal(sha256="0" * 64)
    assert not loaded


def test_misuse_of_build(trt, manifest, tmp_path):
    with pytest.raises(InvalidInput, match=r"capabilities: got '9.9'; TensorRT-RTX builds for 7.5, "):
        tensorrt_build.build(manifest, "f16", SMALL, tmp_path, "tensorrt_rtx", ("9.9",))
    with pytest.raises(InvalidInput, match="flavour: got 'rtx'"):
        tensorrt_build.build(manifest, "f16", SMALL, tmp_path, "rtx")
    with pytest.raises(EngineError, match="cannot read the network"):
        tensorrt_build._plan(trt, b"no model", _draft(manifest))
    assert not list(tmp_path.iterdir())


def _draft(manifest: engines.Manifest) -> tensorrt_file.Sidecar:
    shapes = SMALL.shapes(manifest.multiple)
    return tensorrt_file.Sidecar(manifest.name, "0", 1, "f16", *shapes, "tensorrt_rtx", "1", ("8.9",), "0")


def test_the_command_line(trt, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("FASTRETINA_ENGINES", str(tmp_path))
    sizes = ["--min-size", "8", "--opt-size", "96x128", "--max-size", "160", "--batch", "2"]
    assert main(["engine", "build", "--weights", "retina_fast", "--precision", "fp16", *sizes]) == 0
    assert "fresh; batch x height x width 1x8x8 ... 2x160x160" in capsys.readouterr().out
    sidecar = tmp_path / "retina_fast.f16.tensorrt_rtx.engine.json"
    facts = json.loads(sidecar.read_text())
    assert facts["opt_shape"] == [2, 96, 128]
    sidecar.write_text(json.dumps({**facts, "version": "0.1"}))
    assert main(["engine", "list"]) == 0
    assert f"refused: engine: {tmp_path}" in capsys.readouterr().out
    assert main(["engine", "build", "--precision", "int8", "--max-size", "161"]) == 2
    assert "max-size: got 161x161; allowed: multiples of 8" in capsys.readouterr().err


# ---- the adapter ---------------------------------------------------------------------------------------------------


class StandIn:
    """What the adapter calls of TensorRT's engine and context, on the CPU: it writes ones and twos where it is told."""

    def __init__(self, dims: int) -> None:
        self.dims, self.addresses, self.shape = dims, {}, None

    def create_execution_context(self):
        return self

    def set_input_shape(self, name, shape):
        assert name == "plane"
        self.shape = shape
        return shape[2] != 24  # a shape that TensorRT does not like

    def set_tensor_address(self, name, address):
        self.addresses[name] = address
        return True

    def execute_async_v3(self, stream):
        assert stream == 7
        count, _, height, width = self.shape
        for name, channels, value in (("class_maps", 2, 1.0), ("descriptors", self.dims, 2.0)):
            size = count * channels * (height // 4) * (width // 4)
            memory = (ctypes.c_float * size).from_address(self.addresses[name])
            memory[:] = [value] * size
        first = ctypes.c_float.from_address(self.addresses["plane"]).value
        return first == 0.0  # the plane that was given; another one: a failure


def test_the_adapter_hands_over_shapes_and_addresses(manifest):
    torch = pytest.importorskip("torch")
    from fastretina.engines.tensorrt_engine import Runner

    runner = Runner(StandIn(manifest.dims), _draft(manifest), manifest.dims, torch.device("cpu"))
    maps, descriptors = runner(torch.zeros(2, 1, 32, 48), 7)
    assert torch.equal(maps, torch.ones(2, 2, 8, 12))
    assert torch.equal(descriptors, torch.full((2, manifest.dims, 8, 12), 2.0))
    with pytest.raises(EngineError, match=r"this engine takes \(1, 8, 8\) ... \(4, 160, 160\); .*--max-size 168"):
        runner(torch.zeros(1, 1, 168, 8), 7)
    with pytest.raises(EngineError, match="batch"):
        runner(torch.zeros(5, 1, 8, 8), 7)
    with pytest.raises(EngineError, match="takes no input"):
        runner(torch.zeros(1, 1, 24, 8), 7)
    with pytest.raises(EngineError, match="failed to run"):
        runner(torch.ones(1, 1, 8, 8), 7)


def test_the_stand_in_has_methods_of_the_real_ones(trt):
    for method in ("set_input_shape", "set_tensor_address", "execute_async_v3"):
        assert hasattr(trt.IExecutionContext, method)
    assert hasattr(trt.ICudaEngine, "create_execution_context")
    assert hasattr(trt.ICudaEngine, "name")
    assert hasattr(trt.Runtime, "deserialize_cuda_engine")


def test_without_a_gpu_it_says_so(manifest):
    pytest.importorskip("tensorrt_rtx")
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(
        EngineError, match=r"device: tensorrt needs an NVIDIA GPU, got 'auto'; remedy: engine='openvino'"
    ):
        engines.create("tensorrt", manifest, precision="f16", device="auto", threads=1)
