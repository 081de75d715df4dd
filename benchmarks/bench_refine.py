"""Room refine against OpenCV's ECC on the same ridge maps: CPU time, one thread, and how far both end from the truth.

usage: python benchmarks/bench_refine.py [--json FILE] [--repeat N]
"""

from __future__ import annotations

import argparse
import json

import cv2
import numpy as np
from fastretina import ops
from fastretina.transform import Transform
from harness import measure, table

SIDE = 640
TRUTH = Transform.from_matrix([[1.02, 0.04, -11.3], [-0.03, 0.99, 9.2], [4e-5, -3e-5, 1]])


def scene(x: np.ndarray, y: np.ndarray, noise: int) -> np.ndarray:
    """Sixty curved vessels and noise, in the frame's pixels."""
    rng = np.random.default_rng(7)
    plane = np.zeros(x.shape)
    for _ in range(60):
        angle, offset, wide = rng.uniform(0, np.pi), rng.uniform(-420, 420), rng.uniform(1.2, 3)
        bend, phase, period = rng.uniform(5, 40), rng.uniform(0, 6), rng.uniform(30, 120)
        along = (x - 320) * np.cos(angle) + (y - 320) * np.sin(angle)
        across = -(x - 320) * np.sin(angle) + (y - 320) * np.cos(angle) - offset - bend * np.sin(along / period + phase)
        plane += np.exp(-(across**2) / (2 * wide**2))
    blurred = cv2.GaussianBlur(np.random.default_rng(noise).normal(size=x.shape), (0, 0), 1.2)
    return plane - plane.mean() + 1.2 * blurred


def grid() -> np.ndarray:
    xs, ys = np.meshgrid(np.linspace(40, 600, 25), np.linspace(40, 600, 25))
    return np.column_stack([xs.ravel(), ys.ravel()])


def distance(a: Transform, b: Transform) -> float:
    return float(np.linalg.norm(a(grid()) - b(grid()), axis=1).mean())


def cases(repeat: int = 15) -> list[dict[str, object]]:
    cv2.setNumThreads(1)
    ys, xs = np.mgrid[0:SIDE, 0:SIDE].astype(float)
    seen = TRUTH(np.column_stack([xs.ravel(), ys.ravel()]))
    fixed_plane = scene(xs, ys, 1).astype(np.float32)
    moving_plane = -scene(seen[:, 0].reshape(SIDE, SIDE), seen[:, 1].reshape(SIDE, SIDE), 2).astype(np.float32)
    mask = np.ones((SIDE, SIDE), np.uint8)
    fixed, moving = ops.ridges(fixed_plane, mask), ops.ridges(moving_plane, mask)
    # ECC sees the finest strength; MOVING is its template, so that its warp is MOVING -> FIXED as ours.
    template, image = ((m.full & 255).astype(np.float32) / 255 for m in (moving, fixed))
    image_mask = (fixed.full >> 24 > 0).astype(np.uint8) * 255
    rows = []
    for size in (2, 4, 8):
        rng = np.random.default_rng(size)
        corners = np.array([[0, 0], [639, 0], [639, 639], [0, 639]], np.float32)
        moved = (TRUTH(corners.astype(float)) + rng.normal(0, size, (4, 2))).astype(np.float32)
        start = Transform.from_matrix(cv2.getPerspectiveTransform(corners, moved))
        found: dict[str, Transform] = {}

        def ours(start=start, found=found) -> None:
            found["fastretina.ops.refine"] = ops.refine(fixed, moving, start).transform

        def ecc(blur: int, start=start, found=found) -> None:
            stop = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 100, 1e-6)
            matrix = start.params.astype(np.float32).copy()
            try:
                _, matrix = cv2.findTransformECC(template, image, matrix, cv2.MOTION_HOMOGRAPHY, stop, image_mask, blur)
            except cv2.error:  # it did not converge
                matrix = start.params
            found[f"cv2.findTransformECC blur {blur}"] = Transform.from_matrix(matrix.astype(np.float64))

        functions = {
            "fastretina.ops.refine": ours,
            "cv2.findTransformECC blur 5": lambda: ecc(5),
            "cv2.findTransformECC blur 15": lambda: ecc(15),
        }
        times = measure(functions, repeat)
        best = times["fastretina.ops.refine"]["min"]
        rows += [
            {
                "start off, px": distance(start, TRUTH),
                "who": name,
                "end off, px": distance(found[name], TRUTH),
                "min ms": t["min"],
                "median ms": t["median"],
                "ratio": t["min"] / best,
            }
            for name, t in times.items()
        ]
    times = measure(
        {
            "fastretina.ops.ridges": lambda: ops.ridges(fixed_plane, mask),
            "fastretina.ops.ridge_correlation": lambda: ops.ridge_correlation(fixed, moving, TRUTH),
        },
        repeat,
    )
    none = float("nan")
    rows += [
        {
            "start off, px": none,
            "who": n,
            "end off, px": none,
            "min ms": t["min"],
            "median ms": t["median"],
            "ratio": none,
        }
        for n, t in times.items()
    ]
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json")
    parser.add_argument("--repeat", type=int, default=15)
    args = parser.parse_args()
    rows = cases(args.repeat)
    print(table(rows))
    if args.json:
        with open(args.json, "w") as file:
            json.dump(rows, file, indent=1)


if __name__ == "__main__":
    main()
