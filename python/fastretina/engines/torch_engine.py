"""PyTorch: the reference engine on CPUs, and on a GPU what runs without TensorRT."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastretina.engines.manifest import Manifest
from fastretina.errors import EngineError
from fastretina.torch_path.threads import torch_threads

_TYPES = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}


def torch_device(device: str) -> torch.device:
    """The device "auto" (a GPU if there is one), "cpu", "cuda" or "cuda:N", with its index. EngineError: not there."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise EngineError(f"device: got {device!r}, and torch sees no CUDA device; remedy: device='cpu'")
    found = torch.device(device)
    if found.type != "cuda":
        return found
    count, index = torch.cuda.device_count(), found.index or 0
    if index >= count:
        raise EngineError(f"device: got {device!r}, and torch sees {count} CUDA devices, numbered from 0")
    return torch.device("cuda", index)


class TorchEngine:
    """The network as trained, at f32, bf16 or (CUDA) f16. On a GPU: channels last, one CUDA graph an input size."""

    name = "torch"

    def __init__(self, manifest: Manifest, *, precision: str = "auto", device: str = "auto", threads: int = 1) -> None:
        self._device = torch_device(device)
        on_gpu = self._device.type == "cuda"
        self.device = str(self._device)
        self.precision = ("f16" if on_gpu else "f32") if precision == "auto" else precision
        if self.precision not in _TYPES:
            raise EngineError(f"precision: torch offers {', '.join(_TYPES)}, got {precision!r}")
        self.multiple, self.dims = manifest.multiple, manifest.dims
        self._threads = threads
        self._network = manifest.torch_network().eval().to(self._device, _TYPES[self.precision])
        self._maps: Callable[[Tensor], tuple[Tensor, Tensor]] = self._forward
        if on_gpu:
            from fastretina.engines.torch_graphs import Graphs

            self._network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            self._maps = Graphs(self._forward)

    def run(self, plane: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """``(H, W)`` float32 -> class maps ``(2, H/4, W/4)``, descriptors ``(D, H/4, W/4)``."""
        with torch_threads(self._threads):
            maps, descriptors = self.run_on_device(torch.from_numpy(np.array(plane[None, None])).to(self._device))
            return maps[0].cpu().numpy(), descriptors[0].cpu().numpy()

    @torch.inference_mode()
    def run_on_device(self, planes: Tensor) -> tuple[Tensor, Tensor]:
        """``(N, 1, H, W)`` f32 on the device -> class maps ``(N, 2, H/4, W/4)``, descriptors ``(N, D, H/4, W/4)``: f32,
        on the current stream, valid until the next run.
        """
        return self._maps(planes)

    def _forward(self, planes: Tensor) -> tuple[Tensor, Tensor]:
        maps, descriptors = self._network(planes.to(_TYPES[self.precision]))
        return maps.float(), descriptors.float()
