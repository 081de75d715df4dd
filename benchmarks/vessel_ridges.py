"""Is alignment better on the ridges of the U-Net's vessel map than on those of the image? Synthetic pairs, known truth.

Each pair starts from its truth, displaced by a few pixels; refine then aligns a homography on either kind of ridges.
Errors are means over the points that both cameras see, in px of a 640-px frame.

usage: python benchmarks/vessel_ridges.py [--count N] [--seed S] [--size PX] [--weights FILE]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from fastretina import ops
from fastretina.evaluation.metrics import point_errors
from fastretina.evaluation.synthetic import synthetic_cases
from fastretina.methods.vessels import WEIGHTS_FILE, VesselMaps
from fastretina.transform import Transform

START_PX, START_TURN_DEG, START_SCALE = 4.0, 0.7, 0.01  # deviations of the displacement


def to_plane(scale: float) -> Transform:
    shift = 0.5 * scale - 0.5
    return Transform.from_matrix([[scale, 0, shift], [0, scale, shift]], "similarity")


def displaced(truth: Transform, rng: np.random.Generator) -> Transform:
    turn, scale = np.radians(rng.normal(0, START_TURN_DEG)), 1 + rng.normal(0, START_SCALE)
    c, s = scale * np.cos(turn), scale * np.sin(turn)
    about = np.array([320.0, 320.0])
    shift = about - np.array([[c, -s], [s, c]]) @ about + rng.normal(0, START_PX, 2)
    return Transform.from_matrix([[c, -s, shift[0]], [s, c, shift[1]]], "similarity") @ truth


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--size", type=int, default=640, help="longer side of the planes that are aligned")
    parser.add_argument("--weights", type=Path, default=WEIGHTS_FILE)
    args = parser.parse_args()
    maps = VesselMaps(1, args.weights)
    rng = np.random.default_rng(args.seed)
    rows = []
    for case in synthetic_cases(["homography"], args.count, args.seed):
        assert case.target is not None
        assert case.target.truth is not None
        start = displaced(case.target.truth, rng)
        seen = [ops.image(image, working_size=args.size) for image in (case.fixed, case.moving)]
        frames = [to_plane(s.scale) for s in seen]
        errors = [point_errors(start, case.target.moving, case.target.fixed).mean()]
        for kind in ("image", "vessels"):
            ridges = []
            for image, s in zip((case.fixed, case.moving), seen, strict=True):
                plane = s.plane if kind == "image" else ops.image(maps(image), working_size=args.size).gray
                if kind == "vessels":
                    height, width = s.plane.shape
                    plane = np.pad(plane, ((0, height - plane.shape[0]), (0, width - plane.shape[1]))) * s.mask
                ridges.append(ops.ridges(np.ascontiguousarray(plane, np.float32), s.mask))
            found = ops.refine(*ridges, frames[0] @ start @ frames[1].inverse, kind="homography").transform
            between = frames[0].inverse @ found @ frames[1]
            errors.append(point_errors(between, case.target.moving, case.target.fixed).mean())
        rows.append(errors)
        print(f"{case.id:14s} {case.modalities:10s}", *(f"{e:7.2f}" for e in errors), flush=True)
    table = np.array(rows)
    better = int((table[:, 2] < table[:, 1]).sum())
    print(f"\n{len(table)} pairs; vessels better in {better}")
    for name, column in zip(("start", "ridges of the image", "ridges of the vessel map"), table.T, strict=True):
        good = np.mean(column < 5)
        print(
            f"{name:26s} median {np.median(column):.2f}  within 1 px {np.mean(column < 1):.3f}  within 5 px {good:.3f}"
        )


if __name__ == "__main__":
    main()
