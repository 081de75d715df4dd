"""Losses of the two heads (document A, section 2.1, and InfoNCE as an alternative descriptor loss), and of vessels."""

from __future__ import annotations

import torch
import torch.nn.functional as functional
from torch import Tensor

NEIGHBOUR_PX = 8.0
"""Points of one pair nearer than this show nearly the same place: they are no negatives of each other."""


def detector_loss(class_maps: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Balanced binary cross-entropy over the two class maps.

    ``class_maps`` ``(N, 2, h, w)`` logits (vessel, background); ``target`` ``(N, h, w)`` probability of "vessel";
    ``weight`` ``(N, h, w)``: 1 background, 2 near a keypoint, 0 ignored.  Both kinds of cell weigh the same in sum,
    like the equal number of patches of either class in the paper.
    """
    difference = class_maps[:, 0].float() - class_maps[:, 1].float()  # softmax over two classes is a sigmoid
    entropy = functional.binary_cross_entropy_with_logits(difference, target, reduction="none")
    near = (weight == 2).float()
    far = (weight == 1).float()
    return 0.5 * ((entropy * near).sum() / near.sum().clamp_min(1) + (entropy * far).sum() / far.sum().clamp_min(1))


def distil_detector(class_maps: Tensor, teacher_maps: Tensor) -> Tensor:
    """Mean squared difference of the confidences ``(N, 2, h, w)`` of a network and of its teacher, clipped to ±6.

    Beyond that a cell is certain, and how certain is of no interest.
    """

    def confidence(maps: Tensor) -> Tensor:
        return (maps[:, 0].float() - maps[:, 1].float()).clamp(-6, 6)

    return (confidence(class_maps) - confidence(teacher_maps)).square().mean()


def turn_plane(plane: Tensor, turn: int) -> Tensor:
    """One of the eight mirrored quarter turns of ``(..., S, S)``: ``turn`` in 0..7, 0 is the identity."""
    turned = plane.rot90(turn % 4, (-2, -1))
    return turned.flip(-1) if turn >= 4 else turned


def turn_back(plane: Tensor, turn: int) -> Tensor:
    """The inverse of :func:`turn_plane`."""
    return (plane.flip(-1) if turn >= 4 else plane).rot90(-(turn % 4), (-2, -1))


def symmetry_loss(class_maps: Tensor, turned_maps: Tensor, turn: int) -> Tensor:
    """Mean squared difference between the confidence of crops and that of their turned copies, turned back.

    Both ``(N, 2, h, h)``.  A detector that has learned a side (of a vessel, of a cell) moves keypoints when the
    image is mirrored; this drives it out.
    """
    first = class_maps[:, 0].float() - class_maps[:, 1].float()
    second = turned_maps[:, 0].float() - turned_maps[:, 1].float()
    return (first - turn_back(second, turn)).square().mean()


def neighbour_mask(points: Tensor, pair: Tensor) -> Tensor:
    """``(K, K)`` True where two different points of one pair are nearer than ``NEIGHBOUR_PX`` in either view.

    ``points`` ``(K, 2 views, 2)`` in pixels, ``pair`` ``(K,)``.
    """
    first, second = points[:, 0], points[:, 1]
    near = (torch.cdist(first, first) < NEIGHBOUR_PX) | (torch.cdist(second, second) < NEIGHBOUR_PX)
    same = pair[:, None] == pair[None, :]
    return near & same & ~torch.eye(len(points), dtype=torch.bool, device=points.device)


def info_nce(first: Tensor, second: Tensor, masked: Tensor, log_scale: Tensor) -> Tensor:
    """Symmetric InfoNCE: each point has to find its partner among all points of the batch, in both directions.

    ``first``, ``second`` ``(K, D)`` unit rows, row ``i`` of both the same place; ``masked`` ``(K, K)`` True where a
    pair is no negative; ``log_scale`` the logarithm of the learned inverse temperature.
    """
    scores = first @ second.T * log_scale.exp()
    scores = scores.masked_fill(masked, -1e4)
    label = torch.arange(len(first), device=first.device)
    return 0.5 * (functional.cross_entropy(scores, label) + functional.cross_entropy(scores.T, label))


def distil_matches(
    first: Tensor, second: Tensor, masked: Tensor, scale: Tensor, teacher: tuple[Tensor, Tensor], teacher_scale: float
) -> Tensor:
    """Matches as a teacher sees them: the cross-entropy of whom each point takes for its partner, in both directions.

    ``first``, ``second`` ``(K, D)`` unit rows of the student, ``teacher`` the two of the teacher, of any length; the
    similarities of either, times its inverse temperature, are a distribution over the points of the batch (Hinton,
    Vinyals and Dean 2015, with relations in the place of classes, Park et al. 2019).
    """
    scores = (first @ second.T * scale).masked_fill(masked, -1e4)
    with torch.no_grad():
        wanted = (teacher[0] @ teacher[1].T * teacher_scale).masked_fill(masked, -1e4)
    forward = functional.cross_entropy(scores, wanted.softmax(1))
    return 0.5 * (forward + functional.cross_entropy(scores.T, wanted.T.softmax(1)))


def quadruplet(first: Tensor, second: Tensor, masked: Tensor, margin: float = 1.0) -> Tensor:
    """Bidirectional quadruplet loss with the hardest in-batch negative of either direction (document A, equation 1).

    With anchors ``a_i``, positives ``p_i`` and Euclidean distance d:
    mean over i of max(0, m + d(a_i, p_i) - min_k d(a_i, p_k)) + max(0, m + d(a_i, p_i) - min_l d(p_i, a_l)),
    ``k`` and ``l`` running over the points that are neither ``i`` nor ``masked``.
    """
    distance = (2 - 2 * first @ second.T).clamp_min(1e-6).sqrt()
    positive = distance.diagonal()
    excluded = masked | torch.eye(len(first), dtype=torch.bool, device=first.device)
    others = distance.masked_fill(excluded, float("inf"))
    forward = functional.relu(margin + positive - others.min(1).values)
    backward = functional.relu(margin + positive - others.min(0).values)
    return (forward + backward).mean()


def dice_loss(logits: Tensor, vessels: Tensor, masks: Tensor) -> Tensor:
    """1 - 2 |X n Y| / (|X| + |Y|) inside the masks, document B's equation 2; all ``(N, 1, H, W)``.

    Of the whole batch: crops without a vessel would make it all or nothing.
    """
    found, wanted = torch.sigmoid(logits) * masks, vessels * masks
    return 1 - (2 * (found * wanted).sum() + 1) / (found.sum() + wanted.sum() + 1)
