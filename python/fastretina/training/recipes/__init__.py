"""How each network is trained: one module a recipe. Importing this package imports neither torch nor a recipe.

A recipe's module has ``Config``, a ``loop.RunConfig`` with the recipe's own options as further fields, and
``build(config)``, which returns the ``loop.Learner`` of a run; it may have ``on_checkpoint(learner)``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from fastretina.config import nearest
from fastretina.errors import InvalidInput

__all__ = ["EVERY_RUN", "RECIPES", "Option", "Recipe", "load"]

EVERY_RUN = ("data", "out", "weights", "minutes", "steps", "resume", "sets", "synthetic", "synthetic_share", "seed")
"""Fields of ``loop.RunConfig`` that the command line offers for every recipe, and that say what a run is."""


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


UNET_OPTIONS = {"batch": Option(int, "crops, or pairs of crops, a step"), "rate": Option(float, "learning rate")}

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
    "vessels": Recipe("vessel probability at full resolution, any modality (U-Net)", UNET_OPTIONS),
    "glampoints": Recipe("key points that root-SIFT matches well (GLAMPoints)", UNET_OPTIONS),
    "magicpoint": Recipe(
        "corner detector on synthetic shapes, the first stage of SuperPoint; reads no image",
        {
            "size": Option(str, "small or paper, of the network"),
            "drawings": Option(int, "drawings a step"),
            "rate": Option(float, "learning rate"),
        },
    ),
    "superpoint": Recipe(
        "key points and descriptors (SuperPoint), labels by homographic adaptation",
        {
            "size": Option(str, "small or paper, of the network"),
            "start": Option(str, "checkpoint of magicpoint, or of an earlier run, that makes the labels and goes on"),
            "homographies": Option(int, "homographies an image for the labels"),
            "labels": Option(int, "key points an image"),
            "loss": Option(str, "of the descriptors: infonce or hinge"),
            "pairs": Option(int, "crop pairs a step"),
            "rate": Option(float, "learning rate"),
        },
    ),
    "superglue": Recipe(
        "matches of key points by attention over both images (SuperGlue), on the features of a finished network",
        {
            "front_end": Option(str, "whose features are matched: retina or superpoint"),
            "views": Option(int, "views of each image that are described before the first step"),
            "width": Option(int, "channels; 256 in the paper"),
            "layers": Option(int, "self and cross attention in turn; 18 in the paper"),
            "pairs": Option(int, "crop pairs a step"),
            "points": Option(int, "key points of a view"),
            "rate": Option(float, "learning rate"),
        },
    ),
    "cyclegan": Recipe(
        "one modality in the look of another, from images that are no pairs (CycleGAN)",
        {
            "pair": Option(str, "cf-octa or cf-fa"),
            "channels": Option(int, "of the generators at full resolution"),
            "blocks": Option(int, "residual blocks of the generators"),
            "crops": Option(int, "crops of each modality a step"),
            "negative_until": Option(float, "share of the run in which translations are drawn to negatives"),
            "rate": Option(float, "learning rate"),
        },
    ),
    "arbicon": Recipe(
        "affine map and smooth field from the dense correlation of two images (after Arbicon-Net)",
        {
            "network": Option(str, "small (ships) or full (15 x 15 cells)"),
            "start": Option(str, "weight set, manifest or checkpoint of retina, whose descriptors are correlated"),
            "pairs": Option(int, "pairs a step"),
            "rate": Option(float, "learning rate"),
            "dense_from": Option(float, "share of the run after which the dense stage is trained"),
            "joint_from": Option(float, "share of the run after which document B's losses are added"),
        },
    ),
}


def load(name: str) -> Any:
    """The module of a recipe. InvalidInput: there is none of that name."""
    if name not in RECIPES:
        raise InvalidInput(f"recipe: got {name!r}; {nearest(name, list(RECIPES))}")
    return import_module(f"{__name__}.{name.replace('-', '_')}")
