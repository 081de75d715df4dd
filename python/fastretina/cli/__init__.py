"""The command ``fastretina``: one file a subcommand.

Exit status: 0 registered (or done); 3 refused, the reason on stderr; 2 misuse (a bad file or option); 1 internal error.
"""

from __future__ import annotations

import argparse
import sys
import traceback
import warnings
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, NoReturn

from fastretina.cli import apply, bench, demo, doctor, engine, evaluate, methods, register, train
from fastretina.cli.common import EXIT_INTERNAL, EXIT_MISUSE
from fastretina.config import nearest
from fastretina.errors import FastretinaError

__all__ = ["main"]

COMMANDS = (register, apply, demo, evaluate, methods, bench, engine, train, doctor)


class _Parser(argparse.ArgumentParser):
    """Misuse is one line that says what is allowed, not a screen of usage."""

    def error(self, message: str) -> NoReturn:
        self.exit(EXIT_MISUSE, f"{self.prog}: {message}\nSee {self.prog} --help\n")

    def options(self) -> list[str]:
        return [name for action in self._actions for name in action.option_strings if name.startswith("--")]


class _CMakeDir(argparse.Action):
    """Prints where the C library's CMake package is: beside the compiled core, also of an editable install."""

    def __init__(self, option_strings: list[str], dest: str, **keywords: Any) -> None:
        super().__init__(option_strings, dest, nargs=0, **keywords)

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        folder = Path(str(metadata.distribution("fastretina").locate_file("fastretina/lib/cmake/fastretina")))
        if not (folder / "fastretinaConfig.cmake").is_file():
            parser.error(f"--cmake-dir: {folder} holds no CMake package; remedy: reinstall fastretina")
        print(folder)
        parser.exit()


def build_parser() -> argparse.ArgumentParser:
    """The parser of all subcommands."""
    from fastretina import __version__

    parser = _Parser(
        prog="fastretina", description="Register two retinal images, and know whether to trust the answer."
    )
    parser.add_argument("--version", action="version", version=f"fastretina {__version__}")
    parser.add_argument("--cmake-dir", action=_CMakeDir, help="print the folder for CMake's find_package(fastretina)")
    commands = parser.add_subparsers(metavar="COMMAND", required=True, parser_class=_Parser)
    for command in COMMANDS:
        sub = commands.add_parser(
            command.__name__.rpartition(".")[2],
            help=command.HELP,
            description=command.__doc__,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        command.add_arguments(sub)
        sub.add_argument("--debug", action="store_true", help="print a traceback with an error")
        sub.set_defaults(run=command.run, parser=sub)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line; returns the exit status."""
    args, unknown = build_parser().parse_known_args(arguments)
    with warnings.catch_warnings():
        warnings.showwarning = _show_warning
        try:
            if unknown:
                args.parser.error(f"unknown argument {unknown[0]}; {nearest(unknown[0], args.parser.options())}")
            return int(args.run(args))
        except FastretinaError as error:
            return _failed(error, EXIT_MISUSE, args.debug)
        except KeyboardInterrupt:
            print("fastretina: interrupted", file=sys.stderr)
            return 130
        except BrokenPipeError:  # the reader of our output has seen enough
            sys.stderr.close()
            return EXIT_INTERNAL
        except Exception as error:
            return _failed(error, EXIT_INTERNAL, args.debug)


def _failed(error: Exception, status: int, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    internal = f"internal error: {type(error).__name__}: " if status == EXIT_INTERNAL else ""
    hint = " (--debug shows where)" if internal and not debug else ""
    print(f"fastretina: {internal}{' '.join(str(error).split())}{hint}", file=sys.stderr)
    return status


def _show_warning(message: Warning | str, *_: object, **__: object) -> None:
    print(f"fastretina: note: {message}", file=sys.stderr)
