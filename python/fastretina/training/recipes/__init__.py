"""How each network is trained: one module a recipe. Importing this package imports neither torch nor a recipe.

A recipe's module has ``Config``, a ``loop.RunConfig`` with the recipe's own options as further fields, and
``build(config)``, which returns the ``loop.Learner`` of a run.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from fastretina.config import nearest
from fastretina.errors import InvalidInput

__all__ = ["RECIPES", "Option", "Recipe", "load"]


@dataclass(frozen=True)
class Option:
    """A field of a recipe's ``Config`` that the command line offers. ``kind``: its type; bool is a switch."""

    kind: type
    meaning: str


@dataclass(frozen=True)
class Recipe:
    """What a recipe trains, and its options beside those of every run."""

    purpose: str
    options: dict[str, Option] = field(default_factory=dict)


RECIPES: dict[str, Recipe] = {
    "retina": Recipe(
        "key points and descriptors on vessels, any modality (RetinaCraquelureNet)",
        {
            "network": Option(str, "retina or retina_fast"),
            "start": Option(str, "go on from a checkpoint, a weight set or a manifest"),
            "teacher": Option(str, "learn from this network, too (the same three kinds)"),
            "patches": Option(bool, "train on 32-px patches about points (document A)"),
            "loss": Option(str, "of the descriptors: infonce or quadruplet"),
            "pairs": Option(int, "crop pairs a step"),
            "rate": Option(float, "learning rate"),
        },
    ),
    "arbicon": Recipe(
        "affine map and smooth field from the dense correlation of two images (after Arbicon-Net)",
        {
            "network": Option(str, "small (ships) or full (15 x 15 cells)"),
            "start": Option(str, "first levels of this weight set; '' for none"),
            "pairs": Option(int, "pairs a step"),
            "rate": Option(float, "learning rate"),
            "dense_from": Option(float, "share of the run after which the dense stage is trained"),
            "joint_from": Option(float, "share of the run after which the joint losses are added"),
        },
    ),
}


def load(name: str) -> Any:
    """The module of a recipe. InvalidInput: there is none of that name."""
    if name not in RECIPES:
        raise InvalidInput(f"recipe: got {name!r}; {nearest(name, list(RECIPES))}")
    return import_module(f"{__name__}.{name.replace('-', '_')}")
