"""Outcomes of registrations whose truth is known, to fit and to judge the confidence.

usage: python -m fastretina.training.outcomes --data DIR --out ROWS.json [--pairs 500] [--seed 0] [--held-out]

Right pairs are two views of one real image, moved and re-styled independently (``warp``, ``simulate``); wrong pairs are
such views of two different eyes. Fit on the training images, judge on the held-out ones:

    python -m fastretina.evaluation.calibration ROWS.json
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastretina.io.output import write_bytes
from fastretina.registrar import Registrar
from fastretina.training import data
from fastretina.training.sample import Sample
from fastretina.training.simulate import restyle, shade, tone
from fastretina.training.warp import View, sample_view

SIDE_PX = 512
ASPECT = 0.005  # log deviation: two cameras of one eye hardly differ in it
BEND_PX = 1.2  # deviation of each quadratic term, as displacement at the edge of the frame
FRAME_PX = 640  # errors are in pixels of a frame of this size
SUCCESS_PX = 5.0
SAME_EYE_UNKNOWN = ("ffa_huapu4",)  # sets whose patients are unknown: never crossed with themselves

Rng = np.random.Generator


def whole_view(rng: Rng, sample: Sample, zoom: float, turn_deg: float, mirrored: bool, shift: float) -> View:
    """A view of ``SIDE_PX`` pixels: at ``zoom`` 1 the longer side of the image just fits. Bent by what optics bend."""
    height, width = sample.mask.shape
    centre = np.array([width / 2, height / 2]) + rng.uniform(-shift, shift, 2) * min(width, height) / 2
    c, s = np.cos(np.radians(turn_deg)), np.sin(np.radians(turn_deg))
    aspect = float(np.exp(rng.normal(0, ASPECT)))
    linear = np.array([[c, -s], [s, c]]) @ np.diag([aspect, 1 / aspect]) * max(width, height) / (zoom * SIDE_PX)
    if mirrored:
        linear = np.diag([-1.0, 1.0]) @ linear
    middle = (SIDE_PX - 1) / 2
    unit = ((np.arange(SIDE_PX) - middle) / middle).astype(np.float32)
    u, v = np.meshgrid(unit, unit)
    terms = rng.normal(0, BEND_PX, (3, 2)).astype(np.float32)
    bend = (u * u)[..., None] * terms[0] + (u * v)[..., None] * terms[1] + (v * v)[..., None] * terms[2]
    return View(np.concatenate([linear, (centre - linear @ np.full(2, middle))[:, None]], 1), bend)


def photograph(rng: Rng, sample: Sample, view: View) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """The view as a device would give it, in half of the cases a good one: (image, field of view)."""
    shown = int(rng.integers(len(sample.planes))) if len(sample.planes) > 1 else 0
    plane, mask, vessels = sample_view(sample, view, shown)
    plane = restyle(rng, plane, vessels) if rng.random() < 0.5 else np.clip(shade(rng, tone(rng, plane)), 0, 1)
    return np.round(255 * plane * mask).astype(np.uint8), mask


def random_geometry(rng: Rng, sample: Sample) -> tuple[View, View]:
    """FIXED shows about the whole image; MOVING is turned, mirrored, zoomed or shifted, each in a part of the pairs."""
    turn = rng.uniform(-180, 180) if rng.random() < 0.3 else rng.normal(0, 8)
    zoom = float(np.exp(rng.uniform(-0.3, 1.0))) if rng.random() < 0.4 else float(np.exp(rng.normal(0, 0.08)))
    fixed = whole_view(rng, sample, float(np.exp(rng.normal(0.05, 0.08))), rng.normal(0, 5), False, 0.05)
    moving = whole_view(rng, sample, zoom, turn, bool(rng.random() < 0.15), 0.5 if zoom > 1.3 else 0.2)
    return fixed, moving


def error_px(transform: Any, fixed: View, moving: View, seen: tuple[NDArray[np.float32], NDArray[np.float32]]) -> float:
    """Mean error on a grid over what both views see, in px of a ``FRAME_PX`` frame; infinite without a transform."""
    if transform is None:
        return float("inf")
    step = SIDE_PX // 24
    ys, xs = np.mgrid[step // 2 : SIDE_PX : step, step // 2 : SIDE_PX : step]
    grid = np.stack([xs.ravel(), ys.ravel()], 1)
    target = fixed.to_view(moving.source_map()[grid[:, 1], grid[:, 0]].astype(np.float64))
    inside = (seen[1][grid[:, 1], grid[:, 0]] > 0) & ((target >= 0) & (target <= SIDE_PX - 1)).all(1)
    index = np.clip(np.round(target), 0, SIDE_PX - 1).astype(int)
    inside &= seen[0][index[:, 1], index[:, 0]] > 0
    if inside.sum() < 12:
        return float("nan")
    distance = np.linalg.norm(transform(grid[inside].astype(np.float64)) - target[inside], axis=1)
    return float(np.minimum(np.nan_to_num(distance, nan=1e5), 1e5).mean()) * FRAME_PX / SIDE_PX


def eye(sample: Sample) -> str:
    """Which eye an image shows, as far as names tell; one name for a whole set where nothing is known."""
    kind = sample.name.split("/")[0]
    return next((name for name in SAME_EYE_UNKNOWN if kind.startswith(name)), sample.name)


def outcomes(registrar: Registrar, samples: Sequence[Sample], pairs: int, seed: int) -> Iterator[dict[str, Any]]:
    """``pairs`` right and as many wrong registrations: the numbers of ``quality``, ``error_px`` and ``success``."""
    weights = np.array([s.weight for s in samples])
    for index in range(2 * pairs):
        rng = np.random.default_rng([seed, index])
        wrong = index % 2 == 1
        first = samples[int(rng.choice(len(samples), p=weights / weights.sum()))]
        second = first
        while wrong and eye(second) == eye(first):
            second = samples[int(rng.choice(len(samples), p=weights / weights.sum()))]
        fixed, moving = random_geometry(rng, first)
        if wrong:
            moving = random_geometry(rng, second)[1] if rng.random() < 0.5 else random_geometry(rng, second)[0]
        (image_f, seen_f), (image_m, seen_m) = photograph(rng, first, fixed), photograph(rng, second, moving)
        result = registrar.register(image_f, image_m)
        error = float("inf") if wrong else error_px(result.transform, fixed, moving, (seen_f, seen_m))
        if np.isnan(error):  # nothing in common: no truth
            continue
        yield {
            **{k: float(v) for k, v in result.quality.items()},
            "fixed": first.name,
            "moving": second.name,
            "wrong": wrong,
            "status": result.status,
            "confidence": result.confidence,
            "rung": int(result.choices["rung"]),
            "error_px": error if np.isfinite(error) else None,
            "success": bool(error < SUCCESS_PX),
        }


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--pairs", type=int, default=500, help="right pairs, and as many wrong ones")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--held-out", action="store_true", help="only images that training never saw")
    parser.add_argument("--cache", type=Path, help="prepared images of a training run (cache.npz)")
    parser.add_argument("--weights", default="default")
    args = parser.parse_args()
    train, held_out = data.load(args.data, args.cache)
    registrar = Registrar(threads=1, weights=args.weights)
    rows = []
    for row in outcomes(registrar, held_out if args.held_out else train, args.pairs, args.seed):
        rows.append(row)
        if len(rows) % 50 == 0:
            print(f"{len(rows)} of {2 * args.pairs}: {sum(r['success'] for r in rows)} right", flush=True)
    write_bytes(args.out, json.dumps(rows, indent=0).encode())


if __name__ == "__main__":
    main()
