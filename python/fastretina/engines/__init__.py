"""Room 2, network: who runs it. One adapter a file; importing this package imports no inference library.

An engine is an object with ``name``, ``precision``, ``device`` (where it runs: "cpu", "cuda:0"), ``multiple`` (what
plane sizes are padded to), ``dims`` (of a descriptor) and ``run(plane)``: ``(H, W)`` float32 -> class maps
``(2, H/4, W/4)`` and descriptors ``(D, H/4, W/4)``.

Engines of a GPU also have ``run_on_device(planes)``: a torch tensor ``(N, 1, H, W)`` f32 there -> both maps there.

The plane is the caller's memory: read it during ``run`` only, never write to it, never keep it. What ``run`` returns
is valid until the next run. An engine belongs to one thread at a time.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fastretina.engines.manifest import Manifest, load_manifest
from fastretina.errors import EngineError, InvalidInput

__all__ = ["ENGINES", "Engine", "Manifest", "available", "create", "load_manifest"]

Maps = tuple[NDArray[np.float32], NDArray[np.float32]]


class Engine(Protocol):
    """What the pipeline asks of a network, whoever runs it."""

    name: str
    precision: str
    device: str
    multiple: int
    dims: int

    def run(self, plane: NDArray[np.float32]) -> Maps:
        """``(H, W)`` float32, sides multiples of ``multiple`` -> (class maps, descriptors), float32."""
        ...


# Name -> (libraries, one of which it needs, adapter). In order of preference for engine="auto" on a CPU.
ENGINES: dict[str, tuple[tuple[str, ...], str]] = {
    "openvino": (("openvino",), "fastretina.engines.openvino_engine:OpenVINOEngine"),
    "onnxruntime": (("onnxruntime",), "fastretina.engines.onnxruntime_engine:OnnxRuntimeEngine"),
    "torch": (("torch",), "fastretina.engines.torch_engine:TorchEngine"),
    "tensorrt": (("tensorrt_rtx", "tensorrt"), "fastretina.engines.tensorrt_engine:TensorRTEngine"),
}
_REMEDIES = {"tensorrt": "pip install tensorrt-rtx (docs/GPU.md says what else)"}
_ON_GPU = "torch"  # for engine="auto" on a CUDA device; TensorRT runs what was built for it, and is asked for by name


def available() -> list[str]:
    """The engines whose library is installed, best first. Imports none of them."""
    return [
        name
        for name, (libraries, _) in ENGINES.items()
        if any(importlib.util.find_spec(library) is not None for library in libraries)
    ]


def create(name: str, manifest: Manifest, *, precision: str, device: str, threads: int) -> Engine:
    """The engine ``name`` ("auto": the best one installed for the device) with the network of ``manifest``.

    Raises InvalidInput for an unknown name and EngineError where the engine is not installed or cannot run the network.
    """
    installed = available()
    if name == "auto":
        name = _ON_GPU if device.startswith("cuda") else next((n for n in installed if n != "tensorrt"), "auto")
        if name == "auto":
            raise EngineError("engine: none is installed; remedy: pip install openvino")
    if name not in ENGINES:
        raise InvalidInput(f"engine: got {name!r}; allowed: auto, {', '.join(ENGINES)}")
    if name not in installed:
        remedy = _REMEDIES.get(name, f"pip install {name}")
        raise EngineError(f"engine: {name!r} is not installed; remedy: {remedy}")
    module, _, adapter = ENGINES[name][1].partition(":")
    try:
        build: Callable[..., Any] = getattr(importlib.import_module(module), adapter)
    except ModuleNotFoundError as error:
        raise EngineError(f"engine: {name!r} also needs {error.name}; remedy: pip install {error.name}") from error
    engine: Engine = build(manifest, precision=precision, device=device, threads=threads)
    return engine
