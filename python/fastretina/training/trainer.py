"""The training loop: time- or step-budgeted, resumable at any point, deterministic in its data."""

from __future__ import annotations

import contextlib
import csv
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from fastretina.errors import InvalidInput
from fastretina.networks.retina_craquelure import NetworkSize, RetinaCraquelureNet, sample_descriptors
from fastretina.training import data, losses
from fastretina.training.curves import draw_curves
from fastretina.training.normalise import normalise
from fastretina.training.pairs import Batch, PairStream, stream

LOSSES = ("infonce", "quadruplet")
COLUMNS = ("step", "minutes", "rate", "detector", "descriptor", "correct", "pairs_per_s")


@dataclass
class TrainConfig:
    """What a run depends on.  Exactly one of ``minutes`` and ``steps`` sets its length."""

    data: Path
    out: Path
    minutes: float | None = None
    steps: int | None = None
    resume: bool = False
    loss: str = "infonce"
    pairs: int = 12
    rate: float = 2e-3
    weight_decay: float = 1e-4
    warmup_steps: int = 150
    detector_weight: float = 3.0
    descriptor_weight: float = 1.0
    margin: float = 1.0
    symmetry_weight: float = 0.5
    turned_crops: int = 8
    seed: int = 0
    workers: int = 1
    threads: int | None = None
    bf16: bool = True
    checkpoint_every_s: float = 60.0
    progress: bool = True
    size: NetworkSize = field(default_factory=NetworkSize)

    def check(self) -> None:
        """Raise ``InvalidInput`` naming the option that cannot be used."""
        if self.loss not in LOSSES:
            raise InvalidInput(f"loss: expected one of {LOSSES}, got {self.loss!r}")
        if (self.minutes is None) == (self.steps is None):
            raise InvalidInput("minutes, steps: give exactly one of them")
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
        self.network = RetinaCraquelureNet(config.size).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.log_scale = nn.Parameter(torch.tensor(float(np.log(1 / 0.1))))
        decay = [p for p in self.network.parameters() if p.ndim > 1]
        plain = [p for p in self.network.parameters() if p.ndim <= 1] + [self.log_scale]
        groups = [{"params": decay, "weight_decay": config.weight_decay}, {"params": plain, "weight_decay": 0.0}]
        self.optimiser = torch.optim.AdamW(groups, lr=config.rate, betas=(0.9, 0.99))
        self.step = 0
        self.minutes = 0.0

    def losses(self, batch: Batch) -> tuple[Tensor, Tensor, float]:
        """Detector loss, descriptor loss and the share of points whose partner is nearest in the whole batch."""
        config = self.config
        planes = normalise(batch.planes, batch.masks)
        amp = torch.autocast("cpu", torch.bfloat16) if config.bf16 else contextlib.nullcontext()
        # A few crops are seen a second time, turned; which ones and how depends on the step only.
        copies, turn = min(config.turned_crops, len(planes)), 1 + self.step % 7
        pick = (torch.arange(copies) + self.step) % len(planes)
        seen = torch.cat([planes, losses.turn_plane(planes[pick], turn)]) if copies else planes
        with amp:
            class_maps, dense = self.network(seen.contiguous(memory_format=torch.channels_last))
        turned_maps, class_maps, dense = class_maps[len(planes) :], class_maps[: len(planes)], dense[: len(planes)]
        detector = losses.detector_loss(class_maps, batch.target, batch.weight)
        if copies:
            detector = detector + config.symmetry_weight * losses.symmetry_loss(class_maps[pick], turned_maps, turn)
        if len(batch.points) < 2:
            return detector, dense.sum() * 0, 0.0
        half = len(batch.planes) // 2
        first = sample_descriptors(dense, batch.points[:, 0], batch.pair)
        second = sample_descriptors(dense, batch.points[:, 1], batch.pair + half)
        masked = losses.neighbour_mask(batch.points, batch.pair)
        if config.loss == "infonce":
            descriptor = losses.info_nce(first, second, masked, self.log_scale.clamp(max=float(np.log(100))))
        else:
            descriptor = losses.quadruplet(first, second, masked, config.margin)
        with torch.no_grad():
            nearest = (first @ second.T).masked_fill(masked, -2).argmax(1)
            correct = float((nearest == torch.arange(len(first))).float().mean())
        return detector, descriptor, correct

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


def load_network(path: Path) -> RetinaCraquelureNet:
    """The network of a checkpoint, in evaluation mode."""
    state = torch.load(path, map_location="cpu", weights_only=True)
    network = RetinaCraquelureNet(NetworkSize.from_dict(state["size"]))
    network.load_state_dict(state["network"])
    return network.eval()


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
    samples, _ = data.load(config.data, config.out / "cache.npz")
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
