"""Time on a GPU (CUDA events) or a CPU: candidates interleaved, one warm-up round; and the peaks of a device."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch


def measure(calls: Mapping[str, Callable[[], Any]], device: torch.device, repeat: int) -> dict[str, dict[str, float]]:
    """Microseconds: ``{"name": {"min": ..., "median": ...}}``. Each call is alone on the device."""
    clock = _on_gpu if device.type == "cuda" else _on_cpu
    times: dict[str, list[float]] = {name: [] for name in calls}
    for round_ in range(repeat + 3):
        for name, call in calls.items():
            taken = clock(call)
            if round_ >= 3:
                times[name].append(taken)
    return {name: {"min": min(t), "median": statistics.median(t)} for name, t in times.items()}


def _on_gpu(call: Callable[[], Any]) -> float:
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    begin.record()
    call()
    end.record()
    torch.cuda.synchronize()
    return 1e3 * begin.elapsed_time(end)


def _on_cpu(call: Callable[[], Any]) -> float:
    begin = time.perf_counter_ns()
    call()
    return (time.perf_counter_ns() - begin) / 1e3


def graphed(call: Callable[[], Any]) -> Callable[[], Any]:
    """The call as one CUDA graph; its inputs and outputs stay where they are."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            call()
    torch.cuda.current_stream().wait_stream(stream)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    return graph.replay


def peaks(device: torch.device, tiny: bool) -> dict[str, float]:
    """What the device reaches here: bf16 product of large matrices, and a copy (read and write both counted)."""
    side, bytes_ = (256, 1 << 20) if tiny else (8192, 1 << 30)
    matrix = torch.randn(side, side, device=device).bfloat16()
    source = torch.zeros(bytes_, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    calls = {"product": lambda: matrix @ matrix, "copy": lambda: target.copy_(source)}
    times = measure(calls, device, 3 if tiny else 20)
    return {
        "peak FLOP/s": 2 * side**3 / (times["product"]["min"] * 1e-6),
        "peak bytes/s": 2 * bytes_ / (times["copy"]["min"] * 1e-6),
    }
