"""Synthetic eyes as training samples: one eye in several modalities and the same geometry, with exact labels.

A sample depends on its number only. Three of four show a field of 30 to 55 degrees, one of four the few degrees of
OCT and OCT angiography, magnified as those devices do it. Keypoints follow ``labels.py``: bifurcations, crossings and
sharp bends, as far from each other as there; what belongs to thin vessels is doubtful.
"""

from __future__ import annotations

import math
import multiprocessing
import os
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace

import cv2
import numpy as np

from fastretina.synth.cameras import CAMERAS, aperture, green, photograph
from fastretina.synth.eye import Eye
from fastretina.synth.landmarks import landmarks
from fastretina.synth.tree import DEG_PER_UNIT, VesselTree
from fastretina.training import labels
from fastretina.training.sample import REFERENCE_PX_PER_DEG, Sample

GROUP = "synthetic"
FIRST_EYE = 1_000_000  # eyes of tests and demos have small numbers: never trained on
WIDE_PX = 880
WIDE = ("CF", "RF", "FA", "FA", "IR", "FAF", "ICGA", "OCTA")
SMALL = ("OCTA", "OCTA", "OCT", "CF", "IR", "FA", "FAF", "RF")
PLANES = 6
PLANE_CAMERAS = CAMERAS | {"CF": replace(CAMERAS["CF"], paint=green)}
LABEL_WIDTH_PX, DOUBTFUL_WIDTH_PX = 1.0, 0.6
"""Widths, at the resolution where labels are made, from which the junctions of a vessel count or are doubtful."""
SMALL_FIELD_WIDTHS = 1.15  # times those, where capillaries are a mesh that no label can follow
ERODE_PX = 3


def prepare_synthetic(number: int) -> Sample:
    """Grow eye ``number``, photograph it in ``PLANES`` modalities, and write down where its keypoints are."""
    cv2.setNumThreads(1)
    rng = np.random.default_rng([number, 2])
    eye = Eye(FIRST_EYE + number)
    small = rng.random() < 0.25
    if small:
        field, px_per_deg = rng.uniform(11, 20), rng.uniform(25, 30)
        side = round(field * px_per_deg)
        modalities = [*SMALL[:3], *rng.choice(SMALL[3:], PLANES - 3, replace=False)]
    else:
        field, side = rng.uniform(30, 55), WIDE_PX
        px_per_deg = side / field
        modalities = ["CF", "FA", "IR", *rng.choice(WIDE, PLANES - 3, replace=False)]
    side_of_disc = 1.0 if eye.tree.right_eye else -1.0
    centre = rng.normal(0, 0.12, 2)
    if not small:
        centre[0] += side_of_disc * rng.uniform(0, 0.6)
    unit = px_per_deg * DEG_PER_UNIT  # px
    axis = (np.arange(side) - (side - 1) / 2) / unit
    layers = eye.look(np.stack(np.meshgrid(axis + centre[0], axis + centre[1]), -1))
    inside = aperture(side, side, CAMERAS["FA" if not small else "OCTA"], rng)
    planes = []
    for name in modalities:
        plane = photograph(PLANE_CAMERAS[name], layers, eye.pigment, 1 / px_per_deg, 1.0, rng)
        planes.append(np.round(255 * np.clip(plane, 0, 1) * inside).astype(np.uint8))
    vessels = np.maximum(np.maximum(layers["artery"], layers["vein"]), 0.6 * layers["capillary"] if small else 0)
    mask = cv2.erode(
        (inside > 0.5).astype(np.uint8),
        np.ones((2 * ERODE_PX + 1,) * 2, np.uint8),
        borderType=cv2.BORDER_CONSTANT,
        borderValue=1,
    )
    reference = px_per_deg if small else REFERENCE_PX_PER_DEG
    points, ignored = _keypoints(eye.tree, reference, SMALL_FIELD_WIDTHS if small else 1.0)
    points, ignored = (((at - centre) * unit + (side - 1) / 2).astype(np.float32) for at in (points, ignored))
    points = labels.thin_points(_seen(points, mask, 2), labels.THIN_PX * px_per_deg / reference)
    return Sample(
        name=f"{GROUP}/{number:05d}",
        weight=1.0,
        px_per_deg=px_per_deg,
        planes=np.stack(planes),
        mask=mask,
        vessels=np.round(255 * np.clip(vessels, 0, 1)).astype(np.uint8),
        points=points,
        ignored=_seen(ignored, mask, 0),
        bright=False,
    )


def _keypoints(tree: VesselTree, px_per_deg: float, wider: float) -> tuple[np.ndarray, np.ndarray]:
    """(certain (K, 2), doubtful (L, 2)) in eye units, for labels made at a resolution."""
    px = 1 / (px_per_deg * DEG_PER_UNIT)
    arm = labels.BEND_ARM_PX * px
    at, widths = landmarks(tree, wider * DOUBTFUL_WIDTH_PX * px, arm, labels.BEND_DEG)
    certain = widths >= wider * LABEL_WIDTH_PX * px
    ends = np.array([b.points[-1] for b in tree.branches if b.widths[-1] >= wider * DOUBTFUL_WIDTH_PX * px]).reshape(
        -1, 2
    )
    return at[certain], np.concatenate([at[~certain], ends])


def _seen(points: np.ndarray, mask: np.ndarray, margin_px: int) -> np.ndarray:
    """Points that lie inside the field of view."""
    height, width = mask.shape
    x, y = np.round(points.T).astype(int)
    inside = (x >= margin_px) & (y >= margin_px) & (x < width - margin_px) & (y < height - margin_px)
    inside[inside] = mask[y[inside], x[inside]] > 0
    return points[inside]


def prepare_all(numbers: Iterable[int], processes: int | None = None) -> list[Sample]:
    """The samples of many eyes, made in parallel processes."""
    order = list(numbers)
    processes = min(processes or os.cpu_count() or 1, max(1, len(order)))
    if processes == 1:
        return [prepare_synthetic(n) for n in order]
    # Not forked: OpenCV's threads do not survive a fork, and their locks would.
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
        return list(pool.map(prepare_synthetic, order, chunksize=max(1, min(4, math.ceil(len(order) / processes)))))
