"""Training data of a matcher: many views of each image, described once by a frozen front end.

Any two views of one image are a pair whose points are known: each point keeps its place in the source image. Their
description costs far more than a step of a matcher, so all views are made first and kept in a file beside the run.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastretina.errors import InvalidInput
from fastretina.methods.keypoints import Describes
from fastretina.training import cache as cached
from fastretina.training import simulate
from fastretina.training.sample import Sample
from fastretina.training.warp import View, random_view, sample_view

SHOWN = (0.7, 1.1)  # of the image's shorter side, by a view
TURN_DEG = 25.0
SHIFT = 0.13
MILD = 0.6  # share of the views that another exposure of the same device could show; the others are restyled
FLATTEST = 0.72  # height to width


class DescribedView(NamedTuple):
    """What a front end finds in one view."""

    sample: int  # number of its image
    size: tuple[int, int]  # (width, height)
    scale: float  # view px to a px of the image
    xy: NDArray[np.float32]  # (K, 2) px of the view, best first
    source: NDArray[np.float32]  # (K, 2) the same places, px of the image
    rows: NDArray[np.float16]  # (K, D)
    score: NDArray[np.float32]  # (K,)


@dataclass(frozen=True)
class ViewOptions:
    """``views`` of each image, whose longer side is within ``side_px``."""

    views: int = 24
    side_px: tuple[int, int] = (480, 640)
    seed: int = 0


def whole_view(rng: np.random.Generator, sample: Sample, side: int) -> View:
    """Geometry of a view of most of an image, turned and shifted; ``side`` px wide, as high or flatter."""
    extent = np.array(sample.mask.shape[::-1], np.float64)
    shown = extent.min() * np.exp(rng.uniform(*np.log(SHOWN)))
    centre = (extent - 1) / 2 + rng.uniform(-SHIFT, SHIFT, 2) * extent
    return random_view(rng, side, centre, side / shown, rng.uniform(-TURN_DEG, TURN_DEG), False)


def picture(rng: np.random.Generator, sample: Sample, view: View) -> NDArray[np.uint8]:
    """What a device shows there: one of the sample's planes, restyled, black outside its field of view."""
    plane, mask, vessels = sample_view(sample, view, int(rng.integers(len(sample.planes))))
    plane = simulate.retouch(rng, plane) if rng.random() < MILD else simulate.restyle(rng, plane, vessels)
    height = round(len(plane) * (rng.uniform(FLATTEST, 1) if rng.random() < 0.5 else 1))
    return np.rint(255 * plane * mask)[:height].astype(np.uint8)


def describe_view(sample: Sample, number: int, which: int, describe: Describes, options: ViewOptions) -> DescribedView:
    """View ``which`` of image ``number``; it depends on these and the options only."""
    rng = np.random.default_rng([options.seed, number, which])
    side = int(rng.integers(options.side_px[0], options.side_px[1] + 1))
    view = whole_view(rng, sample, side)
    shown = picture(rng, sample, view)
    found = describe(shown, False)
    scale = float(1 / np.sqrt(abs(np.linalg.det(view.matrix[:, :2]))))
    source = view.to_source(found.xy.astype(np.float64)).astype(np.float32)
    return DescribedView(
        number, (shown.shape[1], shown.shape[0]), scale, found.xy, source, found.rows.astype(np.float16), found.score
    )


def described(
    samples: list[Sample], describe: Describes, cache: Path, options: ViewOptions, progress: bool = False
) -> list[DescribedView]:
    """All views, of a cache file where it holds these. Raises InvalidInput where no image is given."""
    if not samples:
        raise InvalidInput("samples: no image to show")
    facts = repr((options, describe.weights_hash, describe.choices, [(s.name, s.px_per_deg) for s in samples]))
    key = hashlib.sha256(facts.encode()).hexdigest()[:16]
    kept = cached.read(cache, key)
    if kept is not None:
        return _views(kept)
    views = list(_made(samples, describe, options, progress))
    cached.write(cache, key, _arrays(views))
    return views


def _made(samples: list[Sample], describe: Describes, options: ViewOptions, progress: bool) -> Iterator[DescribedView]:
    from tqdm import tqdm

    for number, sample in enumerate(tqdm(samples, "views", disable=not progress, mininterval=5)):
        for which in range(options.views):
            yield describe_view(sample, number, which, describe, options)


ARRAYS = ("xy", "source", "rows", "score")


def _arrays(views: list[DescribedView]) -> dict[str, Any]:
    heads = np.array([(v.sample, *v.size, v.scale, len(v.xy)) for v in views], np.float64)
    return {name: np.concatenate([getattr(view, name) for view in views]) for name in ARRAYS} | {"heads": heads}


def _views(arrays: dict[str, Any]) -> list[DescribedView]:
    heads = arrays["heads"]
    ends = np.cumsum(heads[:, 4]).astype(int)
    parts = {name: np.split(array, ends[:-1]) for name, array in arrays.items() if name in ARRAYS}
    return [
        DescribedView(int(head[0]), (int(head[1]), int(head[2])), float(head[3]), *(parts[n][i] for n in ARRAYS))
        for i, head in enumerate(heads)
    ]
