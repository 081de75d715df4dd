"""Train a network on a data folder, by the recipe of that network. Resumable; writes checkpoints and loss curves, and
with --weights what ships of the network. Needs the extra [train].
"""

from __future__ import annotations

import argparse
from pathlib import Path

from fastretina.cli.common import EXIT_OK
from fastretina.errors import EngineError, InvalidInput
from fastretina.training.recipes import EVERY_RUN, RECIPES, Option, load

HELP = "train a network (needs the extra [train])"
MACHINE = ("workers", "threads")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.argument_default = argparse.SUPPRESS  # defaults live in the recipe's Config: what is not given stays out
    parser.add_argument("--recipe", default="retina", metavar="NAME", help=f"one of {', '.join(RECIPES)}")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="folder of training images")
    parser.add_argument("-o", "--output", dest="out", type=Path, required=True, metavar="DIR", help="folder of the run")
    parser.add_argument("--weights", type=Path, metavar="FILE", help="write the finished network here")
    length = parser.add_mutually_exclusive_group(required=True)
    length.add_argument("--minutes", type=float)
    length.add_argument("--steps", type=int)
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint")
    parser.add_argument("--sets", help="research (every set found) or clean (synthetic ones only)")
    parser.add_argument("--synthetic", type=int, metavar="N", help="synthetic eyes to add")
    parser.add_argument("--synthetic-share", type=float, metavar="SHARE", help="of the pairs that show them")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--workers", type=int, metavar="N", help="processes that make the crops")
    parser.add_argument("--threads", type=int, metavar="N", help="threads of the training itself")
    for name, (option, recipes) in _options().items():
        flag, text = f"--{name.replace('_', '-')}", f"{option.meaning} (of {', '.join(recipes)})"
        if option.kind is bool:
            parser.add_argument(flag, action="store_true", help=text)
        else:
            parser.add_argument(flag, type=option.kind, help=text)
    parser.argument_default = None


def run(args: argparse.Namespace) -> int:
    if args.recipe not in RECIPES:
        load(args.recipe)  # says which there are
    own = RECIPES[args.recipe].options
    given = {name: value for name, value in vars(args).items() if name in (*EVERY_RUN, *MACHINE, *_options())}
    for name in given:
        if name not in (*EVERY_RUN, *MACHINE, *own):
            raise InvalidInput(f"{name}: no option of recipe {args.recipe!r}; it takes {', '.join(own) or 'none'}")
    try:
        from fastretina.training import loop

        recipe = load(args.recipe)
    except ImportError as error:
        raise EngineError(f"train: {error.name} is missing; remedy: pip install 'fastretina[train]'") from error
    config = recipe.Config(**given)
    loop.run(recipe.build(config), config, getattr(recipe, "on_checkpoint", None))
    return EXIT_OK


def _options() -> dict[str, tuple[Option, list[str]]]:
    """Every option of a recipe, and the recipes that take it."""
    found: dict[str, tuple[Option, list[str]]] = {}
    for name, recipe in RECIPES.items():
        for keyword, option in recipe.options.items():
            found.setdefault(keyword, (option, []))[1].append(name)
    return found
