"""Score the registrar on a folder of pairs with known transforms (pairs.json). Errors are in px of a frame whose longer
FIXED side is 640; a refused pair is a miss.
"""

from __future__ import annotations

import argparse
import json
import math
from typing import Any

from fastretina.cli.common import EXIT_OK, add_registrar_options, make_registrar, registrar_keywords, say

HELP = "score the registrar on pairs with known transforms"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from fastretina.evaluation.pairs import PERTURBATIONS

    parser.add_argument("--pairs", metavar="DIR", required=True, help="folder with pairs.json")
    parser.add_argument("--perturb", metavar="KINDS", default="none", help=f"comma-separated: {PERTURBATIONS}")
    parser.add_argument("--wrong", action="store_true", help="also cross pairs of different eyes: none may be accepted")
    parser.add_argument("--json", metavar="FILE", help="write every row and the summary")
    parser.add_argument("--markdown", metavar="FILE", help="write the table")
    parser.add_argument("--plots", metavar="FILE.png", help="write the curves (needs matplotlib)")
    parser.add_argument("--quiet", action="store_true", help="print the table only")
    add_registrar_options(parser)


def run(args: argparse.Namespace) -> int:
    from fastretina import evaluation
    from fastretina.io import write_bytes

    registrar_keywords(args)
    pairs = evaluation.load_pairs(args.pairs)
    kinds = [kind.strip() for kind in args.perturb.split(",") if kind.strip()]
    registrar = make_registrar(args)
    rows = evaluation.evaluate(registrar, pairs, kinds, args.wrong, (lambda row: None) if args.quiet else _show)
    summary = evaluation.summarise(rows)
    table = evaluation.markdown(summary)
    say(table if args.quiet else "\n" + table)
    if args.json:
        document = json.dumps(_finite({"summary": summary, "rows": rows}), indent=1, allow_nan=False)
        write_bytes(args.json, (document + "\n").encode())
    if args.markdown:
        write_bytes(args.markdown, table.encode())
    if args.plots:
        write_bytes(args.plots, evaluation.plot(rows))
    return EXIT_OK


def _show(row: dict[str, Any]) -> None:
    say(
        f"{row['kind']:9s} {row['id']:20s} {row['modalities']:12s} {row['status'][:32]:16s} "
        f"confidence {row['confidence']:.3f}  error {row['error']:7.2f} px  {row['ms']:7.1f} ms"
    )


def _finite(value: Any) -> Any:
    """JSON has no infinity: a refused pair's error is null."""
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
