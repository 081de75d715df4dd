"""Apply a saved transform to another image of the MOVING camera (a channel, a mask: --nearest) or to points (CSV with
x,y). OUT is a file, or a folder for a file of the same name. --inverse goes from FIXED to MOVING.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from fastretina.cli.common import EXIT_OK, complain, say
from fastretina.errors import InvalidInput
from fastretina.transform import Transform

HELP = "apply a saved transform to an image, a mask or points"

_TABLES = (".csv", ".txt")
_LOSSLESS = (".png", ".tif", ".tiff", ".bmp")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("transform", metavar="T.json", help="a transform.json")
    parser.add_argument("input", metavar="IMAGE|POINTS.csv", help="what to map")
    parser.add_argument("-o", "--output", metavar="OUT", required=True, help="file or folder to write")
    parser.add_argument("--inverse", action="store_true", help="map from FIXED to MOVING")
    parser.add_argument("--nearest", action="store_true", help="nearest neighbour: keeps the values of a label image")


def run(args: argparse.Namespace) -> int:
    document, transform = _load(args.transform)
    if args.inverse:
        transform = transform.inverse
    if not args.output:
        raise InvalidInput("output: got an empty path; give a file or a folder ('.' is the current one)")
    output = _output_path(Path(args.output), Path(args.input))
    if Path(args.input).suffix.lower() in _TABLES:
        _map_points(args, transform, output)
    else:
        _map_image(args, document, transform, output)
    say(f"written: {output}")
    return EXIT_OK


def _load(path: str) -> tuple[dict[str, Any], Transform]:
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from error
    try:
        transform = Transform.from_json(text)
    except InvalidInput as error:
        raise InvalidInput(f"{path}: {error}") from error
    return json.loads(text), transform


def _output_path(output: Path, source: Path) -> Path:
    """The file to write; its folder is made. A name without a suffix is a folder."""
    if output.suffix and not output.is_dir():
        target = output
    else:
        keeps = source.suffix.lower() in _TABLES or source.suffix.lower() in _LOSSLESS
        target = output / (source.name if keeps else source.stem + ".png")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidInput(f"{target.parent}: the output folder cannot be made ({error.strerror})") from error
    if target.exists() and source.exists() and target.samefile(source):
        raise InvalidInput(f"{target}: is the input; give another output")
    return target


def _map_points(args: argparse.Namespace, transform: Transform, output: Path) -> None:
    from fastretina.io import read_points, write_bytes

    if args.nearest:
        raise InvalidInput("--nearest: applies to images, not to points")
    table = read_points(args.input)
    mapped = transform(table.points)
    write_bytes(output, table.with_points(mapped))
    if lost := int((~np.isfinite(mapped).all(axis=1)).sum()):
        complain(f"note: {lost} of {len(mapped)} points have no image under this transform (nan)")


def _map_image(args: argparse.Namespace, document: dict[str, Any], transform: Transform, output: Path) -> None:
    from fastretina.io import read_image, write_image
    from fastretina.resample import resample

    image = read_image(args.input)
    here, there = ("fixed", "moving") if args.inverse else ("moving", "fixed")
    size = (image.shape[1], image.shape[0])
    expected = _size(args.transform, document, here) or size
    if size != expected:
        text = (
            f"{size[0]} x {size[1]} px, but {args.transform} is for {here} images of {expected[0]} x {expected[1]} px"
        )
        raise InvalidInput(f"{args.input}: {text}; resize it, or give the other direction with --inverse")
    frame = _size(args.transform, document, there) or size
    warped, _ = resample(image, transform, frame, "nearest" if args.nearest else "linear")
    write_image(output, warped)


def _size(path: str, document: dict[str, Any], which: str) -> tuple[int, int] | None:
    """(width, height) of that image, if the file says so: a bare transform does not."""
    size = document.get(f"{which}_size")
    if size is None:
        return None
    if not isinstance(size, list) or len(size) != 2 or not all(isinstance(s, int) and s > 0 for s in size):
        raise InvalidInput(f"{path}: {which}_size is {size!r}; it must be [width, height]")
    return size[0], size[1]
