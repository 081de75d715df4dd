"""Photograph a synthetic eye with two cameras (colour and fluorescein), register the pair, and report the true error.
Exits with 0 only if the pair was registered and the error is small.
"""

from __future__ import annotations

import argparse
import json

from fastretina.cli.common import (
    EXIT_INTERNAL,
    EXIT_OK,
    EXIT_REFUSED,
    add_registrar_options,
    complain,
    make_registrar,
    registrar_keywords,
    result_json,
    say,
)
from fastretina.cli.register import PICTURES, describe, output_files
from fastretina.errors import InvalidInput

HELP = "register a synthetic pair and report the true error"
MAX_ERROR_PX = 3.0
_EYE = 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from fastretina.synth.cameras import CAMERAS
    from fastretina.synth.pair import DIFFICULTIES

    parser.add_argument("-o", "--output", metavar="DIR", default="fastretina-demo", help="folder (default %(default)s)")
    parser.add_argument("--eye", type=int, default=_EYE, help="which eye to grow (default %(default)s)")
    parser.add_argument(
        "--modalities", nargs=2, default=("CF", "FA"), choices=sorted(CAMERAS), help="of FIXED and MOVING"
    )
    parser.add_argument("--difficulty", default="moderate", choices=list(DIFFICULTIES))
    parser.add_argument("--size", type=int, default=768, help="of both pictures, px (default %(default)s)")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    add_registrar_options(parser)


def run(args: argparse.Namespace) -> int:
    from fastretina.io import OutputFolder, encode_image
    from fastretina.synth import synthetic_pair

    registrar_keywords(args)
    if args.eye < 0:
        raise InvalidInput(f"--eye: got {args.eye}; allowed: 0, 1, 2 ...")
    with OutputFolder(args.output) as folder:
        pair = synthetic_pair(args.eye, (args.size, args.size), tuple(args.modalities), args.difficulty)
        result = make_registrar(args).register(pair.fixed, pair.moving)
        files = output_files(pair.fixed, pair.moving, result, "fixed.png", "moving.png")
        for name, image in (("fixed.png", pair.fixed), ("moving.png", pair.moving)):
            files[name] = encode_image(image, ".png")
        files["truth.json"] = (pair.transform.to_json() + "\n").encode()
        folder.fill(files, absent=[name for name in PICTURES if name not in files])
    error = None if result.transform is None else pair.mean_error(result.transform)
    if args.json:
        say(json.dumps({**result_json(result), "true_error_px": error}, indent=2, sort_keys=True))
    if not result.ok:
        complain(f"refused: {result.status} (confidence {result.confidence:.3f}); see {folder.path / 'report.html'}")
        return EXIT_REFUSED
    assert error is not None
    if not args.json:
        before = pair.mean_error(pair.transform.identity())
        say(describe(result))
        say(f"true error: {error:.2f} px on average over the common area (before registration {before:.0f} px)")
        say(f"written: {folder.path / 'report.html'} and {len(files) - 1} more")
    if error > MAX_ERROR_PX:
        complain(
            f"the true error of {error:.2f} px is above {MAX_ERROR_PX} px: this installation does not work as it should"
        )
        return EXIT_INTERNAL
    return EXIT_OK
