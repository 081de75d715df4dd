"""What several subcommands share."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from fastretina.config import CHOICES, Config
from fastretina.types import Registration

if TYPE_CHECKING:
    from fastretina.registrar import Registrar

EXIT_OK, EXIT_INTERNAL, EXIT_MISUSE, EXIT_REFUSED = 0, 1, 2, 3

_OPTIONS: dict[str, tuple[Any, str]] = {  # keyword of Registrar -> (type, help)
    "method": (None, "how point pairs are found; see fastretina methods"),
    "weights": (str, "a shipped weight set, or the path of a manifest"),
    "engine": (None, "what runs the network"),
    "backend": (None, "what runs everything else"),
    "device": (str, "auto, cpu, cuda or cuda:N"),
    "precision": (None, "of the network; f32 is the portable setting"),
    "transform": (None, "the model; auto takes the simplest that explains the pair"),
    "input": (None, "what methods by key points see: the image, or a map of its vessels"),
    "prune": (None, "drop matches that their neighbours do not confirm (methods by key points)"),
    "translate": (None, "show the one image in the look of the other's modality; for methods by key points"),
    "working_size": (int, "longer side, px, at which the network sees an image"),
    "max_keypoints": (int, "key points kept of an image"),
    "threads": (int, "threads; they never change a result"),
    "seed": (int, "of the random sampling"),
}


def add_registrar_options(parser: argparse.ArgumentParser) -> None:
    """The keywords of ``Registrar`` as options."""
    group = parser.add_argument_group("registration")
    for name, (kind, text) in _OPTIONS.items():
        flag = "--" + name.replace("_", "-")
        default = getattr(Config, name)
        text += f" (default {default})" if default is not None else ""
        if kind is None:
            group.add_argument(flag, choices=CHOICES[name], help=text)
        else:
            group.add_argument(flag, type=kind, metavar=name.rpartition("_")[2].upper(), help=text)


def registrar_keywords(args: argparse.Namespace) -> dict[str, Any]:
    """The keywords that the command line sets, checked; everything else keeps its default."""
    keywords = {name: getattr(args, name) for name in _OPTIONS if getattr(args, name) is not None}
    Config.from_keywords(**keywords)
    return keywords


def make_registrar(args: argparse.Namespace) -> Registrar:
    """The registrar that the command line asks for."""
    import fastretina

    return fastretina.Registrar(**registrar_keywords(args))


def say(text: str) -> None:
    """One line for the reader who watches."""
    print(text, flush=True)


def complain(text: str) -> None:
    """One line on stderr."""
    print(f"fastretina: {text}", file=sys.stderr, flush=True)


def result_json(result: Registration) -> dict[str, Any]:
    """A result as plain values: what ``transform.json`` holds, and the numbers of this run."""
    from fastretina.types import plain

    return {
        **result.to_dict(),
        "ok": result.ok,
        "matches": len(result.matches),
        "inliers": int(result.inliers.sum()),
        "quality": plain(result.quality),
        "timings_ms": plain(result.timings_ms),
    }
