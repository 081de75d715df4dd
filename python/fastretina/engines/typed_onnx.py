"""A network's ONNX file → the same network with every type written in the graph, as TensorRT reads it.

The shipped files are what CPU engines run: f32 with a batch of 1, and int8 with asymmetric activations (uint8).
TensorRT takes its precision from the graph (strong typing), and quantises symmetrically. Inputs and outputs stay f32.
Needs ``onnx``; it is not imported with this module.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastretina.engines.manifest import Manifest
from fastretina.errors import EngineError, InvalidInput

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto, TensorProto

RECIPE = 1
"""Counts the changes of what this module makes of the same file: an engine of another recipe is stale."""
# What the operators compute in, and the first ONNX opset that defines all of them for that type.
_ELEMENT = {"f32": ("FLOAT", 18), "f16": ("FLOAT16", 18), "bf16": ("BFLOAT16", 22), "int8": ("FLOAT16", 19)}
PRECISIONS = tuple(_ELEMENT)


def typed_model(manifest: Manifest, precision: str) -> ModelProto:
    """The network as ``plane (batch, 1, height, width)`` f32 → maps and descriptors f32, computed in ``precision``.

    "int8": convolutions on int8 with symmetric scales, all else f16. Raises InvalidInput for another precision, and
    EngineError if onnx is not installed or there are no such weights.
    """
    if precision not in _ELEMENT:
        raise InvalidInput(f"precision: got {precision!r}; allowed: {', '.join(PRECISIONS)}")
    try:
        import onnx
        from onnx import version_converter
    except ModuleNotFoundError as error:
        raise EngineError(
            "precision: typed graphs need onnx, which is not installed; remedy: pip install onnx"
        ) from error

    model = onnx.load(str(manifest.weights("int8" if precision == "int8" else "f32")))
    element, opset = _ELEMENT[precision]
    if opset != model.opset_import[0].version:
        model = version_converter.convert_version(model, opset)
    del model.graph.value_info[:]  # of the old types
    for port in (*model.graph.input, *model.graph.output):
        port.type.tensor_type.shape.dim[0].dim_param = "batch"
    if precision == "int8":
        _symmetric(model)
    if precision != "f32":
        _cast(model, getattr(onnx.TensorProto, element))
    onnx.checker.check_model(model, full_check=True)
    return model


def _symmetric(model: ModelProto) -> None:
    """Activations: uint8 with a zero point → int8 around 0, over the larger side of their range. Biases: f32 again."""
    from onnx import numpy_helper

    constants = {tensor.name: tensor for tensor in model.graph.initializer}

    def replace(name: str, value: NDArray[Any]) -> None:
        constants[name].CopyFrom(numpy_helper.from_array(value, name))

    kept: list[NodeProto] = []
    for node in model.graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            scale, zero = (numpy_helper.to_array(constants[name]) for name in node.input[1:3])
            if zero.dtype == np.uint8:
                low, high = -float(zero) * scale, (255 - float(zero)) * scale
                replace(node.input[1], np.asarray(max(-low, high) / 127, np.float32))
                replace(node.input[2], np.asarray(0, np.int8))
            elif zero.dtype == np.int32:  # a bias: exact in int32, and TensorRT wants the number
                bias = numpy_helper.to_array(constants[node.input[0]]) * scale
                model.graph.initializer.append(numpy_helper.from_array(bias.astype(np.float32), node.output[0]))
                continue
        kept.append(node)
    _set_nodes(model, kept)


def _cast(model: ModelProto, element: int) -> None:
    """Everything between the first and the last node in ``element``; the sizes that Resize reads stay f32."""
    from onnx import TensorProto, helper

    graph = model.graph
    sizes = {name for node in graph.node if node.op_type == "Resize" for name in node.input[1:]}
    for tensor in graph.initializer:
        if tensor.data_type == TensorProto.FLOAT and tensor.name not in sizes:
            tensor.CopyFrom(_as_type(tensor, element))
    inside = {port.name: f"{port.name}_typed" for port in (*graph.input, *graph.output)}
    nodes = [helper.make_node("Cast", [p.name], [inside[p.name]], to=element) for p in graph.input]
    for node in graph.node:
        if node.op_type == "Constant" and not set(node.output) <= sizes:
            raise EngineError(f"weights: {node.name} is a constant inside the graph; expected initializers")
        _rename(node.input, inside.get)
        _rename(node.output, inside.get)
        nodes.append(node)
    nodes += [helper.make_node("Cast", [inside[p.name]], [p.name], to=TensorProto.FLOAT) for p in graph.output]
    _set_nodes(model, nodes)


def _as_type(tensor: TensorProto, element: int) -> TensorProto:
    from onnx import helper, numpy_helper

    value = numpy_helper.to_array(tensor).astype(helper.tensor_dtype_to_np_dtype(element))
    return numpy_helper.from_array(value, tensor.name)


def _rename(names: Any, new: Callable[[str], str | None]) -> None:
    names[:] = [new(name) or name for name in names]


def _set_nodes(model: ModelProto, nodes: Iterable[NodeProto]) -> None:
    """Replace all nodes, and drop the initializers that none of them reads any more."""
    copies = [type(node).FromString(node.SerializeToString()) for node in nodes]
    del model.graph.node[:]
    model.graph.node.extend(copies)
    read = {name for node in copies for name in node.input}
    used = [tensor for tensor in model.graph.initializer if tensor.name in read]
    del model.graph.initializer[:]
    model.graph.initializer.extend(used)
