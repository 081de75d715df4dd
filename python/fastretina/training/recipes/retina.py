"""RetinaCraquelureNet: key points by cross-entropy, descriptors by InfoNCE or quadruplets, on crops of two views."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from fastretina.engines.manifest import load_manifest
from fastretina.errors import InvalidInput
from fastretina.networks.retina_craquelure import (
    SIZES,
    NetworkSize,
    RetinaCraquelureNet,
    sample_descriptors,
    sample_maps,
)
from fastretina.training import losses, patches
from fastretina.training.loop import RunConfig, cosine, decayed, load_checkpoint, optimise
from fastretina.training.normalise import normalise
from fastretina.training.pairs import Batch, PairStream, stream

LOSSES = ("infonce", "quadruplet")
ENDLESS = 10**8  # steps of a run that is limited by time


@dataclass
class Config(RunConfig):
    """``start`` and ``teacher``: a checkpoint (``.pt``), the name of a shipped weight set or a manifest; the network to
    go on from, and the one to learn from beside the labels.
    """

    network: str = "retina"
    start: str | None = None
    teacher: str | None = None
    loss: str = "infonce"
    patches: bool = False
    pairs: int = 12
    rate: float = 2e-3
    weight_decay: float = 1e-4
    warmup_steps: int = 150
    detector_weight: float = 3.0
    descriptor_weight: float = 1.0
    margin: float = 1.0
    symmetry_weight: float = 0.5
    teacher_weight: float = 0.1
    teacher_scale: float = 20.0
    turned_crops: int = 8
    size: NetworkSize = field(init=False)

    def __post_init__(self) -> None:
        if self.network not in SIZES:
            raise InvalidInput(f"network: expected one of {tuple(SIZES)}, got {self.network!r}")
        self.size = SIZES[self.network]

    def check(self) -> None:
        super().check()
        if self.loss not in LOSSES:
            raise InvalidInput(f"loss: expected one of {LOSSES}, got {self.loss!r}")
        if self.patches and self.teacher:
            raise InvalidInput("patches: a teacher sees whole crops; give one of patches and teacher")
        self.positive("pairs", "rate")


class Learner:
    """Network, teacher, optimiser and the temperature that is learned."""

    columns = ("rate", "detector", "descriptor", "correct")
    fixed = ("loss", "pairs")

    def __init__(self, config: Config) -> None:
        config.begin()
        self.config = config
        self.step = 0
        self.network = _network(config.size, config.start).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.teacher = load_network(config.teacher).to(memory_format=torch.channels_last) if config.teacher else None  # type: ignore[call-overload]
        self.log_scale = nn.Parameter(torch.tensor(float(np.log(1 / 0.1))))
        groups = decayed(self.network, config.weight_decay, self.log_scale)
        self.optimiser = torch.optim.AdamW(groups, lr=config.rate, betas=(0.9, 0.99))

    def batches(self) -> Iterator[Batch]:
        cv2.setNumThreads(1)  # the threads of OpenCV would not survive the fork of the workers
        config = self.config
        samples, _ = config.samples()
        steps = PairStream(samples, config.pairs, config.steps or ENDLESS, config.seed)
        return stream(steps, self.step, config.workers)

    def losses(self, batch: Batch) -> tuple[Tensor, Tensor, float]:
        """Detector loss, descriptor loss and the share of points whose partner is nearest in the whole batch."""
        planes = normalise(batch.planes, batch.masks)
        return self._patch_losses(planes, batch) if self.config.patches else self._crop_losses(planes, batch)

    def _crop_losses(self, planes: Tensor, batch: Batch) -> tuple[Tensor, Tensor, float]:
        config = self.config
        # A few crops are seen a second time, turned; which ones and how depends on the step only.
        copies, turn = min(config.turned_crops, len(planes)), 1 + self.step % 7
        pick = (torch.arange(copies) + self.step) % len(planes)
        seen = torch.cat([planes, losses.turn_plane(planes[pick], turn)]) if copies else planes
        class_maps, dense, taught = self._run(seen, len(planes))
        turned_maps, class_maps, dense = class_maps[len(planes) :], class_maps[: len(planes)], dense[: len(planes)]
        detector = losses.detector_loss(class_maps, batch.target, batch.weight)
        if copies:
            detector = detector + config.symmetry_weight * losses.symmetry_loss(class_maps[pick], turned_maps, turn)
        if taught:
            detector = detector + config.teacher_weight * losses.distil_detector(class_maps, taught[0])
        if len(batch.points) < 2:
            return detector, dense.sum() * 0, 0.0
        half = len(batch.planes) // 2

        def rows(maps: Tensor) -> tuple[Tensor, Tensor]:
            first = sample_descriptors(maps, batch.points[:, 0], batch.pair)
            return first, sample_descriptors(maps, batch.points[:, 1], batch.pair + half)

        return detector, *self._match_loss(rows(dense), batch, rows(taught[1]) if taught else None)

    def _patch_losses(self, planes: Tensor, batch: Batch) -> tuple[Tensor, Tensor, float]:
        batch = patches.chosen(batch, self.step)
        count, half = len(batch.points), len(batch.planes) // 2
        flat = patches.background(batch, count, self.step)
        points = torch.cat([batch.points[:, 0], batch.points[:, 1], flat[0]])
        seen, middle = patches.patches_at(planes, points, torch.cat([batch.pair, batch.pair + half, flat[1]]))
        class_maps, dense, _ = self._run(seen, 0)
        each = torch.arange(len(seen))
        difference = sample_maps(class_maps[:, :1] - class_maps[:, 1:], middle, each)[:, 0]
        vessel = (each < 2 * count).float()[None, :, None]
        maps = torch.stack([difference, torch.zeros_like(difference)])[None, ..., None]
        detector = losses.detector_loss(maps, vessel, 1 + vessel)
        if count < 2:
            return detector, dense.sum() * 0, 0.0
        rows = sample_descriptors(dense, middle[: 2 * count], each[: 2 * count])
        return detector, *self._match_loss((rows[:count], rows[count:]), batch, None)

    def _run(self, seen: Tensor, taught: int) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor] | None]:
        """Class maps and descriptors of all planes, and the teacher's of the first ``taught``."""
        with self.config.precision():
            class_maps, dense = self.network(seen.contiguous(memory_format=torch.channels_last))
            if not self.teacher:
                return class_maps, dense, None
            with torch.no_grad():
                return class_maps, dense, self.teacher(seen[:taught].contiguous(memory_format=torch.channels_last))

    def _match_loss(
        self, rows: tuple[Tensor, Tensor], batch: Batch, taught: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, float]:
        config = self.config
        masked = losses.neighbour_mask(batch.points, batch.pair)
        log_scale = self.log_scale.clamp(max=float(np.log(100)))
        if config.loss == "infonce":
            loss = losses.info_nce(*rows, masked, log_scale)
        else:
            loss = losses.quadruplet(*rows, masked, config.margin)
        if taught:
            loss = loss + losses.distil_matches(*rows, masked, log_scale.exp(), taught, config.teacher_scale)
        with torch.no_grad():
            nearest = (rows[0] @ rows[1].T).masked_fill(masked, -2).argmax(1)
            return loss, float((nearest == torch.arange(len(nearest))).float().mean())

    def update(self, batch: Batch, progress: float) -> dict[str, float]:
        config = self.config
        rate = cosine(config.rate, self.step, progress, config.warmup_steps)
        self.network.train()
        detector, descriptor, correct = self.losses(batch)
        optimise(self.optimiser, config.detector_weight * detector + config.descriptor_weight * descriptor, rate)
        return {"rate": rate, "detector": detector.item(), "descriptor": descriptor.item(), "correct": correct}

    def state(self) -> dict[str, Any]:
        return {
            "network": self.network.state_dict(),
            "size": self.config.size.as_dict(),
            "log_scale": self.log_scale.detach(),
            "optimiser": self.optimiser.state_dict(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        if NetworkSize.from_dict(state["size"]) != self.config.size:
            raise InvalidInput("resume: the checkpoint holds a network of another size")
        self.network.load_state_dict(state["network"])
        self.log_scale.data.copy_(state["log_scale"])
        self.optimiser.load_state_dict(state["optimiser"])

    def release(self, path: Path) -> None:
        """The weight set whose manifest is ``path`` (.toml): see ``engines/release.py``."""
        from fastretina.engines.release import release

        release(self.config.out / "last.pt", self.config.data, path.parent, path.stem)


build = Learner


def load_network(source: str | Path) -> RetinaCraquelureNet:
    """The network of a checkpoint (``.pt``), or of a weight set by its name or manifest, in evaluation mode."""
    path = Path(source)
    if path.suffix != ".pt":
        return load_manifest(str(source)).torch_network().eval()
    state = load_checkpoint(path)
    network = RetinaCraquelureNet(NetworkSize.from_dict(state["size"]))
    network.load_state_dict(state["network"])
    return network.eval()


def _network(size: NetworkSize, start: str | None) -> RetinaCraquelureNet:
    if start is None:
        return RetinaCraquelureNet(size)
    network = load_network(start)
    if network.size != size:
        raise InvalidInput(f"start: {start} holds a network of another size")
    return network
