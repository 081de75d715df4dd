"""SuperPoint: detector and descriptors together, on pairs of views; labels by homographic adaptation.

``start`` is the detector that makes the labels, and the network that goes on: of the recipe ``magicpoint``, or of an
earlier run of this one, whose better detector makes better labels (DeTone et al. 2018, section 5.2).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from fastretina.errors import InvalidInput
from fastretina.networks.retina_craquelure import sample_descriptors
from fastretina.networks.superpoint import CELL_PX, SuperPoint, SuperPointSize
from fastretina.networks.weight_files import save_weights
from fastretina.training import losses
from fastretina.training.adaptation import adapt_all
from fastretina.training.facts import facts_of
from fastretina.training.loop import cosine, load_checkpoint, optimise
from fastretina.training.normalise import normalise
from fastretina.training.pairs import CROP_PX, Batch, collate, make_pair, random_views
from fastretina.training.recipes import magicpoint
from fastretina.training.sample import Sample
from fastretina.training.superpoint import cell_centres, cell_classes, detector_loss, hinge_loss

LOSSES = ("infonce", "hinge")


@dataclass
class Config(magicpoint.Config):
    """``start``: a checkpoint (``.pt``). ``homographies`` and ``labels`` an image for the adaptation; ``pairs`` of
    crops a step; ``loss`` of the descriptors: that of the paper ("hinge") or InfoNCE at the labels.
    """

    start: Path | str | None = None
    homographies: int = 16
    labels: int = 250
    pairs: int = 8
    loss: str = "infonce"
    detector_weight: float = 1.0
    descriptor_weight: float = 1.0

    def __post_init__(self) -> None:
        self.start = Path(self.start) if self.start else None

    def check(self) -> None:
        super().check()
        if self.loss not in LOSSES:
            raise InvalidInput(f"loss: expected one of {LOSSES}, got {self.loss!r}")
        if self.start is None:
            raise InvalidInput("start: missing; a checkpoint of the recipe magicpoint or of this one")
        self.positive("homographies", "labels", "pairs")


@dataclass
class Views:
    """What a step sees. ``classes`` ``(2P, h, w)``; ``centres`` ``(P, h, w, 2)``: see ``cell_centres``."""

    pairs: Batch
    classes: Tensor
    centres: Tensor


class Learner(magicpoint.Learner):
    """Network, optimiser and the temperature of InfoNCE."""

    columns = ("rate", "detector", "descriptor", "correct")
    fixed = ("size", "pairs", "loss", "homographies", "labels")
    config: Config

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.network.load_state_dict(load_network(config.start, self.network.size).state_dict())
        self.log_scale = nn.Parameter(torch.tensor(float(np.log(1 / 0.1))))
        self.optimiser.add_param_group({"params": [self.log_scale], "weight_decay": 0.0})

    def batches(self) -> Iterator[Views]:
        cv2.setNumThreads(1)
        config = self.config
        samples = self.labelled()
        shares = np.cumsum([s.weight for s in samples])
        for step in count(self.step):
            rngs = [np.random.default_rng([config.seed, step, i]) for i in range(config.pairs)]
            chosen = [int(np.searchsorted(shares, rng.random() * shares[-1], side="right")) for rng in rngs]
            yield views_of(rngs, [samples[min(i, len(samples) - 1)] for i in chosen])

    def labelled(self) -> list[Sample]:
        """The training images, their key points those of the adaptation; made once a run."""
        config = self.config
        samples, _ = config.samples()
        teacher = load_network(config.start, self.network.size).to(memory_format=torch.channels_last)  # type: ignore
        points = adapt_all(
            teacher, samples, config.out / "labels.npz",
            homographies=config.homographies, points=config.labels, seed=config.seed,
        )  # fmt: skip
        return [replace(s, points=at, ignored=at[:0]) for s, at in zip(samples, points, strict=True)]

    def update(self, batch: Any, progress: float) -> dict[str, float]:
        config, pairs = self.config, batch.pairs
        rate = cosine(config.rate, self.step, progress, config.warmup_steps)
        logits, dense = self.forward(normalise(pairs.planes, pairs.masks))
        detector = detector_loss(logits, batch.classes)
        descriptor, correct = self.matched(dense, batch)
        optimise(self.optimiser, config.detector_weight * detector + config.descriptor_weight * descriptor, rate)
        return {"rate": rate, "detector": detector.item(), "descriptor": descriptor.item(), "correct": correct}

    def matched(self, dense: Tensor, batch: Views) -> tuple[Tensor, float]:
        """Descriptor loss, and the share of points whose partner is nearest in the whole batch."""
        pairs, half = batch.pairs, len(batch.centres)
        first = sample_descriptors(dense, pairs.points[:, 0], pairs.pair, CELL_PX)
        second = sample_descriptors(dense, pairs.points[:, 1], pairs.pair + half, CELL_PX)
        masked = losses.neighbour_mask(pairs.points, pairs.pair)
        with torch.no_grad():
            nearest = (first @ second.T).masked_fill(masked, -2).argmax(1)
            correct = float((nearest == torch.arange(len(nearest))).float().mean()) if len(nearest) else 0.0
        if self.config.loss == "hinge":
            inside = nn.functional.avg_pool2d(pairs.masks, CELL_PX)[:, 0] > 0.5
            return hinge_loss(dense[:half], dense[half:], batch.centres, (inside[:half], inside[half:])), correct
        if len(first) < 2:
            return dense.sum() * 0, 0.0
        return losses.info_nce(first, second, masked, self.log_scale.clamp(max=float(np.log(100)))), correct

    def state(self) -> dict[str, Any]:
        return super().state() | {"log_scale": self.log_scale.detach()}

    def restore(self, state: dict[str, Any]) -> None:
        super().restore(state)
        self.log_scale.data.copy_(state["log_scale"])

    def release(self, path: Path) -> None:
        samples, _ = self.config.samples()
        facts = {"size": self.network.size.as_dict()} | facts_of("superpoint", self.config, samples)
        save_weights(self.network, path, facts)


build = Learner


def load_network(path: Path | str | None, size: SuperPointSize) -> SuperPoint:
    """Of a checkpoint, in evaluation mode. InvalidInput: it holds a network of another size."""
    state = load_checkpoint(Path(path or ""))
    if SuperPointSize.from_dict(state["size"]) != size:
        raise InvalidInput(f"start: {path} holds a network of another size")
    network = SuperPoint(size)
    network.load_state_dict(state["network"])
    return network.eval()


def views_of(rngs: list[np.random.Generator], samples: list[Sample]) -> Views:
    """One pair of views of each sample."""
    rows, classes, centres = [], [], []
    for rng, sample in zip(rngs, samples, strict=True):
        views = random_views(rng, sample)
        rows.append(make_pair(rng, sample, views))
        classes.append([cell_classes(view.to_view(sample.points), CROP_PX) for view in views])
        centres.append(cell_centres(*views))
    by_view = np.concatenate(np.array(classes).swapaxes(0, 1))
    return Views(collate(rows), torch.from_numpy(by_view), torch.from_numpy(np.stack(centres)))
