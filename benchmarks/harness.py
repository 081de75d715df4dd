"""Measuring candidates side by side: one process, CPU time, interleaved, so that a busy machine is unfair to nobody."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fastretina import _core


def measure(functions: Mapping[str, Callable[[], Any]], repeat: int = 30) -> dict[str, dict[str, float]]:
    """CPU milliseconds: ``{"name": {"min": ..., "median": ...}}``. One warm-up round, then ``repeat`` rounds."""
    times: dict[str, list[float]] = {name: [] for name in functions}
    for round_ in range(repeat + 1):
        for name, function in functions.items():
            start = time.process_time_ns()
            function()
            if round_ > 0:
                times[name].append((time.process_time_ns() - start) / 1e6)
    return {name: {"min": min(t), "median": statistics.median(t)} for name, t in times.items()}


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows of equal keys as an aligned text table."""
    if not rows:
        return ""
    cells = [list(rows[0])] + [[f"{v:.3f}" if isinstance(v, float) else str(v) for v in row.values()] for row in rows]
    widths = [max(len(line[i]) for line in cells) for i in range(len(cells[0]))]
    lines = ["  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip() for line in cells]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def publish(rows: Sequence[Mapping[str, Any]], path: str | None) -> None:
    """Print the rows under what they were measured on; write them to ``path`` as JSON if one is given."""
    print(f"milliseconds of CPU time, one thread, {_core.simd_level()}")
    print(table(rows))
    if path:
        with open(path, "w", encoding="utf-8") as file:
            json.dump(rows, file, indent=1)
