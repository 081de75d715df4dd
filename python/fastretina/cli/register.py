"""Register MOVING to FIXED. Writes into the output folder: transform.json, warped.png (MOVING in the FIXED frame, full
resolution), overlay.png (panels) and report.html. A refused pair exits with status 3 and leaves transform.json (with
"transform": null) and report.html only.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastretina.cli.common import (
    EXIT_OK,
    EXIT_REFUSED,
    add_registrar_options,
    complain,
    make_registrar,
    registrar_keywords,
    result_json,
    say,
)
from fastretina.config import MIN_SIDE_PX
from fastretina.types import Registration

HELP = "register two images"
PICTURES = ("warped.png", "overlay.png")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("fixed", metavar="FIXED", help="the image that stays (PNG, JPEG, TIFF, BMP)")
    parser.add_argument("moving", metavar="MOVING", help="the image that is brought into its frame")
    parser.add_argument("-o", "--output", metavar="DIR", required=True, help="folder for the results")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    add_registrar_options(parser)


def run(args: argparse.Namespace) -> int:
    from fastretina.io import OutputFolder, read_image

    registrar_keywords(args)
    fixed = read_image(args.fixed, min_side=MIN_SIDE_PX)
    moving = read_image(args.moving, min_side=MIN_SIDE_PX)
    with OutputFolder(args.output) as folder:
        result = make_registrar(args).register(fixed, moving)
        files = output_files(fixed, moving, result, Path(args.fixed).name, Path(args.moving).name)
        folder.fill(files, absent=[name for name in PICTURES if name not in files])
    if args.json:
        say(json.dumps(result_json(result), indent=2, sort_keys=True))
    elif result.ok:
        say(describe(result))
        say(f"written: {', '.join(str(folder.path / name) for name in files)}")
    if not result.ok:
        complain(f"refused: {result.status} (confidence {result.confidence:.3f}); see {folder.path / 'report.html'}")
        return EXIT_REFUSED
    return EXIT_OK


def describe(result: Registration) -> str:
    """A registered pair in one line."""
    assert result.transform is not None
    return (
        f"registered: {result.transform.model}, confidence {result.confidence:.3f}, "
        f"{int(result.inliers.sum())} inliers of {len(result.matches)} matches, "
        f"{result.timings_ms.get('total', 0.0):.0f} ms"
    )


def output_files(
    fixed: NDArray[Any], moving: NDArray[Any], result: Registration, fixed_name: str, moving_name: str
) -> dict[str, bytes]:
    """Everything that a registration leaves behind, by file name."""
    from fastretina.io import encode_image
    from fastretina.report import html_report, overlay_panels, scene

    warped = result.warp(moving) if result.ok else None
    view = scene(fixed, moving, result, warped)
    panels = overlay_panels(view)
    files = {"transform.json": result.to_json().encode()}
    if warped is not None:
        files["warped.png"] = encode_image(_storable(warped[0]), ".png")
        files["overlay.png"] = encode_image(panels, ".png")
    files["report.html"] = html_report(view, fixed_name, moving_name, panels).encode()
    return files


def _storable(image: NDArray[Any]) -> NDArray[Any]:
    """PNG has no float pixels: [0, 1] becomes 16 bit."""
    return np.rint(np.clip(image, 0, 1) * 65535).astype(np.uint16) if image.dtype == np.float32 else image
