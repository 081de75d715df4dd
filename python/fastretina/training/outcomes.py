"""Outcomes of registrations whose truth is known, to fit and to judge the confidence.

usage: python -m fastretina.training.outcomes --data DIR --out ROWS.json [--pairs N] [--crossings N] [--deformed N]

Right pairs are two views of one image, moved and re-styled independently (``warp``, ``simulate``); wrong pairs are
such views of two different eyes, and whole images of different eyes as they are (``evaluation/crossings.py``). Views
hardly bend; pairs of synthetic eyes that do (``evaluation/synthetic.py``) are right ones, too. Images fall into two
halves by the hash of their names (``--half``), the eyes of ``--deformed`` differ by the seed; fit on one, judge on
the other:

    python -m fastretina.evaluation.calibration FIT.json --judge JUDGE.json
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastretina.errors import InvalidInput
from fastretina.evaluation import crossings, synthetic
from fastretina.evaluation.metrics import point_errors
from fastretina.io import read_image
from fastretina.io.output import write_bytes
from fastretina.registrar import Registrar
from fastretina.synth.geometry import GEOMETRIES
from fastretina.training import data
from fastretina.training.sample import Sample
from fastretina.training.sets import eye
from fastretina.training.simulate import restyle, shade, tone
from fastretina.training.warp import View, sample_view
from fastretina.types import Registration

SIDE_PX = 512
ASPECT = 0.005  # log deviation: two cameras of one eye hardly differ in it
BEND_PX = 1.2  # deviation of each quadratic term, as displacement at the edge of the frame
FRAME_PX = 640  # errors are in pixels of a frame of this size
SUCCESS_PX = 5.0
SYNTHETIC_SHARE = 0.25

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


def outcomes(registrar: Registrar, samples: Sequence[Sample], pairs: int, seed: int) -> Iterator[dict[str, Any]]:
    """``pairs`` right and as many wrong registrations: the numbers of ``quality``, ``error_px`` and ``success``."""
    if len({eye(s.name) for s in samples}) < 2:
        raise InvalidInput("data: got no two images that are known to be of different eyes; wrong pairs need them")
    weights = np.array([s.weight for s in samples])
    for index in range(2 * pairs):
        rng = np.random.default_rng([seed, index])
        wrong = index % 2 == 1
        first = samples[int(rng.choice(len(samples), p=weights / weights.sum()))]
        second = first
        while wrong and eye(second.name) == eye(first.name):
            second = samples[int(rng.choice(len(samples), p=weights / weights.sum()))]
        fixed, moving = random_geometry(rng, first)
        if wrong:
            moving = random_geometry(rng, second)[1] if rng.random() < 0.5 else random_geometry(rng, second)[0]
        (image_f, seen_f), (image_m, seen_m) = photograph(rng, first, fixed), photograph(rng, second, moving)
        result = registrar.register(image_f, image_m)
        error = float("inf") if wrong else error_px(result.transform, fixed, moving, (seen_f, seen_m))
        if not np.isnan(error):  # else nothing in common: no truth
            yield outcome(result, (first.name, second.name), wrong, error)


def crossed(registrar: Registrar, images: list[crossings.Single], count: int, seed: int) -> Iterator[dict[str, Any]]:
    """``count`` wrong registrations of whole images, half of them of one modality and side."""
    for _, a, b in crossings.crossings(images, count, seed):
        yield outcome(registrar.register(read_image(a.path), read_image(b.path)), (a.name, b.name), True, float("inf"))


def deformed(registrar: Registrar, count: int, seed: int) -> Iterator[dict[str, Any]]:
    """``count`` right registrations of synthetic eyes under each geometry."""
    for case in synthetic.suite_cases([synthetic.Suite(kind, kind) for kind in GEOMETRIES], count, seed):
        result = registrar.register(case.fixed, case.moving)
        assert case.target is not None
        errors = point_errors(result.transform, case.target.moving, case.target.fixed)
        yield outcome(result, (case.id, case.id), False, float(errors.mean()) * FRAME_PX / max(case.fixed.shape[:2]))


def outcome(result: Registration, names: tuple[str, str], wrong: bool, error: float) -> dict[str, Any]:
    """One row."""
    return {
        **{k: float(v) for k, v in result.quality.items()},
        "fixed": names[0],
        "moving": names[1],
        "wrong": wrong,
        "status": result.status,
        "confidence": result.confidence,
        "rung": int(result.choices["rung"]),
        "error_px": error if np.isfinite(error) else None,
        "success": bool(error < SUCCESS_PX),
    }


def half_of(name: str) -> str:
    """The half that an image belongs to, "fit" or "judge": by the first byte of the SHA-256 of ``<set>/<stem>``."""
    return ("fit", "judge")[hashlib.sha256(name.encode()).digest()[0] % 2]


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--pairs", type=int, default=500, help="right pairs, and as many wrong ones")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--held-out", action="store_true", help="only images that the research sets hold out")
    parser.add_argument("--crossings", type=int, default=0, help="wrong pairs of whole images of --data")
    parser.add_argument(
        "--deformed", type=int, default=0, help="right pairs of synthetic eyes of --seed, of each geometry"
    )
    parser.add_argument("--half", choices=("fit", "judge"), help="only images of this half (default: all)")
    parser.add_argument("--cache", type=Path, help="prepared images of a training run (cache.npz)")
    parser.add_argument("--sets", default="research", help="the images: research or clean")
    parser.add_argument("--synthetic", type=int, default=0, help="synthetic eyes to add: a quarter of the pairs")
    parser.add_argument("--weights", default="default")
    args = parser.parse_args()
    train, held_out = data.load(args.data, args.cache, args.sets, args.synthetic, SYNTHETIC_SHARE)
    samples = [s for s in (held_out if args.held_out else train) if args.half in (None, half_of(s.name))]
    registrar = Registrar(threads=1, weights=args.weights)
    found = outcomes(registrar, samples, args.pairs, args.seed)
    if args.crossings:
        whole = [s for s in crossings.singles(args.data) if args.half in (None, half_of(s.name))]
        found = chain(found, crossed(registrar, whole, args.crossings, args.seed))
    if args.deformed:
        found = chain(found, deformed(registrar, args.deformed, args.seed))
    rows = []
    for row in found:
        rows.append(row)
        if len(rows) % 50 == 0:
            print(f"{len(rows)}: {sum(r['success'] for r in rows)} right", flush=True)
    write_bytes(args.out, json.dumps(rows, indent=0).encode())


if __name__ == "__main__":
    main()
