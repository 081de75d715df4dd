"""List the ways to register a pair, for ``--method NAME`` and ``Registrar(method=NAME)``: licence, size of the weights,
purpose, and whether it can run here.
"""

from __future__ import annotations

import argparse
import json
from importlib.util import find_spec

from fastretina.cli.common import EXIT_OK, say
from fastretina.methods import METHODS

HELP = "list the methods that can register a pair"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print the list as JSON")


def run(args: argparse.Namespace) -> int:
    torch = find_spec("torch") is not None and find_spec("safetensors") is not None
    rows = [
        {"name": m.name, "licence": m.licence, "size_mb": round(m.size_bytes / 1e6, 2),
         "ready": torch or not m.needs_torch, "options": list(m.takes), "purpose": m.purpose}
        for m in METHODS.values()
    ]  # fmt: skip
    if args.json:
        say(json.dumps(rows, indent=2))
        return EXIT_OK
    cells = [["method", "licence", "weights", "", "purpose"]]
    for row in rows:
        size = f"{row['size_mb']:.1f} MB" if row["size_mb"] else "–"
        note = "" if row["ready"] else "needs fastretina[torch]"
        cells.append([str(row["name"]), str(row["licence"]), size, note, str(row["purpose"])])
    widths = [max(len(line[i]) for line in cells) for i in range(4)]
    for line in cells:
        say("  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=False)) + f"  {line[-1]}")
    return EXIT_OK
