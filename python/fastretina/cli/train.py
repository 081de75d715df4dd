"""Train the network on a data folder. Resumable; writes checkpoints, loss curves and the best weights. Needs the extra
[train].
"""

from __future__ import annotations

import argparse
from dataclasses import fields
from pathlib import Path

from fastretina.cli.common import EXIT_OK
from fastretina.errors import EngineError, InvalidInput

HELP = "train the network (needs the extra [train])"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.argument_default = argparse.SUPPRESS  # defaults live in TrainConfig: what is not given is not passed on
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="folder of training images")
    parser.add_argument("-o", "--output", dest="out", type=Path, required=True, metavar="DIR", help="folder of the run")
    length = parser.add_mutually_exclusive_group(required=True)
    length.add_argument("--minutes", type=float)
    length.add_argument("--steps", type=int)
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint")
    parser.add_argument("--network", help="retina or retina_fast")
    parser.add_argument("--sets", help="research (every set found) or clean (synthetic ones only)")
    parser.add_argument("--synthetic", type=int, metavar="N", help="synthetic eyes to add")
    parser.add_argument("--synthetic-share", type=float, metavar="SHARE", help="of the pairs that show them")
    parser.add_argument("--start", metavar="WEIGHTS", help="go on from a checkpoint, a weight set or a manifest")
    parser.add_argument("--teacher", metavar="WEIGHTS", help="learn from this network, too (the same three kinds)")
    parser.add_argument("--patches", action="store_true", help="train on 32-px patches about points (document A)")
    parser.add_argument("--loss", help="of the descriptors: infonce or quadruplet")
    parser.add_argument("--pairs", type=int, metavar="N", help="crop pairs a step")
    parser.add_argument("--rate", type=float, help="learning rate")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--workers", type=int, metavar="N", help="processes that make the crops")
    parser.add_argument("--threads", type=int, metavar="N", help="threads of the training itself")
    parser.argument_default = None


def run(args: argparse.Namespace) -> int:
    try:
        from fastretina.training.trainer import TrainConfig, train
    except ImportError as error:
        raise EngineError(f"train: {error.name} is missing; remedy: pip install 'fastretina[train]'") from error
    known = {f.name for f in fields(TrainConfig)}
    options = {name: value for name, value in vars(args).items() if name in known}
    try:
        train(TrainConfig(**options))
    except (ValueError, FileNotFoundError) as error:  # what it raises for options and data that cannot be used
        raise InvalidInput(str(error)) from error
    return EXIT_OK
