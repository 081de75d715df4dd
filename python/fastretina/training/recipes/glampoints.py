"""GLAMPoints: a U-Net's heat map, rewarded where root-SIFT matches its points truly."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import torch

from fastretina.errors import InvalidInput
from fastretina.networks.unet import GLAMPOINTS, UNet
from fastretina.training import glampoints
from fastretina.training.glampoints import Batch
from fastretina.training.loop import RunConfig, cosine, optimise
from fastretina.training.normalise import normalise


@dataclass
class Config(RunConfig):
    """``pairs`` a step; rate and pairs are the paper's."""

    pairs: int = 5
    rate: float = 1e-3
    warmup_steps: int = 50

    def check(self) -> None:
        super().check()
        self.positive("pairs", "rate")


class Learner:
    """Network and optimiser."""

    columns = ("rate", "loss", "true", "points")  # true: share of the points that are matched truly
    fixed = ("pairs",)

    def __init__(self, config: Config) -> None:
        config.check()
        self.config = config
        self.step = 0
        torch.manual_seed(config.seed)
        if config.threads:
            torch.set_num_threads(config.threads)
        self.network = UNet(GLAMPOINTS).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimiser = torch.optim.Adam(self.network.parameters(), config.rate)

    def batches(self) -> Iterator[Batch]:
        cv2.setNumThreads(1)
        samples, _ = self.config.samples()
        return glampoints.pairs(samples, self.config.pairs, self.config.seed, self.step)

    def update(self, batch: Batch, progress: float) -> dict[str, float]:
        self.network.train()
        planes = normalise(batch.planes, batch.masks)
        amp = torch.autocast("cpu", torch.bfloat16) if self.config.bf16 else contextlib.nullcontext()
        with amp:
            logits = self.network(planes.contiguous(memory_format=torch.channels_last))
        heat = logits.float().sigmoid()[:, 0]
        wanted, counts, true, found = glampoints.reward(
            heat.detach().contiguous().numpy(), planes[:, 0].numpy(), batch, self.step
        )
        places = torch.from_numpy(counts)
        loss = ((heat - torch.from_numpy(wanted)) ** 2 * places).sum() / places.sum().clamp_min(1)
        rate = cosine(self.config.rate, self.step, progress, self.config.warmup_steps)
        optimise(self.optimiser, loss, rate)
        return {"rate": rate, "loss": loss.item(), "true": true, "points": found}

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

        save_weights(self.network, path, {"channels": GLAMPOINTS})


build = Learner
