"""What the recipes of U-Nets share: network and optimiser, their state, and the file that ships."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import torch
from torch import Tensor

from fastretina.errors import InvalidInput
from fastretina.networks.unet import UNet
from fastretina.networks.weight_files import save_weights
from fastretina.training.facts import facts_of
from fastretina.training.loop import RunConfig, cosine, optimise
from fastretina.training.sample import Sample


@dataclass
class UNetConfig(RunConfig):
    """``batch``: how many a step, of what the recipe says."""

    batch: int = 8
    rate: float = 1e-3
    warmup_steps: int = 100

    def check(self) -> None:
        super().check()
        self.positive("batch", "rate")


class UNetLearner:
    """Network and optimiser; a recipe adds ``columns``, ``samples``, ``batches`` and ``update``."""

    fixed = ("batch",)

    def __init__(self, config: UNetConfig, recipe: str, channels: tuple[int, ...]) -> None:
        config.begin()
        self.config, self.recipe = config, recipe
        self.step = 0
        cv2.setNumThreads(1)
        self.network = UNet(channels).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimiser = torch.optim.AdamW(self.network.parameters(), config.rate, betas=(0.9, 0.99), weight_decay=1e-4)

    def samples(self) -> list[Sample]:
        """What is trained on."""
        return self.config.samples()[0]

    def logits(self, planes: Tensor) -> Tensor:
        """Of normalised planes ``(N, 1, S, S)``, float32."""
        with self.config.precision():
            return self.network(planes.contiguous(memory_format=torch.channels_last)).float()

    def descend(self, loss: Tensor, progress: float) -> float:
        """One step of the optimiser; returns its rate."""
        rate = cosine(self.config.rate, self.step, progress, self.config.warmup_steps)
        optimise(self.optimiser, loss, rate)
        return rate

    def state(self) -> dict[str, Any]:
        return {"network": self.network.state_dict(), "optimiser": self.optimiser.state_dict()}

    def restore(self, state: dict[str, Any]) -> None:
        try:
            self.network.load_state_dict(state["network"])
        except RuntimeError as error:
            raise InvalidInput("resume: the checkpoint holds another network") from error
        self.optimiser.load_state_dict(state["optimiser"])

    def release(self, path: Path) -> None:
        """The network in half precision, and how it came to be."""
        config = self.config
        length = f"--minutes {config.minutes:g}" if config.minutes else f"--steps {config.steps}"
        data = f"--sets {config.sets} --synthetic {config.synthetic} --synthetic-share {config.synthetic_share:g}"
        facts = facts_of(self.recipe, config, self.samples()) | {
            "architecture": "U-Net (networks/unet.py)",
            "channels": self.network.channels,
            "parameters": sum(p.numel() for p in self.network.parameters()),
            "sets": config.sets,
            "synthetic_eyes": config.synthetic,
            "batch": config.batch,
            "seed": config.seed,
            "command": f"fastretina train --recipe {self.recipe} {data} {length}",
        }
        save_weights(self.network, path, facts)
