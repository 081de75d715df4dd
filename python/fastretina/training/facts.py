"""What a released weight file says about its training."""

from __future__ import annotations

import datetime
from dataclasses import fields
from pathlib import Path
from typing import Any

from fastretina.engines.release import LICENCES
from fastretina.training.loop import RunConfig, load_checkpoint
from fastretina.training.sample import Sample

UNTOLD = ("data", "out", "weights", "resume", "workers", "threads", "checkpoint_every_s", "progress")  # of a command


def facts_of(recipe: str, config: RunConfig, samples: list[Sample]) -> dict[str, Any]:
    """Of a run that has ended: its command, length, data sets and the licence that follows from them.

    ``samples`` are the images that it saw; none (drawings only) is free for any use.
    """
    state = load_checkpoint(config.out / "last.pt")
    sets = config.sets if samples else "clean"
    return {
        "recipe": recipe,
        "command": command(recipe, config),
        "steps": state["step"],
        "minutes": round(state["minutes"], 1),
        "date": datetime.date.today().isoformat(),
        "data": sorted({sample.name.split("/")[0] for sample in samples}),
        "images": len(samples),
        "licence": LICENCES[sets],
        "non_commercial": sets != "clean",
    }


def command(recipe: str, config: RunConfig) -> str:
    """What repeats a run; folders by their names in capitals, options at their defaults left out."""
    words = [f"fastretina train --recipe {recipe} --data DATA -o RUN"]
    for field in fields(config):
        value = getattr(config, field.name)
        if field.name not in UNTOLD and field.init and value != field.default:
            words.append(f"--{field.name.replace('_', '-')} {field.name.upper() if isinstance(value, Path) else value}")
    return " ".join(words)
