"""Room nms in PyTorch: the same key points as the compiled core, ties included."""

from __future__ import annotations

import torch
from torch.nn import functional


def nms(
    confidence: torch.Tensor,
    mask: torch.Tensor | None = None,
    *,
    radius: int,
    max_keypoints: int,
    threshold: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """(H, W) float32 -> xy (n, 2) and score (n,), best first. ``mask``: (H, W), 0 = no key point here."""
    highest = functional.max_pool2d(confidence[None, None], 2 * radius + 1, stride=1, padding=radius)[0, 0]
    peak = (confidence == highest) & (confidence > threshold)
    if mask is not None:
        peak &= mask != 0
    y, x = torch.nonzero(peak, as_tuple=True)  # row-major order
    score = confidence[y, x]

    # Of equal scores within a window the first counts: a peak with an equal pixel before it is none.
    padded = functional.pad(confidence, (radius,) * 4, value=-torch.inf)
    first = torch.ones_like(score, dtype=torch.bool)
    for v in range(radius + 1):
        for u in range(2 * radius + 1 if v < radius else radius):
            first &= padded[y + v, x + u] != score
    y, x, score = y[first], x[first], score[first]

    order = torch.argsort(score, descending=True, stable=True)[:max_keypoints]
    return torch.stack([x[order], y[order]], dim=1).float(), score[order]
