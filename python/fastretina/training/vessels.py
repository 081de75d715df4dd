"""Vessel labels of the image sets as training samples, and crops of them in random geometry and appearance.

Labels differ in style: DRIVE and HRF draw the finest vessels, OCTA-500 (large vessels) and LES-AV do not, and
``octa_synth`` draws the capillaries, of which only what is as wide as the others' vessels is kept here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from fastretina.errors import InvalidInput
from fastretina.training import simulate
from fastretina.training.data import HELD_OUT_EVERY
from fastretina.training.pairs import SMALL_FIELD_PX, random_scale
from fastretina.training.sample import Sample, draws
from fastretina.training.sets import SETS, SYNTHETIC, ImageSet, image_files
from fastretina.training.warp import View, random_centre, random_view, sample_view

OWN_TEST_SETS = {
    "drive": {f"{n:02d}" for n in range(1, 21)},  # as published: 21 to 40 are for training
    "octa500_3m": {str(n) for n in range(10451, 10501)},
}
"""Images that the sets' authors keep for testing: held out, beside every tenth of each set."""
CROP_PX = 224
NATIVE = 0.5  # share of the crops at about the resolution of their set
RESTYLED = 0.45  # share of the crops in another modality's style; the rest are other exposures
CAPILLARY_PX = 7  # of octa_synth's labels (608 px for 3 mm): what is narrower is no vessel of the others' labels
CAPILLARY_INK = 165  # the vessel maps of synthetic eyes of a small field show capillaries with up to 153


def labelled(samples: list[Sample], folder: Path) -> list[Sample]:
    """The samples that have a vessel label, with it (uint8, 0 or 255) as their ``vessels``.

    ``folder``: the data folder they were prepared from. Raises InvalidInput if there is none.
    """
    kinds = {kind.name: kind for kind in SETS}
    found: list[Sample] = []
    for sample in samples:
        group, stem = sample.name.split("/", 1)
        kind = kinds.get(group)
        if group == SYNTHETIC:
            least = CAPILLARY_INK if min(sample.mask.shape) < SMALL_FIELD_PX else 0
            found.append(replace(sample, vessels=np.where(sample.vessels > least, sample.vessels, 0).astype(np.uint8)))
        elif kind is not None and kind.vessels and (path := folder / kind.vessels / f"{stem}.png").is_file():
            found.append(replace(sample, vessels=_resized(read_label(path), sample.mask.shape)))
    if not found:
        raise InvalidInput(f"data: no image of {folder} has a vessel label, and synthetic is 0")
    return found


def read_label(path: Path) -> np.ndarray:
    """A vessel label, uint8 (H, W), 0 or 255; of ``octa_synth`` without capillaries."""
    label = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    if label is None:
        raise InvalidInput(f"{path}: not a readable image")
    label = np.where(label > 0, 255, 0).astype(np.uint8)
    if path.parent.name != "vessels_608":
        return label
    brush = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (CAPILLARY_PX, CAPILLARY_PX))
    wide = cv2.morphologyEx(label, cv2.MORPH_OPEN, brush)
    # An opening leaves crumbs where capillaries cross.
    _, part, stats, _ = cv2.connectedComponentsWithStats(wide, connectivity=8)
    long = stats[:, cv2.CC_STAT_WIDTH] + stats[:, cv2.CC_STAT_HEIGHT] > 10 * CAPILLARY_PX
    long[0] = False
    return np.where(long[part], 255, 0).astype(np.uint8)


def _resized(label: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The share of each pixel that is vessel, 0 to 255."""
    if label.shape == shape:
        return label
    return cv2.resize(label, shape[::-1], interpolation=cv2.INTER_AREA)


def held_out(folder: Path) -> Iterator[tuple[ImageSet, Path]]:
    """The images of a data folder that no training sees: every tenth of a set (``data.load``) and its own test set."""
    count: dict[str, int] = {}
    for kind, path in image_files(folder):
        count[kind.name] = count.get(kind.name, 0) + 1
        if count[kind.name] % HELD_OUT_EVERY == 0 or path.stem in OWN_TEST_SETS.get(kind.name, ()):
            yield kind, path


def for_training(samples: list[Sample]) -> list[Sample]:
    """Without the images that ``OWN_TEST_SETS`` holds out."""
    return [s for s in samples if s.name.split("/")[1] not in OWN_TEST_SETS.get(s.name.split("/")[0], ())]


def _view(rng: np.random.Generator, sample: Sample) -> View:
    """Place, turn and resolution of a crop: about the set's own, or any of those that registration sees."""
    scale = float(np.exp(rng.uniform(-0.15, 0.15))) if rng.random() < NATIVE else random_scale(rng, sample)
    turn = float(rng.choice([0, 90, 180, 270]) + (rng.uniform(-45, 45) if rng.random() < 0.5 else rng.normal(0, 3)))
    centre = random_centre(rng, sample.mask, CROP_PX, scale)
    return random_view(rng, CROP_PX, centre, scale, turn, bool(rng.random() < 0.5))


def make_crop(rng: np.random.Generator, sample: Sample) -> np.ndarray:
    """Plane, mask and vessels ``(3, S, S)`` float32 in [0, 1]; either polarity."""
    view = _view(rng, sample)
    plane, mask, vessels = sample_view(sample, view, int(rng.integers(len(sample.planes))))
    if rng.random() < RESTYLED:
        plane = simulate.restyle(rng, plane, vessels)
    else:
        plane = simulate.retouch(rng, plane)
        if rng.random() < 0.5:
            plane = 1.0 - plane
    return np.stack([plane, mask, vessels]).astype(np.float32)


def crops(samples: list[Sample], count: int, seed: int, start: int) -> Iterator[Tensor]:
    """Batches ``(count, 3, S, S)`` from number ``start`` on; batch ``i`` depends on ``(seed, i)`` only."""
    for rng, chosen in draws(samples, count, seed, start):
        yield torch.from_numpy(np.stack([make_crop(rng, sample) for sample in chosen]))
