"""Vessel segmentation: a U-Net by Dice and cross-entropy on labelled images of every modality, restyled at random."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch.nn.functional as functional
from torch import Tensor

from fastretina.networks.unet import VESSELS
from fastretina.training import vessels
from fastretina.training.losses import dice_loss
from fastretina.training.normalise import normalise
from fastretina.training.sample import Sample
from fastretina.training.unet import UNetConfig, UNetLearner


@dataclass
class Config(UNetConfig):
    """``batch``: crops a step."""

    rate: float = 2e-3


class Learner(UNetLearner):
    """Sees batches ``(N, 3, S, S)``: planes, masks, vessels."""

    columns = ("rate", "cross_entropy", "dice")  # dice: one minus it

    def samples(self) -> list[Sample]:
        return vessels.for_training(vessels.labelled(super().samples(), self.config.data))

    def batches(self) -> Iterator[Tensor]:
        return vessels.crops(self.samples(), self.config.batch, self.config.seed, self.step)

    def update(self, batch: Tensor, progress: float) -> dict[str, float]:
        self.network.train()
        planes, masks, target = batch.split(1, 1)
        cross_entropy, dice = losses(self.logits(normalise(planes, masks)), target, masks)
        rate = self.descend(cross_entropy + dice, progress)
        return {"rate": rate, "cross_entropy": cross_entropy.item(), "dice": dice.item()}


def build(config: Config) -> Learner:
    return Learner(config, "vessels", VESSELS)


def losses(logits: Tensor, target: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropy and 1 - Dice inside the masks; all ``(N, 1, H, W)``. Document B adds the two."""
    cross_entropy = functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    return (cross_entropy * masks).sum() / masks.sum().clamp_min(1), dice_loss(logits, target, masks)
