"""GLAMPoints: a U-Net's heat map, rewarded where root-SIFT matches its points truly."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from fastretina.networks.unet import GLAMPOINTS
from fastretina.training import glampoints
from fastretina.training.glampoints import Batch
from fastretina.training.normalise import normalise
from fastretina.training.unet import UNetConfig, UNetLearner


@dataclass
class Config(UNetConfig):
    """``batch``: pairs a step; it and the rate are the paper's."""

    batch: int = 5


class Learner(UNetLearner):
    """Sees pairs of views."""

    columns = ("rate", "loss", "true", "points")  # true: share of the points that are matched truly; points a view

    def batches(self) -> Iterator[Batch]:
        return glampoints.pairs(self.samples(), self.config.batch, self.config.seed, self.step)

    def update(self, batch: Batch, progress: float) -> dict[str, float]:
        self.network.train()
        planes = normalise(batch.planes, batch.masks)
        heat = self.logits(planes).sigmoid()[:, 0]
        seen = heat.detach().contiguous().numpy()
        wanted, counts, true, found = glampoints.reward(seen, planes[:, 0].numpy(), batch, self.step)
        places = torch.from_numpy(counts)
        loss = ((heat - torch.from_numpy(wanted)) ** 2 * places).sum() / places.sum().clamp_min(1)
        rate = self.descend(loss, progress)
        return {"rate": rate, "loss": loss.item(), "true": true, "points": found}


def build(config: Config) -> Learner:
    return Learner(config, "glampoints", GLAMPOINTS)
