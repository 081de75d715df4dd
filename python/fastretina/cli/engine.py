"""What can run the network here."""

from __future__ import annotations

import argparse

from fastretina.cli.common import EXIT_OK, say

HELP = "list the engines that can run the network here"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=["list"], help="list: every engine, and whether it is installed")


def run(args: argparse.Namespace) -> int:
    from fastretina import engines

    installed = engines.available()
    for name in engines.ENGINES:
        default = " (default)" if installed[:1] == [name] else ""
        say(f"{name:12s} {'installed' + default if name in installed else 'not installed'}")
    return EXIT_OK
