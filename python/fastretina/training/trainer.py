"""The training loop: time- or step-budgeted, resumable at any point, deterministic in its data."""

from __future__ import annotations

import contextlib
import csv
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

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
from fastretina.training import data, losses, patches
from fastretina.training.curves import draw_curves
from fastretina.training.normalise import normalise
from fastretina.training.pairs import Batch, PairStream, stream

LOSSES = ("infonce", "quadruplet")
COLUMNS = ("step", "minutes", "rate", "detector", "descriptor", "correct", "pairs_per_s")


@dataclass
class TrainConfig:
    """What a run depends on.  Exactly one of ``minutes`` and ``steps`` sets its length.

    ``sets``: "research" (every set of the data folder) or "clean" (what is certainly free), to which ``synthetic`` eyes
    are added; they make up ``synthetic_share`` of the pairs.  ``start`` and ``teacher``: a checkpoint (``.pt``), the
    name of a shipped weight set or a manifest; the network to go on from, and the one to learn from beside the labels.
    """

    data: Path
    out: Path
    minutes: float | None = None
    steps: int | None = None
    resume: bool = False
    sets: str = "research"
    synthetic: int = 0
    synthetic_share: float = 0.5
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
    seed: int = 0
    workers: int = 1
    threads: int | None = None
    bf16: bool = True
    checkpoint_every_s: float = 60.0
    progress: bool = True
    size: NetworkSize = field(init=False)

    def __post_init__(self) -> None:
        if self.network not in SIZES:
            raise InvalidInput(f"network: expected one of {tuple(SIZES)}, got {self.network!r}")
        self.size = SIZES[self.network]

    def check(self) -> None:
        """Raise ``InvalidInput`` naming the option that cannot be used."""
        if self.loss not in LOSSES:
            raise InvalidInput(f"loss: expected one of {LOSSES}, got {self.loss!r}")
        if (self.minutes is None) == (self.steps is None):
            raise InvalidInput("minutes, steps: give exactly one of them")
        if self.patches and self.teacher:
            raise InvalidInput("patches: a teacher sees whole crops; give one of patches and teacher")
        for name in ("minutes", "steps", "pairs", "rate"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise InvalidInput(f"{name}: must be positive, got {value}")


def learning_rate(config: TrainConfig, step: int, progress: float) -> float:
    """Linear warm-up over steps, then a cosine over the budget; ``progress`` in [0, 1]."""
    warm = min(1.0, (step + 1) / max(config.warmup_steps, 1))
    return config.rate * warm * (0.01 + 0.99 * 0.5 * (1 + float(np.cos(np.pi * min(progress, 1.0)))))


class Trainer:
    """State of a run: network, optimiser, learned temperature, step and minutes spent."""

    def __init__(self, config: TrainConfig) -> None:
        config.check()
        self.config = config
        torch.manual_seed(config.seed)
        if config.threads:
            torch.set_num_threads(config.threads)
        self.network = _network(config.size, config.start).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.teacher = load_network(config.teacher).to(memory_format=torch.channels_last) if config.teacher else None  # type: ignore[call-overload]
        self.log_scale = nn.Parameter(torch.tensor(float(np.log(1 / 0.1))))
        decay = [p for p in self.network.parameters() if p.ndim > 1]
        plain = [p for p in self.network.parameters() if p.ndim <= 1] + [self.log_scale]
        groups = [{"params": decay, "weight_decay": config.weight_decay}, {"params": plain, "weight_decay": 0.0}]
        self.optimiser = torch.optim.AdamW(groups, lr=config.rate, betas=(0.9, 0.99))
        self.step = 0
        self.minutes = 0.0

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
        amp = torch.autocast("cpu", torch.bfloat16) if self.config.bf16 else contextlib.nullcontext()
        with amp:
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
        """One optimiser step; returns the values of the log row."""
        config = self.config
        rate = learning_rate(config, self.step, progress)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.network.train()
        detector, descriptor, correct = self.losses(batch)
        total = config.detector_weight * detector + config.descriptor_weight * descriptor
        self.optimiser.zero_grad(set_to_none=True)
        total.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), 2.0)
        self.optimiser.step()
        self.step += 1
        return {"rate": rate, "detector": detector.item(), "descriptor": descriptor.item(), "correct": correct}

    def save(self, path: Path) -> None:
        """Write everything a resumed run needs; the file is complete at every moment."""
        state = {
            "network": self.network.state_dict(),
            "size": self.config.size.as_dict(),
            "log_scale": self.log_scale.detach(),
            "optimiser": self.optimiser.state_dict(),
            "rng": torch.get_rng_state(),
            "step": self.step,
            "minutes": self.minutes,
            "config": {k: str(v) if isinstance(v, Path) else v for k, v in asdict(self.config).items()},
        }
        temporary = path.with_suffix(".partial")
        torch.save(state, temporary)
        temporary.replace(path)

    def restore(self, path: Path) -> None:
        """Continue from :meth:`save`; raises ``InvalidInput`` for a checkpoint of another network or loss."""
        state = torch.load(path, map_location="cpu", weights_only=True)
        for name in ("loss", "seed", "pairs"):
            if state["config"][name] != getattr(self.config, name):
                raise InvalidInput(f"resume: {path} was made with {name}={state['config'][name]!r}")
        if NetworkSize.from_dict(state["size"]) != self.config.size:
            raise InvalidInput(f"resume: {path} holds a network of another size")
        self.network.load_state_dict(state["network"])
        self.log_scale.data.copy_(state["log_scale"])
        self.optimiser.load_state_dict(state["optimiser"])
        torch.set_rng_state(state["rng"])
        self.step, self.minutes = state["step"], state["minutes"]


def load_network(source: str | Path) -> RetinaCraquelureNet:
    """The network of a checkpoint (``.pt``), or of a weight set by its name or manifest, in evaluation mode."""
    path = Path(source)
    if path.suffix != ".pt":
        return load_manifest(str(source)).torch_network().eval()
    if not path.is_file():
        raise InvalidInput(f"network: {path} does not exist")
    state = torch.load(path, map_location="cpu", weights_only=True)
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


def _open_log(path: Path, step: int) -> None:
    """Keep the rows before ``step`` (a killed run may have logged steps its checkpoint does not hold)."""
    rows: list[list[str]] = []
    if path.is_file() and step > 0:
        with path.open(newline="") as file:
            rows = [r for r in csv.reader(file) if r and r[0].isdigit() and int(r[0]) <= step]
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        writer.writerows(rows)


def train(config: TrainConfig, on_checkpoint: Callable[[Trainer], None] | None = None) -> Path:
    """Run or resume a training; returns the path of the last checkpoint (``out/last.pt``).

    ``out`` receives ``last.pt``, ``log.csv``, ``curves.png`` and ``cache.npz``.  Raises ``InvalidInput`` for options or
    data that cannot be used, and for ``resume`` without a checkpoint.
    """
    trainer = Trainer(config)
    config.out.mkdir(parents=True, exist_ok=True)
    checkpoint, log = config.out / "last.pt", config.out / "log.csv"
    if config.resume:
        if not checkpoint.is_file():
            raise InvalidInput(f"resume: {checkpoint} does not exist")
        trainer.restore(checkpoint)
    cv2.setNumThreads(1)  # the threads of OpenCV would not survive the fork of the workers
    samples, _ = data.load(
        config.data,
        config.out / "cache.npz",
        sets=config.sets,
        synthetic=config.synthetic,
        synthetic_share=config.synthetic_share,
    )
    limit = config.steps if config.steps is not None else 10**8
    batches = stream(PairStream(samples, config.pairs, limit, config.seed), trainer.step, config.workers)
    _open_log(log, trainer.step)

    from tqdm import tqdm

    bar = tqdm(total=config.steps, initial=trainer.step, disable=not config.progress, unit="step", mininterval=5)
    started, before, saved = time.monotonic(), trainer.minutes, time.monotonic()
    rows: list[dict[str, float]] = []
    with log.open("a", newline="") as file, bar:
        writer = csv.DictWriter(file, COLUMNS)
        while trainer.step < limit:
            progress = trainer.step / limit if config.minutes is None else trainer.minutes / config.minutes
            if progress >= 1:
                break
            row = trainer.update(next(batches), progress)
            now = time.monotonic()
            trainer.minutes = before + (now - started) / 60
            rows.append(row)
            bar.update()
            if trainer.step % 20 == 0 or trainer.step == limit:
                mean = {k: float(np.mean([r[k] for r in rows])) for k in row}
                speed = config.pairs * len(rows) / max(now - getattr(bar, "last_row", started), 1e-9)
                bar.last_row = now
                text = {k: f"{v:.5g}" for k, v in mean.items()}
                writer.writerow(
                    {"step": trainer.step, "minutes": f"{trainer.minutes:.4f}", **text, "pairs_per_s": f"{speed:.1f}"}
                )
                file.flush()
                bar.set_postfix(det=text["detector"], desc=text["descriptor"], ok=text["correct"], refresh=False)
                rows.clear()
            if now - saved > config.checkpoint_every_s:
                saved = now
                trainer.save(checkpoint)
                draw_curves(log, config.out / "curves.png")
                if on_checkpoint:
                    on_checkpoint(trainer)
    trainer.save(checkpoint)
    draw_curves(log, config.out / "curves.png")
    return checkpoint
