"""Recipe of the registration network by dense correlation (``networks/arbicon.py``)."""

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

from fastretina.config import nearest
from fastretina.errors import InvalidInput
from fastretina.networks import arbicon
from fastretina.networks.arbicon import Arbicon, Look
from fastretina.networks.weight_files import save_weights
from fastretina.training import frame_losses as losses
from fastretina.training import frame_pairs
from fastretina.training.facts import facts_of
from fastretina.training.frame_pairs import FrameBatch
from fastretina.training.loop import RunConfig, cosine, optimise
from fastretina.training.pairs import stream

POINTS = 512  # of vessels, an image
ENDLESS = 10**8  # steps of a run that is limited by time
CELLS = 30  # of the inverse map that the reverse hinge needs, bilinear between


@dataclass
class Config(RunConfig):
    """``network``: "small" ships, "full" has the 15 x 15 grid. ``start``: weights of RetinaCraquelureNet, whose first
    levels the trunk starts from; "" starts from nothing.

    ``dense_from``: share of the run after which the dense stage is trained, too; ``joint_from``: after which document
    B's joint losses are added to the grid loss.
    """

    synthetic_share: float = 0.85
    network: str = "small"
    start: str = "retina"
    pairs: int = 8
    rate: float = 1e-3
    weight_decay: float = 1e-4
    warmup_steps: int = 50
    affine_steps: int = 2
    matching_weight: float = 0.3
    segmentation_weight: float = 0.1
    dense_from: float = 0.65
    joint_from: float = 0.85

    def check(self) -> None:
        super().check()
        self.positive("pairs", "rate")
        if self.network not in arbicon.SIZES:
            raise InvalidInput(f"network: got {self.network!r}; {nearest(self.network, list(arbicon.SIZES))}")
        if not 0 <= self.dense_from <= self.joint_from <= 1:
            got = f"{self.dense_from} and {self.joint_from}"
            raise InvalidInput(f"dense_from, joint_from: got {got}; allowed: 0 <= dense_from <= joint_from <= 1")


class Learner:
    """One step: look at a batch, align it, bend it; the loss is the sum of all stages."""

    columns = ("rate", "affine", "dense", "matching", "segmentation", "chamfer", "hinge")
    fixed = ("network", "pairs")

    def __init__(self, config: Config) -> None:
        config.check()
        self.config, self.step = config, 0
        torch.manual_seed(config.seed)
        if config.threads:
            torch.set_num_threads(config.threads)
        self.network = Arbicon(arbicon.SIZES[config.network]).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if config.start:
            start_from(self.network, config.start)
        decay = [p for p in self.network.parameters() if p.ndim > 1]
        plain = [p for p in self.network.parameters() if p.ndim <= 1]
        groups = [{"params": decay, "weight_decay": config.weight_decay}, {"params": plain, "weight_decay": 0.0}]
        self.optimiser = torch.optim.AdamW(groups, lr=config.rate, betas=(0.9, 0.99))

    def batches(self) -> Iterator[FrameBatch]:
        cv2.setNumThreads(1)  # the threads of OpenCV would not survive the fork of the workers
        config = self.config
        samples, _ = config.samples()
        steps = frame_pairs.FrameStream(samples, config.pairs, config.steps or ENDLESS, config.seed)
        return stream(steps, self.step, config.workers)

    def update(self, batch: FrameBatch, progress: float) -> dict[str, float]:
        config = self.config
        rate = cosine(config.rate, self.step, progress, config.warmup_steps)
        self.network.train()
        parts = self.losses(batch, dense=progress >= config.dense_from, joint=progress >= config.joint_from)
        weights = {"matching": config.matching_weight, "segmentation": config.segmentation_weight}
        total = torch.stack([weights.get(name, 1.0) * value for name, value in parts.items()]).sum()
        optimise(self.optimiser, total, rate, clip=1.0)
        return {"rate": rate, **{name: parts[name].item() if name in parts else 0.0 for name in self.columns[1:]}}

    def losses(self, batch: FrameBatch, dense: bool = True, joint: bool = True) -> dict[str, Tensor]:
        """Of the stages, by name; ``dense`` adds the dense one, ``joint`` document B's registration losses."""
        network, n = self.network, len(batch.truth)
        points, truth = frame_pairs.grid_points(n), batch.truth.flatten(2).transpose(1, 2)
        with torch.autocast("cpu", torch.bfloat16) if self.config.bf16 else contextlib.nullcontext():
            looks = network.look(batch.planes, batch.masks)
            fixed, moving = (Look(*(part[half] for part in looks)) for half in (slice(None, n), slice(n, None)))
            first = network.affine_step(fixed, moving)
            later = network.align(fixed, batch.planes[n:], batch.masks[n:], first, self.config.affine_steps - 1)
        affines = [first, *later]
        cells = _at_cells(batch.truth, network.size.grid)
        seen = functional.adaptive_avg_pool2d(batch.masks[n:, 0], network.size.grid)
        parts = {
            "affine": torch.stack([losses.grid_loss(arbicon.apply(a, points), truth) for a in affines]).mean(),
            "matching": losses.matching_loss(arbicon.correlate(fixed.cells, moving.cells), cells, seen),
            "segmentation": losses.dice_loss(looks.vessels, batch.vessels, batch.masks)
            + losses.cross_entropy(looks.vessels, batch.vessels, batch.masks),
        }
        if not dense:
            return parts
        known = affines[-1].detach()
        with torch.autocast("cpu", torch.bfloat16) if self.config.bf16 else contextlib.nullcontext():
            code = network.code(fixed, network.warped(batch.planes[n:], batch.masks[n:], known))
        aligned = arbicon.apply(known, points)
        parts["dense"] = losses.grid_loss(aligned + network.displacement(aligned, code), truth)
        return parts | self._joint(batch, affines[-1], code) if joint else parts

    def _joint(self, batch: FrameBatch, affine: Tensor, code: Tensor) -> dict[str, Tensor]:
        n = len(batch.truth)
        fixed, moving = batch.vessels[:n], batch.vessels[n:]
        points = arbicon.apply(affine, losses.vessel_points(moving, POINTS, self.step))
        points = points + self.network.displacement(points, code)
        there = arbicon.cell_centres(CELLS).expand(n, -1, -1)
        # One step of the fixed point: the field is small, and smooth over its own length.
        back = arbicon.apply(arbicon.invert(affine), there - self.network.displacement(there, code))
        return {
            "chamfer": losses.chamfer_loss(losses.distance_to_vessels(fixed), batch.masks[:n], points),
            "hinge": losses.reverse_hinge(fixed, moving, back.reshape(n, CELLS, CELLS, 2)),
        }

    def state(self) -> dict[str, Any]:
        return {"network": self.network.state_dict(), "optimiser": self.optimiser.state_dict()}

    def restore(self, state: dict[str, Any]) -> None:
        self.network.load_state_dict(state["network"])
        self.optimiser.load_state_dict(state["optimiser"])

    def release(self, path: Path) -> None:
        """``NAME.safetensors``, half precision, with what it was trained on in its header."""
        samples, _ = self.config.samples()
        facts = facts_of("arbicon", self.config, samples)
        save_weights(self.network, path, {"size": self.network.size.as_dict(), **facts})


build = Learner


def _at_cells(truth: Tensor, grid: int) -> Tensor:
    """The truth (N, 2, GRID, GRID) at the centres of grid x grid cells."""
    where = arbicon.cell_centres(grid).reshape(1, grid, grid, 2).expand(len(truth), -1, -1, -1)
    return functional.grid_sample(truth, where, padding_mode="border", align_corners=False)


def start_from(network: Arbicon, weights: str) -> None:
    """Take the first levels of RetinaCraquelureNet: a checkpoint, a weight set's name or a manifest."""
    from fastretina.training.recipes.retina import load_network

    levels = load_network(weights)
    for name in ("level2", "level4", "level8"):
        getattr(network.trunk, name).load_state_dict(getattr(levels, name).state_dict())
