"""Export: a trained network → ONNX f32, ONNX int8 (QDQ) and safetensors, with their SHA-256.

``export_network`` needs torch and onnx, ``quantise`` onnxruntime; none is imported with this module.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastretina.errors import InvalidInput

if TYPE_CHECKING:
    from torch import nn

OPSET = 18
INPUT = "plane"
OUTPUTS = ("class_maps", "descriptors")
WORKING_SIZES = (480, 640)


@dataclass(frozen=True)
class Exported:
    """One written file and its SHA-256."""

    path: Path
    sha256: str


def _written(path: Path) -> Exported:
    return Exported(path, hashlib.sha256(path.read_bytes()).hexdigest())


def fold_batch_norm(network: nn.Module) -> nn.Module:
    """A copy in evaluation mode whose batch normalisations are part of the convolutions before them."""
    import copy

    from torch import nn
    from torch.nn.utils.fusion import fuse_conv_bn_eval

    folded = copy.deepcopy(network).eval()
    for module in folded.modules():
        if isinstance(module, nn.Sequential):
            for i in range(len(module) - 1):
                first, second = module[i], module[i + 1]
                if isinstance(first, nn.Conv2d) and isinstance(second, nn.BatchNorm2d):
                    module[i], module[i + 1] = fuse_conv_bn_eval(first, second), nn.Identity()
    return folded


def export_onnx(network: nn.Module, path: Path) -> Exported:
    """Write ``(1, 1, H, W)`` → ``class_maps``, ``descriptors`` as ONNX f32, ``H`` and ``W`` dynamic, checked."""
    import onnx
    import torch

    folded = fold_batch_norm(network).to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    temporary = path.with_suffix(".partial")
    axes = {INPUT: {2: "height", 3: "width"}, **{o: {2: "rows", 3: "columns"} for o in OUTPUTS}}
    with warnings.catch_warnings():
        # The TorchScript exporter is deprecated; its successor needs a further package and gives the same graph.
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(
            folded,
            (torch.zeros(1, 1, 160, 224),),
            str(temporary),
            input_names=[INPUT],
            output_names=list(OUTPUTS),
            dynamic_axes=axes,
            opset_version=OPSET,
            dynamo=False,
            do_constant_folding=True,
        )
    model = onnx.load(str(temporary))
    onnx.checker.check_model(model, full_check=True)
    model.producer_name = "fastretina"
    temporary.unlink()
    path.write_bytes(model.SerializeToString())
    return _written(path)


def export_safetensors(network: nn.Module, path: Path) -> Exported:
    """Write the state dict (batch normalisation not folded) for the torch engine and for fine-tuning."""
    from safetensors.torch import save

    path.write_bytes(save({k: v.contiguous() for k, v in network.state_dict().items()}))
    return _written(path)


def calibration_planes(images: Iterable[NDArray[Any]], multiple: int) -> Iterator[NDArray[np.float32]]:
    """Training images → normalised planes ``(1, 1, H, W)`` at the working sizes, every other one inverted."""
    from fastretina.training.normalise import network_input

    for i, image in enumerate(images):
        planes, _ = network_input(image, WORKING_SIZES[i % len(WORKING_SIZES)], multiple)
        plane = planes.numpy()
        yield -plane if i % 2 else plane


def quantise(f32: Path, path: Path, planes: Iterable[NDArray[np.float32]]) -> Exported:
    """Write the int8 twin of an ONNX file: QDQ around the convolutions, weights per output channel.

    ``planes`` are network inputs made of TRAINING images.  Raises ``InvalidInput`` when there are none.
    """
    from onnxruntime.quantization import (
        CalibrationDataReader,
        CalibrationMethod,
        QuantFormat,
        QuantType,
        quantize_static,
    )

    rows = [np.ascontiguousarray(p, np.float32) for p in planes]
    if not rows:
        raise InvalidInput("planes: no calibration plane; give the normalised planes of training images")

    class Reader(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime carries no types
        def __init__(self) -> None:
            self.left = iter(rows)

        def get_next(self) -> dict[str, NDArray[np.float32]] | None:
            plane = next(self.left, None)
            return None if plane is None else {INPUT: plane}

    quantize_static(
        str(f32),
        str(path),
        Reader(),
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=["Conv"],
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        calibrate_method=CalibrationMethod.MinMax,
        extra_options={"CalibMovingAverage": True, "OpTypesToExcludeOutputQuantization": ["Conv"]},
    )
    return _written(path)


def write_manifest(path: Path, facts: dict[str, Any], weights: dict[str, Exported]) -> None:
    """Write ``<name>.toml``: ``facts`` (tables of plain values) and one ``[weights.KIND]`` table a file."""
    lines = ["# Written by `fastretina.engines.export`; facts of the network, read by every engine."]
    tables = {k: v for k, v in facts.items() if isinstance(v, dict)}
    lines += [f"{k} = {_toml(v)}" for k, v in facts.items() if k not in tables]
    for name, table in tables.items():
        lines += ["", f"[{name}]", *(f"{k} = {_toml(v)}" for k, v in table.items())]
    for kind, file in weights.items():
        lines += ["", f"[weights.{kind}]", f"file = {_toml(file.path.name)}", f"sha256 = {_toml(file.sha256)}"]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _toml(value: object) -> str:
    """A TOML value; strings as JSON strings, which TOML's basic strings include."""
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_toml(v) for v in value) + "]"
    if isinstance(value, (bool, int, float, str)):
        return json.dumps(value, ensure_ascii=False)
    raise TypeError(f"value: {value!r} has no TOML form here")
