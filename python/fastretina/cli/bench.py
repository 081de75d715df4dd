"""Time every room beside its peers: runs benchmarks/bench_*.py of a source checkout, each in a process of its own, and
prints their tables.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from fastretina.cli.common import EXIT_INTERNAL, EXIT_OK, complain, say
from fastretina.config import nearest
from fastretina.errors import InvalidInput

HELP = "time the rooms beside their peers (needs a source checkout)"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("names", metavar="NAME", nargs="*", help="which ones, such as match or detect (default all)")
    parser.add_argument("--checkout", metavar="DIR", default=".", help="the source checkout (default: here)")
    parser.add_argument("--json", metavar="FILE", help="write what the benchmarks measured")


def run(args: argparse.Namespace) -> int:
    folder = Path(args.checkout).resolve() / "benchmarks"
    scripts = {path.stem.removeprefix("bench_"): path for path in sorted(folder.glob("bench_*.py"))}
    if not scripts:
        raise InvalidInput(f"{folder}: holds no bench_*.py; run this in a source checkout, or name it with --checkout")
    for name in args.names:
        if name not in scripts:
            raise InvalidInput(f"{name}: no such benchmark; {nearest(name, list(scripts))}")
    measured, failed = {}, []
    with tempfile.TemporaryDirectory() as scratch:
        for name in args.names or scripts:
            say(f"== {name}")
            report = Path(scratch) / f"{name}.json"
            command = [sys.executable, str(scripts[name]), *(["--json", str(report)] if args.json else [])]
            if subprocess.run(command, cwd=folder.parent, env={**os.environ}, check=False).returncode:
                failed.append(name)
            elif report.is_file():
                measured[name] = json.loads(report.read_text())
    if args.json:
        from fastretina.io import write_bytes

        write_bytes(args.json, (json.dumps(measured, indent=1) + "\n").encode())
    if failed:
        complain(f"these benchmarks failed: {', '.join(failed)}")
        return EXIT_INTERNAL
    return EXIT_OK
