"""MagicPoint: the detector of SuperPoint, trained on synthetic shapes whose corners are known; needs no image."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from fastretina.errors import InvalidInput
from fastretina.networks.superpoint import SIZES, SuperPoint, SuperPointSize
from fastretina.networks.weight_files import save_weights
from fastretina.training.facts import facts_of
from fastretina.training.loop import RunConfig, cosine, optimise
from fastretina.training.normalise import normalise
from fastretina.training.shapes import draw
from fastretina.training.superpoint import cell_classes, detector_loss

SHAPE_PX = 128


@dataclass
class Config(RunConfig):
    """``size`` of the network: small (shipped) or paper; ``drawings`` a step."""

    size: str = "small"
    drawings: int = 16
    rate: float = 3e-3
    weight_decay: float = 1e-4
    warmup_steps: int = 50

    def check(self) -> None:
        super().check()
        if self.size not in SIZES:
            raise InvalidInput(f"size: expected one of {tuple(SIZES)}, got {self.size!r}")
        self.positive("drawings", "rate")


class Learner:
    """Network and optimiser."""

    columns: tuple[str, ...] = ("rate", "detector")
    fixed: tuple[str, ...] = ("size", "drawings")

    def __init__(self, config: Config) -> None:
        config.begin()
        self.config, self.step = config, 0
        self.network = SuperPoint(SIZES[config.size]).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimiser = torch.optim.AdamW(
            self.network.parameters(), config.rate, (0.9, 0.99), weight_decay=config.weight_decay
        )

    def batches(self) -> Iterator[Any]:
        """Drawings ``(N, 1, S, S)`` and the classes of their cells ``(N, S/8, S/8)``."""
        cv2.setNumThreads(1)
        for step in count(self.step):
            drawn = [
                draw(np.random.default_rng([self.config.seed, step, i]), SHAPE_PX) for i in range(self.config.drawings)
            ]
            planes = torch.from_numpy(np.stack([plane for plane, _ in drawn]))[:, None]
            yield planes, torch.from_numpy(np.stack([cell_classes(points, SHAPE_PX) for _, points in drawn]))

    def update(self, batch: Any, progress: float) -> dict[str, float]:
        planes, classes = batch
        rate = cosine(self.config.rate, self.step, progress, self.config.warmup_steps)
        logits, _ = self.forward(normalise(planes, torch.ones_like(planes)))
        loss = detector_loss(logits, classes)
        optimise(self.optimiser, loss, rate)
        return {"rate": rate, "detector": loss.item()}

    def forward(self, planes: Tensor) -> tuple[Tensor, Tensor]:
        """Logits and descriptors, in training mode."""
        self.network.train()
        with self.config.precision():
            return self.network(planes.contiguous(memory_format=torch.channels_last))

    def state(self) -> dict[str, Any]:
        return {
            "network": self.network.state_dict(),
            "size": self.network.size.as_dict(),
            "optimiser": self.optimiser.state_dict(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        if SuperPointSize.from_dict(state["size"]) != self.network.size:
            raise InvalidInput("resume: the checkpoint holds a network of another size")
        self.network.load_state_dict(state["network"])
        self.optimiser.load_state_dict(state["optimiser"])

    def release(self, path: Path) -> None:
        """Weights of the detector; the descriptors are untrained."""
        facts = {"size": self.network.size.as_dict()} | facts_of("magicpoint", self.config, [])
        save_weights(self.network, path, facts)


build = Learner
