"""Room upsample in PyTorch: the same bits as the compiled core."""

from __future__ import annotations

import torch

STRIDE = 4
# Keys' cubic, a = -0.75, at distances 1 + t, t, 1 - t, 2 - t for t = 3/8 and 1/8. Exact in float32.
_WEIGHTS = {
    "far": (-0.10986328125, 0.74951171875, 0.42626953125, -0.06591796875),
    "near": (-0.07177734375, 0.96728515625, 0.11474609375, -0.01025390625),
}


def _fma(weight: float, value: torch.Tensor, total: torch.Tensor) -> torch.Tensor:
    """One rounding to float32: float64 holds the product exactly and rounds the sum far below float32."""
    return (weight * value.double() + total.double()).float()


def _phase(cells: torch.Tensor, phase: int) -> torch.Tensor:
    """Samples 4 i + phase of `cells` (n, m), upsampled along its last axis."""
    taps = [1, 0, -1, -2] if phase < 2 else [-1, 0, 1, 2]
    weights = _WEIGHTS["far" if phase in (0, 3) else "near"]
    index = torch.arange(cells.shape[1], device=cells.device)
    values = [cells[:, (index + t).clamp(0, cells.shape[1] - 1)] for t in taps]
    total = weights[0] * values[0]
    for k in (3, 2, 1):
        total = _fma(weights[k], values[k], total)
    return total


def _along_rows(cells: torch.Tensor) -> torch.Tensor:
    return torch.stack([_phase(cells, phase) for phase in range(STRIDE)], dim=2).flatten(1)


def upsample(difference: torch.Tensor) -> torch.Tensor:
    """(h, w) float32 -> (4h, 4w): bicubic, half-pixel centres, a = -0.75, clamped edges. Along x first."""
    return _along_rows(_along_rows(difference).T).T.contiguous()
