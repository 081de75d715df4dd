"""Recipe of the registration network by dense correlation (``networks/arbicon.py``)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fastretina.config import nearest
from fastretina.errors import InvalidInput
from fastretina.networks import arbicon
from fastretina.networks.arbicon import Agreed, Arbicon, Look
from fastretina.networks.weight_files import save_weights
from fastretina.training import frame_losses as losses
from fastretina.training import frame_pairs
from fastretina.training.facts import facts_of
from fastretina.training.frame_pairs import FrameBatch
from fastretina.training.loop import RunConfig, cosine, decayed, optimise
from fastretina.training.losses import dice_loss

POINTS = 512  # of vessels, an image
CAUGHT = 0.1  # frame units: the field is learned on pairs whose affine map is nearer than that; it mends no other
CELLS = 30  # of the inverse map that the reverse hinge needs, bilinear between


@dataclass
class Config(RunConfig):
    """``network``: "small" ships, "full" has the 15 x 15 grid. ``start``: weights of RetinaCraquelureNet, the trunk.

    ``dense_from``: share of the run after which the dense stage is trained, too; ``joint_from``: after which document
    B's joint losses are added to the grid loss.
    """

    sets: str = "clean"
    synthetic_share: float = 0.85
    network: str = "small"
    start: str = "retina"
    pairs: int = 4
    rate: float = 2e-3
    weight_decay: float = 1e-4
    warmup_steps: int = 20
    affine_weight: float = 3.0
    segmentation_weight: float = 0.1
    dense_weight: float = 10.0
    dense_from: float = 0.3
    joint_from: float = 0.8

    def check(self) -> None:
        super().check()
        self.positive("pairs", "rate")
        if self.network not in arbicon.SIZES:
            raise InvalidInput(f"network: got {self.network!r}; {nearest(self.network, list(arbicon.SIZES))}")
        if not 0 <= self.dense_from <= self.joint_from <= 1:
            got = f"{self.dense_from} and {self.joint_from}"
            raise InvalidInput(f"dense_from, joint_from: got {got}; allowed: 0 <= dense_from <= joint_from <= 1")


class Learner:
    """One step: look at a batch, align it twice, bend it; the loss is the sum of all stages."""

    columns = ("rate", "matching", "affine", "dense", "segmentation", "chamfer", "hinge")
    fixed = ("network", "start", "sets", "synthetic", "pairs")

    def __init__(self, config: Config) -> None:
        config.begin()
        self.config, self.step = config, 0
        self.network = Arbicon(arbicon.SIZES[config.network])
        start_from(self.network, config.start)
        groups = decayed(self.network, config.weight_decay)
        self.optimiser = torch.optim.AdamW(groups, lr=config.rate, betas=(0.9, 0.99))

    def batches(self) -> Iterator[FrameBatch]:
        config = self.config
        return frame_pairs.batches(config.samples()[0], config.pairs, config.seed, self.step)

    def update(self, batch: FrameBatch, progress: float) -> dict[str, float]:
        config = self.config
        rate = cosine(config.rate, self.step, progress, config.warmup_steps)
        self.network.train()
        parts = self.losses(batch, dense=progress >= config.dense_from, joint=progress >= config.joint_from)
        weights = {
            "affine": config.affine_weight, "dense": config.dense_weight, "segmentation": config.segmentation_weight
        }  # fmt: skip
        total = torch.stack([weights.get(name, 1.0) * value for name, value in parts.items()]).sum()
        optimise(self.optimiser, total, rate, clip=1.0)
        return {"rate": rate, **{name: parts[name].item() if name in parts else 0.0 for name in self.columns[1:]}}

    def losses(self, batch: FrameBatch, dense: bool = True, joint: bool = True) -> dict[str, Tensor]:
        """Of the stages, by name; ``dense`` adds the dense one, ``joint`` document B's registration losses."""
        network, n = self.network, len(batch.truth)
        points, truth = frame_pairs.grid_points(n), batch.truth.flatten(2).transpose(1, 2)
        with self.config.precision():
            looks = network.look(batch.planes, batch.masks)
            fixed, moving = (Look(*(part[half] for part in looks)) for half in (slice(None, n), slice(n, None)))
            first = network.agreed(fixed, moving)
        known, _ = arbicon.fit(*first.lists())
        with self.config.precision():
            again = network.agreed(fixed, network.warped(batch.planes[n:], batch.masks[n:], known.detach()))
        step, _ = arbicon.fit(*again.lists())
        affines = known, arbicon.compose(step, known.detach())
        matched = _matching(batch, first, arbicon.identity(n)), _matching(batch, again, known)
        parts = {
            "matching": torch.stack(matched).mean(),
            "affine": torch.stack([losses.grid_loss(arbicon.apply(a, points), truth) for a in affines]).mean(),
            "segmentation": dice_loss(looks.vessels, batch.vessels, batch.masks)
            + losses.cross_entropy(looks.vessels, batch.vessels, batch.masks),
        }
        if not dense:
            return parts
        return parts | self._bent(batch, known.detach(), again, joint)

    def _bent(self, batch: FrameBatch, affine: Tensor, agreed: Agreed, joint: bool) -> dict[str, Tensor]:
        """Of the dense stage. One call for all points: they share the statistics of its normalisation."""
        n = len(batch.truth)
        fixed, moving = batch.vessels[:n], batch.vessels[n:]
        source = torch.cat([frame_pairs.grid_points(n), losses.vessel_points(moving, POINTS, self.step)], 1)
        points = torch.cat([arbicon.apply(affine, source), arbicon.cell_centres(CELLS).expand(n, -1, -1)], 1)
        with self.config.precision():
            code = self.network.code(agreed)
        away = self.network.displacement(points, code)
        grid, vessels, _ = (points + away).split((frame_pairs.GRID**2, POINTS, CELLS**2), 1)
        truth = batch.truth.flatten(2).transpose(1, 2)
        off = (points[:, : grid.shape[1]] - truth).norm(dim=2).mean(1)
        parts = {"dense": losses.grid_loss(grid, truth, off < CAUGHT)}
        if not joint:
            return parts
        # One step of the fixed point: the field is small, and smooth over its own length.
        back = arbicon.apply(arbicon.invert(affine), (points - away)[:, -(CELLS**2) :])
        return parts | {
            "chamfer": losses.chamfer_loss(losses.distance_to_vessels(fixed), batch.masks[:n], vessels),
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


def _matching(batch: FrameBatch, agreed: Agreed, known: Tensor) -> Tensor:
    """Of what is agreed about MOVING as ``known`` has warped it."""
    weight, found, moving = agreed.lists()
    source = arbicon.apply(arbicon.invert(known.detach()), moving)
    return losses.matching_loss(weight, found, frame_pairs.truth_at(batch.truth, source))


def start_from(network: Arbicon, weights: str) -> None:
    """Take RetinaCraquelureNet: of a checkpoint, a weight set's name or a manifest."""
    from fastretina.training.recipes.retina import load_network

    network.trunk.levels.load_state_dict(load_network(weights).state_dict())
