"""CycleGAN (Zhu et al., ICCV 2017): least-squares adversaries, cycle and identity losses, on crops that are no pairs.

Crops of both modalities are taken at a common resolution (px per degree), so that vessels are as wide in one as in the
other: OCT angiography shows 11 degrees, fundus cameras 30 to 55.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from fastretina.config import nearest
from fastretina.errors import InvalidInput
from fastretina.io import write_image
from fastretina.networks.cyclegan import LIMIT, Discriminator, Generator, GeneratorSize
from fastretina.networks.weight_files import save_weights
from fastretina.training.facts import facts_of
from fastretina.training.loop import RunConfig, optimise
from fastretina.training.losses import turn_back, turn_plane
from fastretina.training.normalise import normalise
from fastretina.training.sample import Sample
from fastretina.training.sets import SETS, SYNTHETIC
from fastretina.training.warp import random_view, sample_view


class Pair(NamedTuple):
    """Modalities A and B, the resolutions (px per degree) at which both are seen, and the longer side in use."""

    a: str
    b: str
    px_per_deg: tuple[float, float]
    working_size: int


PAIRS = {
    "cf-octa": Pair("CF", "OCTA", (18.0, 36.0), 512),  # 14 to 28 degrees
    "cf-fa": Pair("CF", "FA", (9.0, 22.0), 640),  # 29 to 71 degrees
}
SMALL_FIELD_DEG = 21  # of synthetic eyes: what is smaller was seen by OCT devices
SYNTHETIC_PLANES = {("CF", False): (0,), ("FA", False): (1,), ("OCTA", True): (0, 1)}  # by modality and small field
PLACES = 4  # of a crop that are tried for one that lies inside the field of view
SHOWN = 5  # images of each modality on the sample sheet


@dataclass
class Config(RunConfig):
    """``pair``: a key of ``PAIRS``. Weights of the losses are the paper's: cycle 10, identity half of it.

    Ours is the last one: vessels are dark in A and bright in B, so until ``negative_until`` of the run translations are
    drawn to negatives, lest vessels stay dark between bright edges.
    """

    pair: str = "cf-octa"
    channels: int = 16
    blocks: int = 4
    crops: int = 1  # of each modality a step
    crop_px: int = 128
    rate: float = 4e-4
    cycle_weight: float = 10.0
    identity_weight: float = 5.0
    negative_weight: float = 5.0
    negative_until: float = 0.6
    pool: int = 50  # translations that a discriminator may see again

    def check(self) -> None:
        super().check()
        if self.pair not in PAIRS:
            raise InvalidInput(f"pair: got {self.pair!r}; {nearest(self.pair, list(PAIRS))}")
        self.positive("channels", "crops", "rate", "pool", "negative_until")
        if self.crop_px < 64 or self.crop_px % 8:
            raise InvalidInput(f"crop_px: got {self.crop_px}; allowed: multiples of 8 from 64 on")


class Crops(NamedTuple):
    """``(N, 1, S, S)`` looks in [-1, 1], 0 outside their masks (same shape, 0 or 1)."""

    looks: Tensor
    masks: Tensor


def planes_of(samples: list[Sample], modality: str) -> list[tuple[Sample, int]]:
    """Those samples that show a modality, each with the plane that does."""
    known = {kind.name: kind.modality for kind in SETS}
    found = []
    for sample in samples:
        group = sample.name.split("/")[0]
        if group == SYNTHETIC:
            small = max(sample.mask.shape) < SMALL_FIELD_DEG * sample.px_per_deg
            found += [(sample, plane) for plane in SYNTHETIC_PLANES.get((modality, small), ())]
        elif known.get(group) == modality:
            found.append((sample, 0))
    return found


class Source:
    """Random crops of one modality: crop ``i`` of a step depends on ``(seed, step, i)`` and the modality only."""

    def __init__(self, planes: list[tuple[Sample, int]], px_per_deg: tuple[float, float], size_px: int) -> None:
        self.planes, self.px_per_deg, self.size_px = planes, px_per_deg, size_px
        self.chances = np.cumsum([sample.weight for sample, _ in planes])

    def crops(self, seed: list[int], count: int) -> Crops:
        """``count`` crops."""
        made = [self._crop(np.random.default_rng([*seed, i])) for i in range(count)]
        planes, masks = (torch.from_numpy(np.stack(part))[:, None] for part in zip(*made, strict=True))
        return Crops((normalise(planes, masks) / LIMIT).clamp(-1, 1), masks)

    def _crop(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        pick = np.searchsorted(self.chances, rng.random() * self.chances[-1], side="right")
        sample, plane = self.planes[min(int(pick), len(self.planes) - 1)]
        low, high = self.px_per_deg
        scale = float(np.exp(rng.uniform(np.log(low), np.log(high)))) / sample.px_per_deg
        extent = np.array(sample.mask.shape[::-1], np.float64)
        half = np.minimum(0.5 * self.size_px / scale, extent / 2)
        where = rng.uniform(half, extent - half, (PLACES, 2))
        rows = [sample.mask[_window(y, half[1])][:, _window(x, half[0])].mean() for x, y in where]
        turn, mirrored = rng.uniform(-180, 180), bool(rng.random() < 0.5)
        view = random_view(rng, self.size_px, where[int(np.argmax(rows))], scale, turn, mirrored)
        seen, mask, _ = sample_view(sample, view, plane)
        return seen, mask


def _window(centre: float, half: float) -> slice:
    return slice(int(centre - half), int(centre + half) + 1)


class Learner:
    """Two generators, their adversaries, two optimisers and what the discriminators have seen."""

    columns = ("adversary", "cycle", "identity", "discriminator")
    fixed = ("pair", "crops", "crop_px")

    def __init__(self, config: Config) -> None:
        config.begin()
        self.config = config
        self.step = 0
        self.size = GeneratorSize(config.channels, config.blocks)
        self.to_b, self.to_a = Generator(self.size), Generator(self.size)
        self.judge_a, self.judge_b = Discriminator(), Discriminator()
        self.networks = {"to_b": self.to_b, "to_a": self.to_a, "judge_a": self.judge_a, "judge_b": self.judge_b}
        self.optimisers = [
            torch.optim.Adam([p for n in pair for p in n.parameters()], lr=config.rate, betas=(0.5, 0.999))
            for pair in ((self.to_b, self.to_a), (self.judge_a, self.judge_b))
        ]
        self.pools: list[list[Tensor]] = [[], []]  # translations into A, into B
        training, held_out = config.samples()
        self.sources, self.shown = self._sources(training), self._sources(held_out or training)

    def _sources(self, samples: list[Sample]) -> list[Source]:
        pair, found = PAIRS[self.config.pair], []
        for modality in (pair.a, pair.b):
            planes = planes_of(samples, modality)
            if not planes:
                raise InvalidInput(f"data: no {modality} image in {self.config.data} (sets={self.config.sets!r})")
            found.append(Source(planes, pair.px_per_deg, self.config.crop_px))
        return found

    def batches(self) -> Iterator[tuple[Crops, Crops]]:
        cv2.setNumThreads(1)
        step = self.step
        while True:
            a, b = (s.crops([self.config.seed, step, i], self.config.crops) for i, s in enumerate(self.sources))
            yield a, b
            step += 1

    def update(self, batch: tuple[Crops, Crops], progress: float) -> dict[str, float]:
        """The generators' step, then the discriminators'. The rate falls linearly in the second half."""
        config = self.config
        rate = config.rate * min(1.0, 2 * (1 - progress))
        a, b = batch
        with self.config.precision():
            fakes, losses = self._generators(a, b)
        weighted = config.cycle_weight * losses["cycle"] + config.identity_weight * losses["identity"]
        drawn = config.negative_weight * max(0.0, 1 - progress / config.negative_until)
        optimise(self.optimisers[0], losses["adversary"] + weighted + drawn * losses["negative"], rate)
        for judge in (self.judge_a, self.judge_b):
            judge.requires_grad_(True)
        with self.config.precision():
            losses["discriminator"] = self._discriminators((a.looks, b.looks), fakes)
        optimise(self.optimisers[1], losses["discriminator"], rate)
        return {name: losses[name].item() for name in self.columns}

    def _generators(self, a: Crops, b: Crops) -> tuple[tuple[Tensor, Tensor], dict[str, Tensor]]:
        """Translations into A and into B, and the losses of the generators."""
        for judge in (self.judge_a, self.judge_b):
            judge.requires_grad_(False)
        count = len(a.looks)
        same = (count + 1) // 2  # the identity loss sees half of the crops: its mean is the same
        into_b = self.to_b(torch.cat([a.looks, b.looks[:same]])).float()
        into_a = self.to_a(torch.cat([b.looks, a.looks[:same]])).float()
        fake_b, fake_a = into_b[:count] * a.masks, into_a[:count] * b.masks
        # A shift there and the opposite one back would close a cycle: not with a turn between them.
        turn = 1 + self.step % 7
        back_a = turn_back(self.to_a(turn_plane(fake_b, turn)).float(), turn) * a.masks
        back_b = turn_back(self.to_b(turn_plane(fake_a, turn)).float(), turn) * b.masks
        same_b, same_a = into_b[count:] * b.masks[:same], into_a[count:] * a.masks[:same]
        losses = {
            "adversary": _squares(self.judge_a(fake_a), 1.0) + _squares(self.judge_b(fake_b), 1.0),
            "cycle": functional.l1_loss(back_a, a.looks) + functional.l1_loss(back_b, b.looks),
            "identity": functional.l1_loss(same_b, b.looks[:same]) + functional.l1_loss(same_a, a.looks[:same]),
            "negative": functional.l1_loss(fake_a, -b.looks) + functional.l1_loss(fake_b, -a.looks),
        }
        return (fake_a.detach(), fake_b.detach()), losses

    def _discriminators(self, real: tuple[Tensor, Tensor], fakes: tuple[Tensor, Tensor]) -> Tensor:
        rng = np.random.default_rng([self.config.seed, self.step, 2])
        loss = torch.zeros(())
        for i, judge in enumerate((self.judge_a, self.judge_b)):
            seen = torch.stack([self._pooled(self.pools[i], fake, rng) for fake in fakes[i]])
            loss = loss + 0.5 * (_squares(judge(real[i]), 1.0) + _squares(judge(seen), 0.0))
        return loss

    def _pooled(self, pool: list[Tensor], fake: Tensor, rng: np.random.Generator) -> Tensor:
        """The translation, or, half of the time, an earlier one in whose place it is kept (section 4)."""
        if len(pool) < self.config.pool:
            pool.append(fake)
            return fake
        if rng.random() < 0.5:
            return fake
        at = int(rng.integers(len(pool)))
        earlier, pool[at] = pool[at], fake
        return earlier

    def state(self) -> dict[str, Any]:
        return {
            "networks": {name: network.state_dict() for name, network in self.networks.items()},
            "size": self.size.as_dict(),
            "optimisers": [optimiser.state_dict() for optimiser in self.optimisers],
            "pools": [torch.stack(pool) if pool else torch.zeros(0) for pool in self.pools],
        }

    def restore(self, state: dict[str, Any]) -> None:
        if GeneratorSize(**state["size"]) != self.size:
            raise InvalidInput("resume: the checkpoint holds generators of another size")
        for name, network in self.networks.items():
            network.load_state_dict(state["networks"][name])
        for optimiser, kept in zip(self.optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(kept)
        self.pools = [list(kept) for kept in state["pools"]]

    def release(self, path: Path) -> None:
        """Both generators, in one file."""
        config = self.config
        there, back = config.pair, "-".join(reversed(config.pair.split("-")))
        network = nn.ModuleDict({there: self.to_b, back: self.to_a})
        planes = [source.planes for source in self.sources]
        facts = facts_of("cyclegan", config, [sample for of_source in planes for sample, _ in of_source]) | {
            "architecture": "CycleGAN generators (networks/cyclegan.py)",
            "translations": list(network),
            "size": self.size.as_dict(),
            "parameters": sum(p.numel() for p in network.parameters()),
            "working_size": PAIRS[config.pair].working_size,
            "images": [len(of_source) for of_source in planes],
            "sets": config.sets,
            "synthetic_eyes": config.synthetic,
            "synthetic_share": config.synthetic_share,
            "negative_until": config.negative_until,
            "crops": config.crops,
            "seed": config.seed,
        }
        save_weights(network, path, facts)

    @torch.no_grad()
    def sheet(self, path: Path) -> None:
        """Held-out crops as a picture: rows real A, as B, back in A, real B, as A, back in B."""
        rows = []
        ways = ((self.to_b, self.to_a), (self.to_a, self.to_b))
        for i, (source, (there, back)) in enumerate(zip(self.shown, ways, strict=True)):
            real = source.crops([0, i], SHOWN)
            fake = there(real.looks) * real.masks
            rows += [real.looks, fake, back(fake) * real.masks]
        picture = np.concatenate([np.concatenate(list(row[:, 0].numpy()), axis=1) for row in rows])
        write_image(path, np.round(127.5 * (picture + 1)).astype(np.uint8))


def on_checkpoint(learner: Learner) -> None:
    """The sample sheet of a run: ``samples.png``."""
    learner.sheet(learner.config.out / "samples.png")


def _squares(judged: Tensor, target: float) -> Tensor:
    """Mean squared distance to the verdict wanted (least-squares GAN, Mao et al. 2017)."""
    return (judged.float() - target).square().mean()


build = Learner
