"""A contact sheet: synthetic eyes in every modality.

usage: python -m fastretina.synth.sheet -o FILE [--eyes 2] [--first 0] [--tile 320]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fastretina.io import encode_image
from fastretina.io.output import write_bytes
from fastretina.synth.cameras import CAMERAS, Camera, aperture, photograph
from fastretina.synth.eye import Eye
from fastretina.synth.tree import DEG_PER_UNIT


def picture(eye: Eye, camera: Camera, side_px: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """(side, side, 3) uint8: what a camera shows of an eye, in a field that is usual for it."""
    field = float(rng.choice(camera.fields_deg))
    step = field / DEG_PER_UNIT / side_px
    toward_disc = 0.0 if camera.at_fovea else 0.3 if eye.tree.right_eye else -0.3
    axis = (np.arange(side_px) - (side_px - 1) / 2) * step
    layers = eye.look(np.stack(np.meshgrid(axis + toward_disc, axis), -1))
    plane = photograph(camera, layers, eye.pigment, field / side_px, 1.0, rng)
    plane = plane if plane.ndim == 3 else np.repeat(plane[..., None], 3, axis=2)
    seen = plane * aperture(side_px, side_px, camera, rng)[..., None]
    return np.clip(np.rint(255 * seen), 0, 255).astype(np.uint8)


def sheet(first: int, eyes: int, tile_px: int) -> NDArray[np.uint8]:
    """Two rows of four modalities an eye, each drawn at twice the size it is shown at."""
    import cv2

    rows = []
    for seed in range(first, first + eyes):
        eye = Eye(seed)
        tiles = []
        for i, camera in enumerate(CAMERAS.values()):
            # A small field is shown as its device samples it; drawing it finer would show what no device resolves.
            drawn = picture(eye, camera, tile_px if camera.at_fovea else 2 * tile_px, np.random.default_rng([seed, i]))
            tiles.append(cv2.resize(drawn, (tile_px, tile_px), interpolation=cv2.INTER_AREA))
        rows += [np.hstack(tiles[:4]), np.hstack(tiles[4:])]
    return np.asarray(np.vstack(rows), np.uint8)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help=".png or .jpg")
    parser.add_argument("--eyes", type=int, default=2)
    parser.add_argument("--first", type=int, default=0, help="number of the first eye")
    parser.add_argument("--tile", type=int, default=320, help="side of a picture, px")
    args = parser.parse_args()
    write_bytes(args.output, encode_image(sheet(args.first, args.eyes, args.tile), args.output.suffix))


if __name__ == "__main__":
    main()
