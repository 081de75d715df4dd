"""What a released weight file says about its training."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

from fastretina.engines.release import LICENCES
from fastretina.training.loop import RunConfig, load_checkpoint
from fastretina.training.recipes import EVERY_RUN, RECIPES
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
        "settings": settings(recipe, config),
        "steps": state["step"],
        "minutes": round(state["minutes"], 1),
        "date": datetime.date.today().isoformat(),
        "data": sorted({sample.name.split("/")[0] for sample in samples}),
        "images": len(samples),
        "licence": LICENCES[sets],
        "non_commercial": sets != "clean",
    }


def command(recipe: str, config: RunConfig) -> str:
    """What repeats a run, where ``settings`` are none; folders by their names in capitals."""
    words = [f"fastretina train --recipe {recipe} --data DATA -o RUN"]
    for name, value in _changed(config):
        if _is_offered(recipe, name):
            flag = f"--{name.replace('_', '-')}"
            words.append(flag if value is True else f"{flag} {name.upper() if isinstance(value, Path) else value}")
    return " ".join(words)


def settings(recipe: str, config: RunConfig) -> dict[str, Any]:
    """What was changed of a run and no command line offers."""
    return {name: value for name, value in _changed(config) if not _is_offered(recipe, name)}


def _changed(config: RunConfig) -> Iterator[tuple[str, Any]]:
    """Options that matter to the result and are not at their defaults."""
    for field in fields(config):
        value = getattr(config, field.name)
        if field.name not in UNTOLD and field.init and value != field.default:
            yield field.name, value


def _is_offered(recipe: str, name: str) -> bool:
    return name in EVERY_RUN or name in RECIPES[recipe].options
