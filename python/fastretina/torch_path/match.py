"""Rooms match and match_guided in PyTorch: the same matches as the compiled core.

i8 is equal to the last bit. In f32 and bf16 the products are those of the core, but a matrix product adds them in
another order: scores differ by at most ``D * 2**-24`` (D: dimensions), and pairs only where two scores are that close.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

Found = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
I8_SCALE = 127.0
BF16_SMALLEST = 2.0**-50


def similarity(fixed: torch.Tensor, moving: torch.Tensor, precision: str = "f32") -> torch.Tensor:
    """(N, D) and (M, D) float32 unit rows -> (N, M) float32."""
    if precision == "i8":  # integers, exact in float32
        a, b = ((x * I8_SCALE).round().clamp(-I8_SCALE, I8_SCALE) for x in (fixed, moving))
        return (a @ b.T) / I8_SCALE**2
    if precision == "bf16":
        fixed, moving = (
            torch.where(x.abs() < BF16_SMALLEST, 0.0, x).to(torch.bfloat16).float() for x in (fixed, moving)
        )
    elif precision != "f32":
        raise ValueError(f"precision: got {precision!r}; allowed: 'f32', 'bf16', 'i8'")
    return fixed @ moving.T


def match(
    fixed: torch.Tensor,
    moving: torch.Tensor,
    *,
    precision: str = "f32",
    min_similarity: float = -1.0,
    ratio: float = 1.0,
) -> Found:
    """(N, D) and (M, D) float32 unit rows -> rows in fixed and moving, (m,) int64, and score (m,), best first."""
    score = similarity(fixed, moving, precision)
    if score.numel() == 0:
        return _nothing(score)
    fixed_at, moving_at, best = _mutual(score, min_similarity)
    if ratio < 1:
        keep = _passes_ratio(score, best, fixed_at, ratio, dim=1) & _passes_ratio(score, best, moving_at, ratio, dim=0)
        fixed_at, moving_at, best = fixed_at[keep], moving_at[keep], best[keep]
    return _best_first(fixed_at, moving_at, best)


def match_guided(
    fixed: torch.Tensor,
    moving: torch.Tensor,
    fixed_points: torch.Tensor,
    moving_points: torch.Tensor,
    transform: Callable[[torch.Tensor], torch.Tensor],
    *,
    radius_px: float = 12.0,
    min_similarity: float = 0.2,
) -> Found:
    """Mutual among the pairs within ``radius_px``. ``transform``: (M, 2) float64 moving points -> (M, 2) fixed ones."""
    score = similarity(fixed, moving)
    if score.numel() == 0:
        return _nothing(score)
    offset = fixed_points.double()[:, None] - transform(moving_points.double())[None]
    near = offset.square().sum(dim=2) <= radius_px**2
    return _best_first(*_mutual(torch.where(near, score, -torch.inf), min_similarity))


def _mutual(score: torch.Tensor, min_similarity: float) -> Found:
    best, moving_of = score.max(dim=1)  # the first of equal ones, as in the core
    fixed_of = score.argmax(dim=0)
    rows = torch.arange(len(score), device=score.device)
    keep = (fixed_of[moving_of] == rows) & (best >= min_similarity) & (best > -torch.inf)
    return rows[keep], moving_of[keep], best[keep]


def _passes_ratio(score: torch.Tensor, best: torch.Tensor, at: torch.Tensor, ratio: float, dim: int) -> torch.Tensor:
    """Lowe's test on squared distances; without a second best everything passes."""
    if score.shape[dim] < 2:
        return torch.ones_like(best, dtype=torch.bool)
    second = score.topk(2, dim=dim).values.select(dim, 1)[at]
    squared = torch.tensor(ratio, dtype=score.dtype, device=score.device).square()
    return (1 - best).clamp(min=0) < squared * (1 - second).clamp(min=0)


def _best_first(fixed_at: torch.Tensor, moving_at: torch.Tensor, score: torch.Tensor) -> Found:
    order = torch.argsort(score, descending=True, stable=True)
    return fixed_at[order], moving_at[order], score[order]


def _nothing(score: torch.Tensor) -> Found:
    index = torch.zeros(0, dtype=torch.int64, device=score.device)
    return index, index, score.new_zeros(0)
