"""The loop of every training: limited by time or steps, resumable at any point, its data of seed and step only."""

from __future__ import annotations

import csv
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from fastretina.errors import InvalidInput
from fastretina.training import data
from fastretina.training.curves import draw_curves
from fastretina.training.sample import Sample

LOG_EVERY = 20  # steps


@dataclass
class RunConfig:
    """What every run depends on. Exactly one of ``minutes`` and ``steps`` sets its length.

    ``data``: folder of images. ``out``: folder of the run; it receives ``last.pt``, ``log.csv``, ``curves.png`` and
    ``cache.npz`` (prepared images). ``weights``: file to write the finished network to.  ``sets``: "research" (every
    set of the data folder) or "clean" (what is certainly free), to which ``synthetic`` eyes are added; they make up
    ``synthetic_share`` of what is seen.
    """

    data: Path
    out: Path
    minutes: float | None = None
    steps: int | None = None
    resume: bool = False
    weights: Path | None = None
    sets: str = "research"
    synthetic: int = 0
    synthetic_share: float = 0.5
    seed: int = 0
    workers: int = 1
    threads: int | None = None
    bf16: bool = True
    checkpoint_every_s: float = 60.0
    progress: bool = True

    def check(self) -> None:
        """Raise ``InvalidInput`` naming the option that cannot be used."""
        if (self.minutes is None) == (self.steps is None):
            raise InvalidInput("minutes, steps: give exactly one of them")
        self.positive("minutes", "steps")

    def positive(self, *names: str) -> None:
        """Raise ``InvalidInput`` for an option of these that is given and not positive."""
        for name in names:
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise InvalidInput(f"{name}: must be positive, got {value}")

    def begin(self) -> None:
        """Checks the options, then sets torch's seed and threads: what a learner does first."""
        self.check()
        torch.manual_seed(self.seed)
        if self.threads:
            torch.set_num_threads(self.threads)

    def precision(self) -> torch.autocast:
        """The context in which a network is run."""
        return torch.autocast("cpu", torch.bfloat16, enabled=self.bf16)

    def samples(self) -> tuple[list[Sample], list[Sample]]:
        """(training, held out) images; see ``data.load``."""
        return data.load(self.data, self.out / "cache.npz", self.sets, self.synthetic, self.synthetic_share)


class Learner(Protocol):
    """A network in training: what a recipe gives to ``run``."""

    step: int
    columns: tuple[str, ...]  # names of what ``update`` returns
    fixed: tuple[str, ...]  # options that a resumed run must repeat

    def batches(self) -> Iterator[Any]:
        """The batches from ``step`` on; each depends on seed and step only."""

    def update(self, batch: Any, progress: float) -> dict[str, float]:
        """One step of the optimiser; ``progress`` in [0, 1] of the run."""

    def state(self) -> dict[str, Any]:
        """Tensors and plain values from which ``restore`` goes on."""

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from ``state``. Raises ``InvalidInput`` for one of another network."""

    def release(self, path: Path) -> None:
        """Write what ships of the network."""


def cosine(rate: float, step: int, progress: float, warmup_steps: int) -> float:
    """Learning rate: linear warm-up over steps, then a cosine down to a hundredth at ``progress`` 1."""
    warm = min(1.0, (step + 1) / max(warmup_steps, 1))
    return rate * warm * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0))))


def decayed(network: torch.nn.Module, weight_decay: float, *plain: torch.nn.Parameter) -> list[dict[str, Any]]:
    """Groups of an optimiser: weights decay; biases, factors of normalisations and ``plain`` do not."""
    learned = [p for p in network.parameters() if p.requires_grad]
    return [
        {"params": [p for p in learned if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [*(p for p in learned if p.ndim <= 1), *plain], "weight_decay": 0.0},
    ]


def optimise(optimiser: torch.optim.Optimizer, loss: torch.Tensor, rate: float, clip: float = 2.0) -> None:
    """One step down the gradient of ``loss``, its norm clipped."""
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    for group in optimiser.param_groups:
        group["lr"] = rate
        torch.nn.utils.clip_grad_norm_(group["params"], clip)
    optimiser.step()


def run(learner: Learner, config: RunConfig, on_checkpoint: Callable[[Learner], None] | None = None) -> Path:
    """Run or resume a training; returns the path of the last checkpoint (``out/last.pt``).

    ``on_checkpoint`` is called after every checkpoint, the last one included. Raises ``InvalidInput`` for ``resume``
    without a checkpoint, or with one of another run.
    """
    config.out.mkdir(parents=True, exist_ok=True)
    checkpoint, log = config.out / "last.pt", config.out / "log.csv"
    before = _restore(learner, config, checkpoint) if config.resume else 0.0
    limit = config.steps if config.steps is not None else math.inf
    columns = ("step", "minutes", *learner.columns, "steps_per_s")
    _open_log(log, columns, learner.step)

    def keep(minutes: float) -> None:
        _save(learner, config, minutes, checkpoint)
        draw_curves(log, config.out / "curves.png", learner.columns)
        if on_checkpoint:
            on_checkpoint(learner)

    from tqdm import tqdm

    bar = tqdm(total=config.steps, initial=learner.step, disable=not config.progress, unit="step", mininterval=5)
    started = saved = logged = time.monotonic()
    minutes = before
    rows: list[dict[str, float]] = []
    batches = learner.batches()
    with log.open("a", newline="") as file, bar:
        writer = csv.DictWriter(file, columns)
        while learner.step < limit:
            progress = learner.step / limit if config.minutes is None else minutes / config.minutes
            if progress >= 1:
                break
            rows.append(learner.update(next(batches), progress))
            learner.step += 1
            bar.update()
            now = time.monotonic()
            minutes = before + (now - started) / 60
            if learner.step % LOG_EVERY == 0 or learner.step == limit:
                mean = {name: f"{np.mean([row[name] for row in rows]):.5g}" for name in learner.columns}
                speed = f"{len(rows) / max(now - logged, 1e-9):.2f}"
                writer.writerow({"step": learner.step, "minutes": f"{minutes:.4f}", **mean, "steps_per_s": speed})
                file.flush()
                bar.set_postfix(mean, refresh=False)
                rows.clear()
                logged = now
            if now - saved > config.checkpoint_every_s:
                saved = now
                keep(minutes)
    keep(minutes)
    if config.weights is not None:
        learner.release(config.weights)
    return checkpoint


def load_checkpoint(path: Path) -> dict[str, Any]:
    """What ``run`` wrote: the learner's state, ``step``, ``minutes`` and ``config``. InvalidInput: no such file."""
    if not path.is_file():
        raise InvalidInput(f"checkpoint: {path} does not exist")
    return dict(torch.load(path, map_location="cpu", weights_only=True))


def _save(learner: Learner, config: RunConfig, minutes: float, path: Path) -> None:
    """Write everything a resumed run needs; the file is complete at every moment."""
    told = {name: str(value) if isinstance(value, Path) else value for name, value in asdict(config).items()}
    facts = {"step": learner.step, "minutes": minutes, "config": told, "rng": torch.get_rng_state()}
    temporary = path.with_suffix(".partial")
    torch.save(learner.state() | facts, temporary)
    temporary.replace(path)


def _restore(learner: Learner, config: RunConfig, path: Path) -> float:
    """Continue from ``_save``; returns the minutes spent so far."""
    if not path.is_file():
        raise InvalidInput(f"resume: {path} does not exist")
    state = load_checkpoint(path)
    for name in ("seed", *learner.fixed):
        if state["config"].get(name) != getattr(config, name):
            raise InvalidInput(f"resume: {path} was made with {name}={state['config'].get(name)!r}")
    learner.restore(state)
    learner.step = state["step"]
    torch.set_rng_state(state["rng"])
    return float(state["minutes"])


def _open_log(path: Path, columns: tuple[str, ...], step: int) -> None:
    """Keep the rows before ``step`` (a killed run may have logged steps its checkpoint does not hold)."""
    rows: list[list[str]] = []
    if path.is_file() and step > 0:
        with path.open(newline="") as file:
            rows = [row for row in csv.reader(file) if row and row[0].isdigit() and int(row[0]) <= step]
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(rows)
