"""PyTorch: the reference engine, on CPU or CUDA."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from fastretina.engines.manifest import Manifest
from fastretina.errors import EngineError

_TYPES = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}


class TorchEngine:
    """The network as trained, at f32, bf16 or (CUDA) f16."""

    name = "torch"

    def __init__(self, manifest: Manifest, *, precision: str = "auto", device: str = "auto", threads: int = 1) -> None:
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        if device.startswith("cuda") and not torch.cuda.is_available():
            raise EngineError(f"device: got {device!r}, and torch sees no CUDA device; remedy: device='cpu'")
        self._device = torch.device(device)
        if self._device.type == "cuda":
            count, index = torch.cuda.device_count(), self._device.index or 0
            if index >= count:
                raise EngineError(f"device: got {device!r}, and torch sees {count} CUDA devices, numbered from 0")
            self._device = torch.device("cuda", index)
        self.device = str(self._device)
        self.precision = ("f16" if self._device.type == "cuda" else "f32") if precision == "auto" else precision
        if self.precision not in _TYPES:
            raise EngineError(f"precision: torch offers {', '.join(_TYPES)}, got {precision!r}")
        self.multiple, self.dims = manifest.multiple, manifest.dims
        self._threads = threads
        self._network = manifest.torch_network().eval().to(self._device, _TYPES[self.precision])

    def run(self, plane: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """``(H, W)`` float32 -> class maps ``(2, H/4, W/4)``, descriptors ``(D, H/4, W/4)``."""
        before = torch.get_num_threads()
        torch.set_num_threads(self._threads)
        try:
            with torch.inference_mode():
                tensor = torch.from_numpy(np.array(plane[None, None])).to(self._device, _TYPES[self.precision])
                maps, descriptors = self._network(tensor)
                return maps[0].float().cpu().numpy(), descriptors[0].float().cpu().numpy()
        finally:
            torch.set_num_threads(before)
