"""Recipe of the registration network by dense correlation (``networks/arbicon.py``)."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from fastretina.errors import InvalidInput
from fastretina.networks import arbicon
from fastretina.networks.arbicon import Arbicon, Look
from fastretina.training import frame_losses as losses
from fastretina.training import frame_pairs
from fastretina.training.frame_pairs import FrameBatch
from fastretina.training.sample import Sample

POINTS = 512  # of vessels, an image
CELLS = 30  # of the inverse map that the reverse hinge needs, bilinear between


@dataclass
class Options:
    """``size``: "small" ships, "full" has the 15 x 15 grid. ``start``: weights of RetinaCraquelureNet to start from.

    ``dense_from``: share of the run after which the dense stage is trained, too; ``joint_from``: after which document B's
    joint losses are added to the grid loss.
    """

    size: str = "small"
    start: str | None = "retina"
    pairs: int = 8
    rate: float = 2e-3
    weight_decay: float = 1e-4
    warmup_steps: int = 100
    affine_steps: int = 2
    matching_weight: float = 0.1
    segmentation_weight: float = 0.1
    dense_from: float = 0.25
    joint_from: float = 0.75

    def __post_init__(self) -> None:
        if self.size not in arbicon.SIZES:
            raise InvalidInput(f"size: got {self.size!r}; allowed: {', '.join(arbicon.SIZES)}")
        if not 0 <= self.dense_from <= self.joint_from <= 1:
            got = f"{self.dense_from} and {self.joint_from}"
            raise InvalidInput(f"dense_from, joint_from: got {got}; allowed: 0 <= dense_from <= joint_from <= 1")


class ArbiconLearner:
    """One step: look at a batch, align it, bend it; the loss is the sum of all stages."""

    columns = ("rate", "affine", "dense", "matching", "segmentation", "chamfer", "hinge")

    def __init__(self, samples: list[Sample], options: Options, seed: int = 0, bf16: bool = True) -> None:
        torch.manual_seed(seed)
        self.samples, self.options, self.seed, self.bf16 = samples, options, seed, bf16
        self.network = Arbicon(arbicon.SIZES[options.size]).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if options.start:
            start_from(self.network, options.start)
        decay = [p for p in self.network.parameters() if p.ndim > 1]
        plain = [p for p in self.network.parameters() if p.ndim <= 1]
        groups = [{"params": decay, "weight_decay": options.weight_decay}, {"params": plain, "weight_decay": 0.0}]
        self.optimiser = torch.optim.AdamW(groups, lr=options.rate, betas=(0.9, 0.99))
        self.step = 0

    def batches(self, start: int) -> Iterator[FrameBatch]:
        """Item i depends on (seed, i) only."""
        return frame_pairs.stream(self.samples, self.options.pairs, self.seed, start)

    def update(self, batch: FrameBatch, progress: float) -> dict[str, float]:
        """One optimiser step."""
        warm = min(1.0, (self.step + 1) / max(self.options.warmup_steps, 1))
        rate = self.options.rate * warm * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0))))
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.network.train()
        options = self.options
        parts = self.losses(batch, dense=progress >= options.dense_from, joint=progress >= options.joint_from)
        self.optimiser.zero_grad(set_to_none=True)
        weights = {"matching": options.matching_weight, "segmentation": options.segmentation_weight}
        total = torch.stack([weights.get(name, 1.0) * value for name, value in parts.items()]).sum()
        total.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimiser.step()
        self.step += 1
        return {"rate": rate, **{name: parts[name].item() if name in parts else 0.0 for name in self.columns[1:]}}

    def losses(self, batch: FrameBatch, dense: bool = True, joint: bool = True) -> dict[str, Tensor]:
        """Of the stages, by name; ``dense`` adds the dense one, ``joint`` document B's registration losses."""
        network, n = self.network, len(batch.truth)
        points, truth = frame_pairs.grid_points(n), batch.truth.flatten(2).transpose(1, 2)
        with torch.autocast("cpu", torch.bfloat16) if self.bf16 else contextlib.nullcontext():
            looks = network.look(batch.planes, batch.masks)
            fixed, moving = (Look(*(part[half] for part in looks)) for half in (slice(None, n), slice(n, None)))
            first = network.affine_step(fixed, moving)
            later = network.align(fixed, batch.planes[n:], batch.masks[n:], first, self.options.affine_steps - 1)
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
        with torch.autocast("cpu", torch.bfloat16) if self.bf16 else contextlib.nullcontext():
            code = network.code(fixed, network.warped(batch.planes[n:], batch.masks[n:], known))
        aligned = arbicon.apply(known, points)
        parts["dense"] = losses.grid_loss(aligned + network.displacement(aligned, code), truth)
        return parts | self._joint(batch, affines[-1], code) if joint else parts

    def _joint(self, batch: FrameBatch, affine: Tensor, code: Tensor) -> dict[str, Tensor]:
        n = len(batch.truth)
        fixed, moving = batch.vessels[:n], batch.vessels[n:]
        points = arbicon.apply(affine, losses.vessel_points(moving, POINTS, self.step))
        points = points + self.network.displacement(points, code)
        axis = (torch.arange(CELLS) + 0.5) * (2 / CELLS) - 1
        there = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), -1).reshape(1, -1, 2).expand(n, -1, -1)
        # One step of the fixed point: the field is small, and smooth over its own length.
        back = arbicon.apply(arbicon.invert(affine), there - self.network.displacement(there, code))
        return {
            "chamfer": losses.chamfer_loss(losses.distance_to_vessels(fixed), batch.masks[:n], points),
            "hinge": losses.reverse_hinge(fixed, moving, back.reshape(n, CELLS, CELLS, 2)),
        }

    def state(self) -> dict[str, Any]:
        """All that a resumed run needs."""
        return {
            "network": self.network.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "step": self.step,
            "options": asdict(self.options),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """The inverse of ``state``; InvalidInput for that of another network."""
        if state["options"] != asdict(self.options):
            raise InvalidInput(f"resume: the run was started with {state['options']}")
        self.network.load_state_dict(state["network"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step = state["step"]


def _at_cells(truth: Tensor, grid: int) -> Tensor:
    """The truth (N, 2, GRID, GRID) at the centres of grid x grid cells."""
    axis = (torch.arange(grid) + 0.5) * (2 / grid) - 1
    where = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), -1).expand(len(truth), -1, -1, -1)
    return functional.grid_sample(truth, where, padding_mode="border", align_corners=False)


def start_from(network: Arbicon, weights: str) -> None:
    """Take the first levels of RetinaCraquelureNet: a checkpoint, a weight set's name or a manifest."""
    from fastretina.training.trainer import load_network

    levels = load_network(weights)
    for name in ("level2", "level4", "level8"):
        getattr(network.trunk, name).load_state_dict(getattr(levels, name).state_dict())
