"""A fixed synthetic validation: warped and restyled pairs of held-out images, matched like in use.

It answers which of two trainings is better, not how well real pairs register.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from fastretina.errors import InvalidInput
from fastretina.networks.retina_craquelure import STRIDE, sample_descriptors
from fastretina.training.normalise import normalise
from fastretina.training.pairs import CROP_PX, make_pair, random_views
from fastretina.training.sample import Sample

RIGHT_PX = 3.0
EDGE_PX = 4


@dataclass(frozen=True)
class Score:
    """Means over pairs.  ``precision``: right matches / matches; ``recall``: right matches / points that both views
    show; ``repeatability``: points of the first view that lie inside the second and have a point there within 3 px."""

    precision: float
    recall: float
    repeatability: float
    offset_px: float
    pairs: int


@torch.no_grad()
def detect_points(
    class_maps: Tensor, mask: Tensor, limit: int, radius_px: int = 4, edge_px: int = EDGE_PX
) -> list[tuple[Tensor, Tensor]]:
    """Class maps ``(N, 2, h, w)``, mask ``(N, 1, 4h, 4w)`` → for each image points ``(K, 2)`` and confidences ``(K,)``.

    The class difference is bicubically enlarged four times; a point is the maximum of its (2 r + 1)² window.
    """
    difference = (class_maps[:, :1] - class_maps[:, 1:]).float()
    confidence = functional.interpolate(difference, scale_factor=STRIDE, mode="bicubic", align_corners=False)
    window = 2 * radius_px + 1
    peak = confidence == functional.max_pool2d(confidence, window, 1, radius_px)
    frame = torch.zeros_like(peak)
    frame[:, :, edge_px:-edge_px, edge_px:-edge_px] = True
    peak &= frame & (mask > 0)
    found = []
    for image, allowed in zip(confidence[:, 0], peak[:, 0], strict=True):
        ys, xs = torch.nonzero(allowed, as_tuple=True)
        value = image[ys, xs]
        order = torch.argsort(value, descending=True, stable=True)[:limit]
        found.append((torch.stack([xs, ys], 1)[order].float(), value[order]))
    return found


def mutual_matches(first: Tensor, second: Tensor) -> Tensor:
    """Unit rows ``(K, D)``, ``(L, D)`` → ``(M, 2)`` indices of mutual nearest neighbours."""
    scores = first @ second.T
    forward, backward = scores.argmax(1), scores.argmax(0)
    index = torch.arange(len(first))
    mutual = backward[forward] == index
    return torch.stack([index[mutual], forward[mutual]], 1)


def validate(network: nn.Module, samples: list[Sample], pairs: int = 96, points: int = 64, seed: int = 7) -> Score:
    """Score a network in evaluation mode on ``pairs`` fixed pairs of 192-px crops, ``points`` keypoints a view."""
    if not samples:
        raise InvalidInput("samples: no held-out image")
    was_training = network.training
    network.eval()
    rows = [_score_pair(network, samples[i % len(samples)], seed, i, points) for i in range(pairs)]
    network.train(was_training)
    values = np.array([r for r in rows if r is not None])
    if len(values) == 0:
        raise InvalidInput("samples: no pair shows a keypoint in both views")
    mean = np.nanmean(values, 0)
    precision, recall, repeatability, offset_px = (float(v) for v in mean)
    return Score(precision, recall, repeatability, offset_px, len(values))


@torch.no_grad()
def _score_pair(
    network: nn.Module, sample: Sample, seed: int, index: int, limit: int
) -> tuple[float, float, float, float] | None:
    rng = np.random.default_rng([seed, index])
    views = random_views(rng, sample)
    pair = make_pair(rng, sample, views)
    masks = torch.from_numpy(pair["masks"])[:, None]
    class_maps, dense = network(normalise(torch.from_numpy(pair["planes"])[:, None], masks))
    (first, _), (second, _) = detect_points(class_maps, masks, limit)
    if min(len(first), len(second)) < 2:
        return None
    # First view → source → second view.
    where = views[0].source_map()
    cell = first.long().numpy()
    mapped = torch.from_numpy(views[1].to_view(where[cell[:, 1], cell[:, 0]].astype(np.float64))).float()
    inside = ((mapped > EDGE_PX) & (mapped < CROP_PX - 1 - EDGE_PX)).all(1)
    rounded = mapped.round().long().clamp(0, CROP_PX - 1)
    inside &= masks[1, 0][rounded[:, 1], rounded[:, 0]] > 0
    if not bool(inside.any()):
        return None
    distance = torch.cdist(mapped, second)
    nearest = distance.min(1).values
    repeated = inside & (nearest < RIGHT_PX)
    both = torch.zeros(len(first), dtype=torch.long)
    rows = [sample_descriptors(dense, p, both.new_full((len(p),), v)) for v, p in enumerate((first, second))]
    matches = mutual_matches(rows[0], rows[1])
    right = distance[matches[:, 0], matches[:, 1]] < RIGHT_PX
    count = int(right.sum())
    offset = float(nearest[repeated].mean()) if bool(repeated.any()) else float("nan")
    return (
        count / max(len(matches), 1),
        count / int(inside.sum()),
        int(repeated.sum()) / int(inside.sum()),
        offset,
    )
