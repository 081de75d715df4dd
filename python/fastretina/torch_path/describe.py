"""Room describe in PyTorch: rows within 1e-6 of the compiled core."""

from __future__ import annotations

import torch
from torch import Tensor

SMALLEST_NORM = 1e-12


def _cells(position_px: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    u = ((position_px - 1.5) * 0.25).clamp(0, count - 1)
    low = u.floor()
    return low.long(), (low.long() + 1).clamp(max=count - 1), u - low


def describe(map: Tensor, xy: Tensor) -> Tensor:
    """(D, h, w) and (N, 2) pixels of the (4h, 4w) image -> (N, D) rows of length 1, or zero."""
    x0, x1, fx = _cells(xy[:, 0], map.shape[2])
    y0, y1, fy = _cells(xy[:, 1], map.shape[1])
    rows = (
        (1 - fx) * (1 - fy) * map[:, y0, x0]
        + fx * (1 - fy) * map[:, y0, x1]
        + (1 - fx) * fy * map[:, y1, x0]
        + fx * fy * map[:, y1, x1]
    ).T
    norm = rows.norm(dim=1, keepdim=True)
    return torch.where(norm < SMALLEST_NORM, torch.zeros_like(rows), rows / norm)
