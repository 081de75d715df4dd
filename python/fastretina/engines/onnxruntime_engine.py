"""ONNX Runtime: optional, the widest platform reach."""

from __future__ import annotations

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from fastretina.engines.manifest import Manifest
from fastretina.errors import EngineError


class OnnxRuntimeEngine:
    """One network at f32 or int8 on the CPU."""

    name = "onnxruntime"
    device = "cpu"

    def __init__(self, manifest: Manifest, *, precision: str = "auto", device: str = "auto", threads: int = 1) -> None:
        if device not in ("auto", "cpu"):
            raise EngineError(f"device: onnxruntime runs on the CPU here, got {device!r}; remedy: device='cpu'")
        self.precision = "f32" if precision == "auto" else precision
        if self.precision not in ("f32", "int8"):
            raise EngineError(f"precision: onnxruntime offers f32 and int8, got {precision!r}")
        self.multiple, self.dims = manifest.multiple, manifest.dims
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        weights = manifest.weights(self.precision).read_bytes()
        self._session = onnxruntime.InferenceSession(weights, options, providers=["CPUExecutionProvider"])
        self._input = self._session.get_inputs()[0].name

    def run(self, plane: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """``(H, W)`` float32 -> class maps ``(2, H/4, W/4)``, descriptors ``(D, H/4, W/4)``."""
        maps, descriptors = self._session.run(None, {self._input: plane[None, None]})
        return maps[0], descriptors[0]
