"""What a released weight file says of its run: a command that the command line accepts, and what it does not offer."""

import shlex
from pathlib import Path

import pytest

pytest.importorskip("torch")
from fastretina.cli import main
from fastretina.errors import InvalidInput
from fastretina.training.facts import command, settings
from fastretina.training.recipes import RECIPES, load


def config(recipe: str, **options):
    return load(recipe).Config(data=Path("/d"), out=Path("/o"), steps=3, **options)


def test_a_command_names_what_was_changed_only() -> None:
    run = config("glampoints", rate=0.5, synthetic=7, threads=2, weights=Path("/w"))
    assert command("glampoints", run) == (
        "fastretina train --recipe glampoints --data DATA -o RUN --steps 3 --synthetic 7 --rate 0.5"
    )
    assert settings("glampoints", run) == {}


def test_what_the_command_line_does_not_offer_is_a_setting() -> None:
    run = config("superglue", bf16=True, layers=2, warmup_steps=5)
    assert "bf16" not in command("superglue", run)
    assert settings("superglue", run) == {"bf16": True, "warmup_steps": 5}


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_command_line_accepts_the_command(recipe: str, monkeypatch, tmp_path) -> None:
    """Every option of the recipe, changed: the line is read, and means the same run."""
    other = {int: 3, float: 0.25, str: "retina_fast", bool: True}
    run = config(recipe, **{name: other[option.kind] for name, option in RECIPES[recipe].options.items()})
    line = command(recipe, run)
    assert line.count(" --") == 3 + len(RECIPES[recipe].options)

    meant = []

    def build(made):
        meant.append(command(recipe, made))
        raise InvalidInput("seen")

    monkeypatch.setattr(load(recipe), "build", build)
    assert main(shlex.split(line.replace("DATA", str(tmp_path)).replace("RUN", str(tmp_path)))[1:]) == 2
    assert meant == [line]
