"""OpenVINO: the default engine on CPUs. f32 and bf16 run the f32 file, int8 runs the quantised one."""

from __future__ import annotations

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from fastretina.engines.manifest import Manifest
from fastretina.errors import EngineError

# Fastest first, with what the processor must offer for it to be native.
_CAPABILITY = {"int8": "INT8", "bf16": "BF16", "f32": "FP32"}
_HINT = {"int8": ov.Type.f32, "bf16": ov.Type.bf16, "f32": ov.Type.f32}


class OpenVINOEngine:
    """One network at one precision on the CPU."""

    name = "openvino"
    device = "cpu"

    def __init__(self, manifest: Manifest, *, precision: str = "auto", device: str = "auto", threads: int = 1) -> None:
        if device not in ("auto", "cpu"):
            raise EngineError(f"device: openvino runs on the CPU here, got {device!r}; remedy: device='cpu'")
        self.multiple, self.dims = manifest.multiple, manifest.dims
        self._core = ov.Core()
        self.precision = self._choose(precision, manifest)
        weights = manifest.weights("int8" if self.precision == "int8" else "f32")
        model = self._core.read_model(weights.read_bytes(), b"")
        # Compiled once for every size: as fast as for one size, and the ladder shows images at many.
        model.reshape([1, 1, -1, -1])
        config = {
            ov.properties.inference_num_threads: threads,
            ov.properties.num_streams: 1,
            ov.properties.hint.inference_precision: _HINT[self.precision],
            ov.properties.hint.enable_cpu_pinning: False,
        }
        self._request = self._core.compile_model(model, "CPU", config).create_infer_request()

    def _choose(self, precision: str, manifest: Manifest) -> str:
        native = set(self._core.get_property("CPU", ov.properties.device.capabilities))
        runnable = [p for p, capability in _CAPABILITY.items() if capability in native and manifest.offers(p)]
        if precision == "auto":
            return runnable[0]
        if precision not in runnable:
            raise EngineError(
                f"precision: {precision!r} does not run natively here; allowed: {', '.join(['auto', *runnable])}"
            )
        return precision

    def run(self, plane: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """``(H, W)`` float32 -> maps ``(2, H/4, W/4)``, descriptors ``(D, H/4, W/4)``: valid until the next run."""
        self._request.infer([plane[None, None]], share_inputs=True, share_outputs=True)  # else the maps are copied
        return self._request.get_output_tensor(0).data[0], self._request.get_output_tensor(1).data[0]
