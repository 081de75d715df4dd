"""Vessel segmentation: a U-Net by Dice and cross-entropy on labelled images of every modality, restyled at random."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import torch
import torch.nn.functional as functional
from torch import Tensor

from fastretina.errors import InvalidInput
from fastretina.networks.unet import VESSELS, UNet
from fastretina.training import vessels
from fastretina.training.loop import RunConfig, cosine, optimise
from fastretina.training.normalise import normalise


@dataclass
class Config(RunConfig):
    """``crops`` a step."""

    crops: int = 8
    rate: float = 2e-3
    weight_decay: float = 1e-4
    warmup_steps: int = 100

    def check(self) -> None:
        super().check()
        self.positive("crops", "rate")


class Learner:
    """Network and optimiser."""

    columns = ("rate", "cross_entropy", "dice")
    fixed = ("crops",)

    def __init__(self, config: Config) -> None:
        config.check()
        self.config = config
        self.step = 0
        torch.manual_seed(config.seed)
        if config.threads:
            torch.set_num_threads(config.threads)
        self.network = UNet(VESSELS).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimiser = torch.optim.AdamW(
            self.network.parameters(), config.rate, betas=(0.9, 0.99), weight_decay=config.weight_decay
        )

    def batches(self) -> Iterator[Tensor]:
        cv2.setNumThreads(1)
        config = self.config
        samples = vessels.for_training(vessels.labelled(config.samples()[0], config.data))
        return vessels.crops(samples, config.crops, config.seed, self.step)

    def update(self, batch: Tensor, progress: float) -> dict[str, float]:
        self.network.train()
        planes, masks, target = batch.split(1, 1)
        seen = normalise(planes, masks).contiguous(memory_format=torch.channels_last)
        amp = torch.autocast("cpu", torch.bfloat16) if self.config.bf16 else contextlib.nullcontext()
        with amp:
            logits = self.network(seen)
        cross_entropy, dice = losses(logits.float(), target, masks)
        rate = cosine(self.config.rate, self.step, progress, self.config.warmup_steps)
        optimise(self.optimiser, cross_entropy + dice, rate)
        return {"rate": rate, "cross_entropy": cross_entropy.item(), "dice": dice.item()}

    def state(self) -> dict[str, Any]:
        return {"network": self.network.state_dict(), "optimiser": self.optimiser.state_dict()}

    def restore(self, state: dict[str, Any]) -> None:
        try:
            self.network.load_state_dict(state["network"])
        except RuntimeError as error:
            raise InvalidInput("resume: the checkpoint holds another network") from error
        self.optimiser.load_state_dict(state["optimiser"])

    def release(self, path: Path) -> None:
        """The network in half precision."""
        from fastretina.networks.weight_files import save_weights

        save_weights(self.network, path, {"channels": VESSELS})


build = Learner


def losses(logits: Tensor, target: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropy and 1 - Dice inside the masks; all ``(N, 1, H, W)``. Document B adds the two.

    Dice is that of the whole batch: crops without a vessel would make it all or nothing.
    """
    cross_entropy = functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    probability, wanted = logits.sigmoid() * masks, target * masks
    overlap = (probability * wanted).sum()
    dice = (2 * overlap + 1) / (probability.sum() + wanted.sum() + 1)
    return (cross_entropy * masks).sum() / masks.sum().clamp_min(1), 1 - dice
