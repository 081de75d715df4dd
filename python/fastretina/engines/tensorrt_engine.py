"""TensorRT or TensorRT-RTX on an NVIDIA GPU. torch holds the memory and the stream. No GPU has run this file yet."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastretina.engines import tensorrt_file
from fastretina.engines.export import INPUT, OUTPUTS
from fastretina.engines.manifest import Manifest
from fastretina.engines.tensorrt_build import _log
from fastretina.engines.torch_engine import torch_device
from fastretina.errors import EngineError


class TensorRTEngine:
    """A network that was built for the GPU by ``fastretina engine build``, at the precision of its file."""

    name = "tensorrt"

    def __init__(self, manifest: Manifest, *, precision: str = "auto", device: str = "auto", threads: int = 1) -> None:
        self._device = torch_device(device)
        if self._device.type != "cuda":
            raise EngineError(f"device: tensorrt needs an NVIDIA GPU, got {device!r}; remedy: engine='openvino'")
        there = tensorrt_file.here(manifest, tensorrt_file.gpu_capability(self._device.index))
        path = tensorrt_file.choose(manifest, precision, there, tensorrt_file.engines_folder())
        sidecar, plan = tensorrt_file.read_engine(path, there)
        self.device, self.precision = str(self._device), sidecar.precision
        self.multiple, self.dims, self.max_batch = manifest.multiple, manifest.dims, sidecar.max_shape[0]
        with torch.cuda.device(self._device):
            engine = _deserialised(tensorrt_file.library(sidecar.flavour), plan, path.name)
            if engine.name != sidecar.identity:
                raise EngineError(f"engine: {path} calls itself {engine.name!r}; remedy: fastretina engine build")
            self._runner = Runner(engine, sidecar, manifest.dims, self._device)

    def run(self, plane: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """``(H, W)`` float32 -> class maps ``(2, H/4, W/4)``, descriptors ``(D, H/4, W/4)``."""
        maps, descriptors = self.run_on_device(torch.from_numpy(np.array(plane[None, None])).to(self._device))
        return maps[0].cpu().numpy(), descriptors[0].cpu().numpy()

    def run_on_device(self, planes: Tensor) -> tuple[Tensor, Tensor]:
        """``(N, 1, H, W)`` f32 on the device -> class maps ``(N, 2, H/4, W/4)``, descriptors, on the current stream."""
        with torch.cuda.device(self._device):
            return self._runner(planes, torch.cuda.current_stream(self._device).cuda_stream)


class Runner:
    """An execution context, and tensors of torch for what goes in and out."""

    def __init__(self, engine: Any, sidecar: tensorrt_file.Sidecar, dims: int, device: torch.device) -> None:
        self._sidecar, self._dims, self._device = sidecar, dims, device
        self._engine = engine  # has to outlive its context
        self._context = engine.create_execution_context()
        if self._context is None:
            raise EngineError("engine: TensorRT has no memory for an execution context; remedy: a smaller --max-size")

    def __call__(self, planes: Tensor, stream: int) -> tuple[Tensor, Tensor]:
        """Enqueue on ``stream`` (a cudaStream_t); nothing is waited for."""
        count, _, height, width = planes.shape
        self._check(count, height, width)
        planes = planes.contiguous()
        shape = (count, -1, height // 4, width // 4)
        maps, descriptors = (
            torch.empty((count, channels, *shape[2:]), dtype=torch.float32, device=self._device)
            for channels in (2, self._dims)
        )
        if not self._context.set_input_shape(INPUT, tuple(planes.shape)):
            raise EngineError(f"plane: TensorRT takes no input of {tuple(planes.shape)}")
        for name, tensor in zip((INPUT, *OUTPUTS), (planes, maps, descriptors), strict=True):
            self._context.set_tensor_address(name, tensor.data_ptr())
        if not self._context.execute_async_v3(stream):
            raise EngineError(f"engine: TensorRT failed to run an input of {tuple(planes.shape)}")
        return maps, descriptors

    def _check(self, *got: int) -> None:
        low, high = self._sidecar.min_shape, self._sidecar.max_shape
        if any(not least <= value <= most for least, value, most in zip(low, got, high, strict=True)):
            command = tensorrt_file.build_command(self._sidecar.network, self._sidecar.precision)
            raise EngineError(
                f"plane: got (batch, height, width) = {got}; this engine takes {low} ... {high}; "
                f"remedy: {command} --max-size {max(got[1:])} --batch {got[0]}, or a smaller working_size"
            )


def _deserialised(trt: Any, plan: bytes, name: str) -> Any:
    log = _log(trt)
    log.errors.clear()
    engine = trt.Runtime(log).deserialize_cuda_engine(plan)
    if engine is None:
        said = "; ".join(log.errors) or "no reason given"
        raise EngineError(f"engine: {name} does not load here ({said}); remedy: fastretina engine build")
    return engine
