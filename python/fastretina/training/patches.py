"""Training on small patches about single points, as document A does; the alternative to whole crops.

A patch of 32 px shows a keypoint ("vessel") or background in its middle and nothing of its surroundings: the network is
asked about the middle alone. Kept to compare (docs/TRAINING.md); crops share their computation among many points.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fastretina.networks.retina_craquelure import STRIDE
from fastretina.training.pairs import Batch

PATCH_PX = 32
POINT_PAIRS = 288
"""Point pairs a step: 576 patches of points, and half as many of background, as in document A."""


def patches_at(planes: Tensor, points: Tensor, image_index: Tensor) -> tuple[Tensor, Tensor]:
    """``planes`` ``(N, 1, H, W)``, ``points`` ``(K, 2)`` pixels, ``image_index`` ``(K,)`` → patches
    ``(K, 1, 32, 32)``, zero outside of the plane, and where in its patch each point lies ``(K, 2)``."""
    corner = points.floor().long() - (PATCH_PX // 2 - 1)
    padded = torch.nn.functional.pad(planes, (PATCH_PX,) * 4)
    step = torch.arange(PATCH_PX)
    rows = (corner[:, 1, None] + PATCH_PX + step)[:, :, None]
    columns = (corner[:, 0, None] + PATCH_PX + step)[:, None, :]
    return padded[image_index[:, None, None], 0, rows, columns][:, None], points - corner


def chosen(batch: Batch, step: int) -> Batch:
    """The batch with at most ``POINT_PAIRS`` of its points; which ones depends on the step only."""
    generator = torch.Generator().manual_seed(step)
    keep = torch.randperm(len(batch.points), generator=generator)[:POINT_PAIRS].sort().values
    return Batch(
        batch.planes, batch.masks, batch.target, batch.weight, batch.points[keep], batch.pair[keep], batch.is_key[keep]
    )


def background(batch: Batch, count: int, step: int) -> tuple[Tensor, Tensor]:
    """Centres ``(K, 2)`` of at most ``count`` cells of background inside the field of view, and their images."""
    inside = torch.nn.functional.avg_pool2d(batch.masks, STRIDE)[:, 0] > 0
    cells = torch.nonzero((batch.weight == 1) & inside)
    generator = torch.Generator().manual_seed(step + 1)
    image, y, x = cells[torch.randperm(len(cells), generator=generator)[:count]].T
    return torch.stack([x, y], 1) * float(STRIDE) + (STRIDE - 1) / 2, image
