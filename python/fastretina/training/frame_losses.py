"""Losses of a registration by dense correlation: supervised by a known map, and document B's joint losses.

Document B is Dong, Nie & Wei, "Deep Learning Based Medical Image Registration" (2022), section 4.2. Lengths are in
frame units (``networks/arbicon.py``): a frame is 2 wide.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch
import torch.nn.functional as functional
from torch import Tensor

RIGHT = 0.05  # frame units: how far a right match may be off
TINY = 1e-6
FAR = 0.3  # frame units: beyond, a vessel is as far as it can be
OUTSIDE = 0.1  # weight of a point that FIXED does not show
BLUR_PX = 5  # of vessels that should overlap: what has no overlap yet has no gradient


def grid_loss(found: Tensor, truth: Tensor, counts: Tensor | None = None) -> Tensor:
    """Mean distance of points (N, K, 2) from where they belong; less weight where that is outside FIXED's frame.

    ``counts`` (N,): which pairs count; all if None.
    """
    weight = torch.where(truth.abs().amax(2) < 1, 1.0, OUTSIDE)
    if counts is not None:
        weight = weight * counts[:, None]
    return (weight * (found - truth).norm(dim=2)).sum() / weight.sum().clamp_min(1)


def matching_loss(weight: Tensor, found: Tensor, truth: Tensor) -> Tensor:
    """Mean of -log(share of the weight (N, M) of matches that are right): that is, ``found`` (N, M, 2) is nearer than
    ``RIGHT`` to ``truth``. Pairs without a right match do not count.
    """
    right = (found - truth).square().sum(2) < RIGHT**2
    share = ((weight * right).sum(1) + TINY) / (weight.sum(1) + TINY)
    counts = right.any(1)
    return -(share.log() * counts).sum() / counts.sum().clamp_min(1)


def cross_entropy(logits: Tensor, vessels: Tensor, masks: Tensor) -> Tensor:
    """Equation 3, inside the field of view."""
    return functional.binary_cross_entropy_with_logits(logits, vessels, weight=masks)


def distance_to_vessels(vessels: Tensor) -> Tensor:
    """(N, 1, H, W) in [0, 1] -> distance of each pixel to the nearest vessel, frame units, at most ``FAR``."""
    unit = 2 / vessels.shape[-1]
    maps = [
        cv2.distanceTransform((image < 0.5).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
        for image in vessels[:, 0].numpy()
    ]
    exact = np.sqrt(np.rint(np.square(np.stack(maps))))  # OpenCV's last bit depends on where the memory lies
    return torch.from_numpy(exact)[:, None].mul(unit).clamp(max=FAR)


def vessel_points(vessels: Tensor, count: int, seed: int) -> Tensor:
    """(N, count, 2) frame units: pixels of vessels (N, 1, H, W), drawn by their strength."""
    drawn = torch.Generator().manual_seed(seed)
    index = torch.multinomial(vessels.flatten(1) + 1e-6, count, replacement=True, generator=drawn)
    width, height = vessels.shape[3], vessels.shape[2]
    at = torch.stack([index % width, index // width], 2)
    return (at + 0.5) * (2 / at.new_tensor([width, height])) - 1


def chamfer_loss(distance: Tensor, masks: Tensor, points: Tensor) -> Tensor:
    """Mean distance of MOVING's vessel points, mapped to FIXED (N, K, 2), to FIXED's vessels: equation 4.

    As the document has it nothing is counted of a point that left the field of view; ``reverse_hinge`` keeps it there.
    """
    both = torch.cat([distance * masks, masks], 1)
    found = functional.grid_sample(both, points[:, None], align_corners=False)
    return found[:, 0].sum() / found[:, 1].sum().clamp_min(1)


def reverse_hinge(fixed: Tensor, moving: Tensor, where: Tensor) -> Tensor:
    """max(0, target - source), equation 5: share of FIXED's vessels (N, 1, H, W) that the warped MOVING does not cover.

    ``where`` (N, H', W', 2): the point of MOVING that each point of FIXED shows, frame units.
    """
    grid = functional.interpolate(where.permute(0, 3, 1, 2), fixed.shape[2:], mode="bilinear", align_corners=False)
    warped = functional.grid_sample(_blurred(moving), grid.permute(0, 2, 3, 1), align_corners=False)
    target = _blurred(fixed)
    return functional.relu(target - warped).sum() / target.sum().clamp_min(1)


def _blurred(vessels: Tensor) -> Tensor:
    return functional.avg_pool2d(vessels, BLUR_PX, 1, BLUR_PX // 2)
