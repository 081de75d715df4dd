"""SuperGlue on the features of a frozen front end: the assignment's likelihood on pairs of views of known geometry."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from fastretina.config import Config as RegistrarConfig
from fastretina.config import nearest
from fastretina.errors import InvalidInput
from fastretina.methods.superglue import FRONT_ENDS, THRESHOLD
from fastretina.networks.superglue import SuperGlue, SuperGlueSize
from fastretina.networks.weight_files import save_weights
from fastretina.training.facts import facts_of
from fastretina.training.loop import RunConfig, cosine, decayed, optimise
from fastretina.training.matching import MatchBatch, PairSource, assignment_loss, judged
from fastretina.training.sample import Sample
from fastretina.training.views import DescribedView, ViewOptions, described

HELD_OUT_VIEWS = 6  # of each image
HELD_OUT_BATCHES = 25
HELD_OUT_SEED = 1


@dataclass
class Config(RunConfig):
    """``front_end``: whose features are matched. ``views`` of each image are described before the first step; a step
    sees ``pairs`` of them with up to ``points`` key points each. The paper's network: width 256, layers 18.
    """

    sets: str = "clean"
    bf16: bool = False  # gains nothing: attention among few points
    front_end: str = "retina"
    views: int = 24
    width: int = SuperGlueSize.width
    layers: int = SuperGlueSize.layers
    pairs: int = 8
    points: int = 256
    rate: float = 6e-4
    weight_decay: float = 1e-4
    warmup_steps: int = 100

    def check(self) -> None:
        super().check()
        if self.front_end not in FRONT_ENDS:
            raise InvalidInput(f"front_end: got {self.front_end!r}; {nearest(self.front_end, list(FRONT_ENDS))}")
        self.positive("views", "width", "layers", "pairs", "points", "rate")
        if self.views < 2:
            raise InvalidInput(f"views: got {self.views}; allowed: 2, 3, 4 ... of each image, since two make a pair")


class Learner:
    """The network and its optimiser; the front end does not learn."""

    columns = ("rate", "loss", "precision", "recall")
    fixed = ("front_end", "sets", "synthetic", "views", "width", "layers", "pairs", "points")

    def __init__(self, config: Config) -> None:
        config.begin()
        self.config = config
        self.step = 0
        front = FRONT_ENDS[config.front_end]
        self.describe = front.build(RegistrarConfig(), config.threads or 1)
        self.side_px = front.view_px
        self.network = SuperGlue(SuperGlueSize(front.dims, config.width, config.layers))
        self.optimiser = torch.optim.AdamW(decayed(self.network, config.weight_decay), lr=config.rate)

    def batches(self) -> Iterator[MatchBatch]:
        training, _ = self.config.samples()
        return self._pairs(training, "views.npz", self.config.views, self.config.seed).batches(self.step)

    def _pairs(self, samples: list[Sample], file: str, views: int, seed: int) -> PairSource:
        cv2.setNumThreads(1)
        config, options = self.config, ViewOptions(views, self.side_px, seed)
        found: list[DescribedView] = described(samples, self.describe, config.out / file, options, config.progress)
        return PairSource(found, np.array([s.weight for s in samples]), config.pairs, config.points, seed)

    def update(self, batch: MatchBatch, progress: float) -> dict[str, float]:
        config = self.config
        rate = cosine(config.rate, self.step, progress, config.warmup_steps)
        self.network.train()
        found = self._run(batch)
        loss = assignment_loss(found, batch)
        optimise(self.optimiser, loss, rate)
        precision, recall = judged(found, batch, THRESHOLD)
        return {"rate": rate, "loss": loss.item(), "precision": precision, "recall": recall}

    def _run(self, batch: MatchBatch) -> torch.Tensor:
        with self.config.precision():
            return self.network(batch.fixed, batch.moving)

    def state(self) -> dict[str, Any]:
        return {"network": self.network.state_dict(), "optimiser": self.optimiser.state_dict()}

    def restore(self, state: dict[str, Any]) -> None:
        self.network.load_state_dict(state["network"])
        self.optimiser.load_state_dict(state["optimiser"])

    @torch.no_grad()
    def held_out(self) -> dict[str, float]:
        """Mean loss, precision and recall on pairs of images that no step saw."""
        _, samples = self.config.samples()
        pairs = self._pairs(samples, "held_out.npz", HELD_OUT_VIEWS, HELD_OUT_SEED)
        self.network.eval()
        rows = []
        for step in range(HELD_OUT_BATCHES):
            batch = pairs.batch(step)
            found = self._run(batch)
            rows.append((assignment_loss(found, batch).item(), *judged(found, batch, THRESHOLD)))
        return dict(zip(("loss", "precision", "recall"), np.mean(rows, 0).round(4).tolist(), strict=True))

    def release(self, path: Path) -> None:
        """The weight file, with what is known of it."""
        training, _ = self.config.samples()
        facts = {
            "architecture": "SuperGlue (networks/superglue.py)",
            "size": self.network.size.as_dict(),
            "front_end": {"name": self.config.front_end, "weights_hash": self.describe.weights_hash},
            "held_out": self.held_out(),
        }
        save_weights(self.network, path, facts | facts_of("superglue", self.config, training))


build = Learner
