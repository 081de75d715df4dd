"""The losses of SuperPoint: one class a cell for the detector, all pairs of cells for the descriptors.

Source: DeTone et al. 2018 (SuperPoint), equations 1 to 6.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as functional
from torch import Tensor

from fastretina.networks.superpoint import CELL_PX
from fastretina.training.warp import View

NOTHING = CELL_PX**2
"""The class of a cell without a key point."""
POINT_WEIGHT = 8.0
POSITIVE_MARGIN, NEGATIVE_MARGIN = 1.0, 0.2
POSITIVE_WEIGHT = 250.0
SAME_PX = 8.0
"""Cells whose centres lie nearer than this show one place (equation 5)."""


def cell_classes(points: np.ndarray, size: int) -> np.ndarray:
    """Key points ``(K, 2)`` px, the most important first -> class of each cell of a ``size`` x ``size`` px view,
    ``(size/8, size/8)`` int64. Of several points of a cell the first counts; points outside the view do not."""
    cells = size // CELL_PX
    classes = np.full((cells, cells), NOTHING, np.int64)
    at = np.round(points).astype(np.int64)
    at = at[np.all((at >= 0) & (at < cells * CELL_PX), axis=1)][::-1]  # of equal indices the last written stays
    (u, v), (x, y) = (at // CELL_PX).T, (at % CELL_PX).T
    classes[v, u] = CELL_PX * y + x
    return classes


def detector_loss(logits: Tensor, classes: Tensor) -> Tensor:
    """Cross-entropy of ``(N, 65, h, w)`` logits with ``(N, h, w)`` classes, weighted mean over cells (equations 2, 3).

    A cell with a key point weighs ``POINT_WEIGHT``: at equal weights, as in the paper, hundreds of steps pass before
    the network says anything but "nothing".
    """
    weight = torch.ones(NOTHING + 1, device=logits.device)
    weight[:NOTHING] = POINT_WEIGHT
    return functional.cross_entropy(logits.float(), classes, weight)


def cell_centres(first: View, second: View) -> np.ndarray:
    """Where the second view shows the centres of the first view's cells: ``(h, w, 2)`` px of the second."""
    size = len(first.bend)
    ys, xs = np.mgrid[: size // CELL_PX, : size // CELL_PX] * CELL_PX + CELL_PX // 2 - 1
    where = first.source_map()
    # The centre lies between four pixels.
    middle = 0.25 * (where[ys, xs] + where[ys, xs + 1] + where[ys + 1, xs] + where[ys + 1, xs + 1])
    return second.to_view(middle.reshape(-1, 2).astype(np.float64)).reshape(middle.shape).astype(np.float32)


def hinge_loss(first: Tensor, second: Tensor, centres: Tensor, seen: tuple[Tensor, Tensor]) -> Tensor:
    """Hinge over all pairs of cells (equations 4 to 6), mean over pairs of views.

    ``first``, ``second`` ``(P, D, h, w)`` dense descriptors of two views; ``centres`` ``(P, h, w, 2)`` from
    :func:`cell_centres`; ``seen``: ``(P, h, w)`` bool each, which cells lie inside the field of view.
    """
    height, width = first.shape[2:]
    a = functional.normalize(first.float(), dim=1).flatten(2).transpose(1, 2)  # (P, cells, D)
    b = functional.normalize(second.float(), dim=1).flatten(2)
    similarity = a @ b  # (P, cells, cells)
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    own = torch.stack([x, y], -1).reshape(1, -1, 2) * float(CELL_PX) + (CELL_PX - 1) / 2
    same = torch.cdist(centres.flatten(1, 2), own.expand(len(centres), -1, -1)) <= SAME_PX
    attract = POSITIVE_WEIGHT * (POSITIVE_MARGIN - similarity).clamp_min(0)
    repel = (similarity - NEGATIVE_MARGIN).clamp_min(0)
    valid = seen[0].flatten(1)[:, :, None] & seen[1].flatten(1)[:, None]
    return (torch.where(same, attract, repel) * valid).sum() / valid.sum().clamp_min(1)
