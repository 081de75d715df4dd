"""CUDA graphs of a function of one tensor, one an input size. No GPU has run this file yet."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

import torch
from torch import Tensor

MAX_GRAPHS = 16  # sizes kept; the ladder shows a pair at about a dozen
_WARM_UPS = 3  # cuDNN and the allocator settle before a capture

Maps = tuple[Tensor, Tensor]


class Graphs:
    """Calls ``function``, from the second call of a size on as one launch. What it returns is valid until the next call
    of that size.

    Convolutions are deterministic, and f32 is f32 (no TF32): the same input gives the same bits, captured or not.
    """

    def __init__(self, function: Callable[[Tensor], Maps]) -> None:
        self._function = function
        self._seen: set[torch.Size] = set()
        self._graphs: OrderedDict[torch.Size, tuple[torch.cuda.CUDAGraph, Tensor, Maps]] = OrderedDict()

    def __call__(self, planes: Tensor) -> Maps:
        size = planes.shape
        if size not in self._seen or torch.cuda.is_current_stream_capturing():  # captured by the caller as it is
            self._seen.add(size)
            return self._plain(planes)
        if size not in self._graphs:
            if len(self._graphs) == MAX_GRAPHS:
                self._graphs.popitem(last=False)
            self._graphs[size] = self._capture(planes)
        self._graphs.move_to_end(size)
        graph, static, maps = self._graphs[size]
        static.copy_(planes)
        graph.replay()
        return maps

    def _plain(self, planes: Tensor) -> Maps:
        with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
            return self._function(planes)

    def _capture(self, planes: Tensor) -> tuple[torch.cuda.CUDAGraph, Tensor, Maps]:
        static = torch.empty_like(planes).copy_(planes)
        stream: torch.cuda.Stream = torch.cuda.Stream(planes.device)  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream(planes.device))
        with torch.cuda.device(planes.device):
            with torch.cuda.stream(stream):
                for _ in range(_WARM_UPS):
                    self._plain(static)
            torch.cuda.current_stream().wait_stream(stream)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):  # other threads may use the GPU meanwhile
                maps = self._plain(static)
        return graph, static, maps
