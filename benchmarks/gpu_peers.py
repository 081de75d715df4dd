"""The rooms as people write them in torch."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

RADIUS = 4


def torch_detect(
    difference: Tensor, top: int, nms2d: Callable[[Tensor, tuple[int, int]], Tensor] | None = None
) -> tuple[Tensor, Tensor]:
    """(N, 1, h, w) -> the best points (N, top, 2) and their scores, of static shape."""
    confidence = functional.interpolate(difference, scale_factor=4, mode="bicubic")
    if nms2d is None:
        highest = functional.max_pool2d(confidence, 2 * RADIUS + 1, 1, RADIUS)
        peaks = torch.where(confidence == highest, confidence, -torch.inf)
    else:
        shifted = confidence - confidence.amin() + 1  # kornia's peaks are the values that are left above 0
        kept = nms2d(shifted, (2 * RADIUS + 1, 2 * RADIUS + 1))
        peaks = torch.where(kept > 0, confidence, -torch.inf)
    score, index = peaks.flatten(1).topk(top)
    width = confidence.shape[3]
    return torch.stack([index % width, index // width], 2).float(), score


def torch_match(a: Tensor, b: Tensor) -> Tensor:
    """Unit rows of both -> (N, 2): row of a, its mutual nearest row of b or -1. One product and two maxima."""
    product = a @ b.T
    forward, backward = product.argmax(1), product.argmax(0)
    rows = torch.arange(len(a), device=a.device)
    return torch.stack([rows, torch.where(backward[forward] == rows, forward, -1)], 1)


def torch_normalise(planes: Tensor) -> Tensor:
    """(N, 1, H, W) in [0, 1] -> local mean and deviation divided out: what the image room does, without a mask."""
    cells = functional.avg_pool2d(torch.cat([planes, planes.square()], 1), 4)
    for _ in range(2):
        cells = functional.avg_pool2d(cells, 7, 1, 3, count_include_pad=False)
    smooth = functional.interpolate(cells, size=planes.shape[2:], mode="bilinear")
    mean = smooth[:, :1]
    deviation = (smooth[:, 1:] - mean.square()).clamp(min=0).sqrt()
    return ((planes - mean) / (deviation + 0.1 * deviation.mean() + 0.002)).clamp(-4, 4)


def torch_describe(dense: Tensor, xy: Tensor) -> Tensor:
    """(1, D, h, w) and points (K, 2) -> unit rows (K, D)."""
    size = torch.tensor([4 * dense.shape[3], 4 * dense.shape[2]], device=xy.device)
    grid = ((2 * xy + 1) / size - 1).to(dense.dtype)
    rows = functional.grid_sample(dense, grid[None, None], align_corners=False)[0, :, 0].T
    return functional.normalize(rows, dim=1)


def torch_similarity(fixed: Tensor, moving: Tensor, draws: int = 2000, threshold_px: float = 3.0) -> Tensor:
    """(N, 2) points of both -> 2 x 3: two-point RANSAC, all draws at once, then least squares on the inliers."""
    f, m = torch.view_as_complex(fixed), torch.view_as_complex(moving)
    i, j = torch.randint(len(f), (2, draws), device=f.device)
    a = (f[i] - f[j]) / (m[i] - m[j] + 1e-9)
    b = f[i] - a * m[i]
    inlier = (a[:, None] * m + b[:, None] - f).abs() < threshold_px
    keep = inlier[inlier.sum(1).argmax()].float()
    mean_f, mean_m = (keep * f).sum() / keep.sum(), (keep * m).sum() / keep.sum()
    centred = m - mean_m
    a = (keep * centred.conj() * (f - mean_f)).sum() / (keep * centred.abs().square()).sum()
    b = mean_f - a * mean_m
    return torch.stack([torch.stack([a.real, -a.imag, b.real]), torch.stack([a.imag, a.real, b.imag])])
