"""Score the registrar, and baselines beside it, where the truth is known. One of:

--pairs DIR        pairs with known transforms (pairs.json), as they are, perturbed and crossed
--fire DIR         FIRE by its protocol, on a local copy: errors in px of a 2912-px frame
--crossings DIR    pairs of different eyes from the single images of a training data folder
--synthetic KINDS  multi-modal pairs of synthetic eyes: homography, quadratic, local (comma-separated)
--vessels DIR      vessel maps on the held-out images of a training data folder: Dice and AUC (needs the extra [train])
--table A|B|C      the methods and questions of a document, on synthetic eyes and on those of --pairs that fit

Errors are in px of a frame whose longer FIXED side is 640 where nothing else is said; a refused pair is a miss.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastretina.cli.common import EXIT_OK, add_registrar_options, make_registrar, registrar_keywords, say
from fastretina.config import nearest, usable_cores
from fastretina.errors import EngineError, InvalidInput
from fastretina.methods import METHODS

if TYPE_CHECKING:
    from fastretina.evaluation import Case
    from fastretina.evaluation.run import Registers

HELP = "score the registrar on pairs with known transforms"
OURS = "fastretina"
COUNT, TABLE_COUNT = 200, 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from fastretina.evaluation.perturb import PERTURBATIONS
    from fastretina.synth.geometry import GEOMETRIES

    parser.add_argument("--pairs", metavar="DIR", help="folder with pairs.json")
    suite = parser.add_mutually_exclusive_group()
    suite.add_argument("--fire", metavar="DIR", help="folder with FIRE's 'Images' and 'Ground Truth'")
    suite.add_argument("--crossings", metavar="DIR", help="folder of single images, as training takes it")
    suite.add_argument("--synthetic", metavar="KINDS", help=f"comma-separated: {', '.join(GEOMETRIES)}")
    suite.add_argument("--vessels", metavar="DIR", help="folder of labelled images, as training takes it")
    suite.add_argument("--table", metavar="NAME", help="A, B or C: see docs/METHODS.md (needs fastretina[torch])")
    parser.add_argument(
        "--count",
        metavar="N",
        type=int,
        help=f"pairs of --crossings, of each --synthetic (default {COUNT}), of each suite of --table ({TABLE_COUNT})",
    )
    parser.add_argument("--pictures", metavar="DIR", help="of --table: overlays of some pairs of each kind, as PNG")
    parser.add_argument(
        "--perturb", metavar="KINDS", help=f"of --pairs, comma-separated: {PERTURBATIONS} (default none)"
    )
    parser.add_argument(
        "--wrong", action="store_true", help="of --pairs: also cross different eyes; none may be accepted"
    )
    parser.add_argument(
        "--both-ways", action="store_true", help="register with exchanged roles, too: how far do the two disagree?"
    )
    parser.add_argument("--baselines", metavar="NAMES", default="", help=f"other methods: {', '.join(METHODS)}")
    parser.add_argument("--json", metavar="FILE", help="write every row and the summary")
    parser.add_argument("--markdown", metavar="FILE", help="write the table")
    parser.add_argument("--plots", metavar="FILE.png", help="write the curves (needs matplotlib)")
    parser.add_argument("--quiet", action="store_true", help="print the table only")
    add_registrar_options(parser)


def run(args: argparse.Namespace) -> int:
    from fastretina import evaluation
    from fastretina.io import write_bytes

    keywords = registrar_keywords(args)
    _check(args, keywords)
    if args.vessels:
        return _vessels(args, keywords)
    if args.table:
        return _table(args)
    baselines, cases = _baselines(args), _cases(args)
    ours = OURS if args.method in (None, "retina") else args.method
    methods: dict[str, Registers] = {ours: make_registrar(args), **baselines}
    measures = [evaluation.both_ways(methods)] if args.both_ways else []
    rows = evaluation.evaluate(methods, cases, (lambda row: None) if args.quiet else _show, *measures)
    summary = evaluation.summarise(rows)
    table = evaluation.markdown(summary)
    _written(args, table, {"summary": summary, "rows": rows})
    if args.plots:
        write_bytes(args.plots, evaluation.plot(rows))
    return EXIT_OK


def _table(args: argparse.Namespace) -> int:
    """A document's table: its methods, each with its own defaults."""
    import fastretina
    from fastretina.evaluation import documents, evaluate

    asked = documents.TABLES[documents.check_table(args.table)]
    cases = documents.table_cases(args.table, args.pairs, args.count or TABLE_COUNT, args.seed or 0)
    methods: dict[str, Registers] = {
        name: fastretina.Registrar(**options, threads=args.threads) for name, options in asked.methods.items()
    }
    measures: list[Any] = []
    if asked.vessel_maps:
        from fastretina.methods.vessels import VesselMaps

        measures.append(documents.VesselDifference(VesselMaps(args.threads or 1)))
    gallery = documents.Gallery(args.pictures) if args.pictures else None
    if gallery:
        measures.append(gallery)
    rows = evaluate(methods, cases, (lambda row: None) if args.quiet else _show, documents.measures(*measures))
    _written(args, documents.table_markdown(args.table, rows), {"rows": rows})
    if gallery:
        gallery.write()
    return EXIT_OK


def _written(args: argparse.Namespace, table: str, found: dict[str, Any]) -> None:
    from fastretina.io import write_bytes

    say(table if args.quiet else "\n" + table)
    if args.json:
        document = json.dumps(_finite(found), indent=1, allow_nan=False)
        write_bytes(args.json, (document + "\n").encode())
    if args.markdown:
        write_bytes(args.markdown, table.encode())


def _check(args: argparse.Namespace, keywords: dict[str, Any]) -> None:
    """One suite is asked for, and no option may be without effect."""
    given = [f"--{s}" for s in ("pairs", "fire", "crossings", "synthetic", "table", "vessels") if getattr(args, s)]
    if not given:
        raise InvalidInput("one of --pairs, --fire, --crossings, --synthetic, --table, --vessels is required")
    if len(given) > 1 and given != ["--pairs", "--table"]:
        raise InvalidInput(f"{' and '.join(given)}: give one; only --table takes --pairs, too")
    if args.table:
        own = {*keywords, *(n for n in ("baselines", "plots", "wrong", "perturb", "both_ways") if getattr(args, n))}
        for name in sorted(own - {"threads", "seed"}):
            raise InvalidInput(f"--{name.replace('_', '-')}: the methods of --table have their own")
    for option, asked, suites in (
        ("perturb", args.perturb is not None, ("pairs",)),
        ("wrong", args.wrong, ("pairs",)),
        ("count", args.count is not None, ("crossings", "synthetic", "table")),
        ("pictures", args.pictures is not None, ("table",)),
    ):
        if asked and not any(getattr(args, suite) for suite in suites):
            raise InvalidInput(f"--{option}: is an option of {' and '.join('--' + s for s in suites)} only")


def _vessels(args: argparse.Namespace, keywords: dict[str, Any]) -> int:
    """The suite that registers nothing."""
    for name in [
        *(k for k in keywords if k != "threads"),
        *(n for n in ("baselines", "plots", "both_ways") if getattr(args, n)),
    ]:
        raise InvalidInput(f"--{name.replace('_', '-')}: means nothing to --vessels, which registers no pair")
    try:
        from fastretina.evaluation import vessels
        from fastretina.methods.vessels import VesselMaps
    except ImportError as error:
        raise EngineError(f"evaluate: {error.name} is missing; remedy: pip install 'fastretina[train]'") from error
    from fastretina.io import write_bytes

    show = "{set:12s} {id:16s} Dice {dice:.3f}  AUC {auc:.3f}"
    rows = vessels.evaluate(
        VesselMaps(args.threads or usable_cores()),
        Path(args.vessels),
        (lambda row: None) if args.quiet else (lambda row: say(show.format(**row))),
    )
    summary = vessels.summarise(rows)
    table = vessels.markdown(summary)
    say(table if args.quiet else "\n" + table)
    if args.json:
        write_bytes(args.json, (json.dumps(_finite({"summary": summary, "rows": rows}), indent=1) + "\n").encode())
    if args.markdown:
        write_bytes(args.markdown, table.encode())
    return EXIT_OK


def _cases(args: argparse.Namespace) -> Iterable[Case]:
    from fastretina.evaluation import crossings, fire, pairs, synthetic

    if args.fire:
        for name, reason in fire.EXCLUDED.items():
            say(f"{name} is left out: {reason}")
        fire.fire_pairs(args.fire)  # a wrong folder is named before the network is loaded
        return fire.fire_cases(args.fire)
    if args.crossings:
        return crossings.crossing_cases(
            Path(args.crossings), COUNT if args.count is None else args.count, args.seed or 0
        )
    if args.synthetic:
        return synthetic.synthetic_cases(
            _listed(args.synthetic), COUNT if args.count is None else args.count, args.seed or 0
        )
    return pairs.pair_cases(pairs.load_pairs(args.pairs), _listed(args.perturb or "none"), args.wrong)


def _baselines(args: argparse.Namespace) -> dict[str, Registers]:
    """Other methods, each with its own defaults, on the same threads."""
    import fastretina

    for name in _listed(args.baselines):
        if name not in METHODS:
            raise InvalidInput(f"baselines: got {name!r}; {nearest(name, list(METHODS))}")
    return {n: fastretina.Registrar(method=n, threads=args.threads) for n in _listed(args.baselines)}


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _show(row: dict[str, Any]) -> None:
    say(
        f"{row['method']:15s} {row['kind']:9s} {row['id']:20s} {row['modalities']:12s} {row['status'][:32]:16s} "
        f"confidence {row['confidence']:.3f}  error {row['error']:7.2f} px  {row['ms']:7.1f} ms"
    )


def _finite(value: Any) -> Any:
    """JSON has no infinity: a refused pair's error is null."""
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
