"""The whole registration in PyTorch, in the order of the rooms. The twin of csrc/pipeline.cpp, which says why.

Used where the compiled core is missing or not wanted. The same decisions as the core's; numbers differ by what the
rooms' modules state, and by thread count in the last bits of sums.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastretina.config import MIN_SIDE_PX, Config
from fastretina.engines import Engine
from fastretina.torch_path import image_features
from fastretina.torch_path.estimate import Estimate, estimate
from fastretina.torch_path.image_features import ROOMS, STRIDE, Features, Pose, Timings, stopwatch
from fastretina.torch_path.match import match, match_guided
from fastretina.torch_path.options import options_of
from fastretina.torch_path.quality import quality
from fastretina.torch_path.refine import Refinement, apply, refine, ridge_correlation
from fastretina.torch_path.refine_field import refine_field
from fastretina.torch_path.upgrade import upgrade
from fastretina.transform import SINGLE_KINDS as KINDS
from fastretina.transform import Transform

FIELDS = (1.0, 1 / 1.7, 1 / 2.9)  # fields of view differ by up to x3
NOTHING: dict[str, Any] = {
    "inliers": 0, "inlier_rms_px": 0.0, "coverage": 0.0, "ridge_correlation": 0.0, "overlap_px": 0,
}  # fmt: skip
REPORTED = (
    "ridge_correlation", "matches", "inliers", "inlier_rms_px", "coverage", "overlap", "scale", "rotation_deg",
    "anisotropy", "pole", "fold", "keypoints_fixed", "keypoints_moving", "contrast_fixed", "contrast_moving",
)  # fmt: skip


CHOOSING = ("auto", "dense")  # those for which the model is chosen


class Rung(NamedTuple):
    """How one attempt shows the two images."""

    fixed: Pose
    moving: Pose


def ladder() -> list[Rung]:
    """Attempts, cheap and likely ones first."""
    rungs = []
    for mirrored in (False, True):
        for turns in range(4):
            rungs.append(Rung(Pose(), Pose(1.0, turns, mirrored)))
            if not mirrored and turns == 0:
                for scale in FIELDS[1:]:
                    rungs += [Rung(Pose(), Pose(scale)), Rung(Pose(scale), Pose())]
    return rungs


class Pairs(NamedTuple):
    """Matched points in network px, best first."""

    fixed: Tensor
    moving: Tensor
    score: Tensor


class Payload:
    """One prepared image: its features as it is, and, once a weak pair asked for them, in other poses."""

    def __init__(self, first: Features, timings_ms: Timings) -> None:
        self.poses = {first.pose: first}
        self.timings_ms = timings_ms  # of preparing it

    @property
    def first(self) -> Features:
        return self.poses[Pose()]

    @property
    def keypoints(self) -> NDArray[np.float32]:
        """(K, 2) in the caller's pixels, best first."""
        return _to_input(self.first, self.first.xy)

    @property
    def heatmap(self) -> NDArray[np.float32]:
        """The class-difference map where it shows the image, one value a stride-4 cell."""
        width, height = self.first.content
        return self.first.difference[: -(-height // STRIDE), : -(-width // STRIDE)].numpy().copy()

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of the image."""
        return self.first.input


class Pipeline:
    """The rooms in a row, behind one call, for one thread at a time. ``threads``: what torch may use meanwhile."""

    def __init__(self, engine: Engine, config: Config, threads: int) -> None:
        self.engine, self.threads = engine, threads
        self.options = options_of(config)
        self.options.features.image.multiple = engine.multiple
        # What is not asked for is not tried; automatic: key points decide up to the homography, vessels beyond it.
        choice, highest = self.options.model.choice, self.options.upgrade.max_kind
        chooses = choice in CHOOSING
        self.options.upgrade.max_kind = min(highest, "homography", key=KINDS.index) if chooses else choice
        self.rungs = ladder()
        self._timings: Timings = {}

    def prepare(self, image: NDArray[Any]) -> Payload:
        """(H, W) or (H, W, 3) RGB; uint8, uint16 or float32 in [0, 1]. InvalidInput calls it "image"."""
        with _torch_threads(self.threads):
            checked = image_features.checked_image(image)
            timings = dict.fromkeys(ROOMS, 0.0)
            first = image_features.from_image(checked, self.engine, self.options.features, timings)
            return Payload(first, timings)

    def register(self, fixed: Payload, moving: Payload) -> dict[str, Any]:
        """What the compiled pipeline returns, by the same names."""
        self._timings = dict.fromkeys(ROOMS, 0.0)
        with _torch_threads(self.threads):
            return self._climb(fixed, moving) | {"timings_ms": self._timings}

    def _climb(self, fixed: Payload, moving: Payload) -> dict[str, Any]:
        """Attempts in order until one is strong; the best one is the answer."""
        best: dict[str, Any] = {}
        attempts = 0
        for rung in self.rungs:
            if attempts == self.options.ladder.max_rungs:
                break
            if not (self._shows_enough(fixed, rung.fixed) and self._shows_enough(moving, rung.moving)):
                continue
            found = self._attempt(self._in_pose(fixed, rung.fixed), self._in_pose(moving, rung.moving))
            found["rung"] = attempts
            attempts += 1
            if not best or found["confidence"] > best["confidence"]:
                best = found
            if best["confidence"] >= self.options.ladder.strong_confidence or best["status"] == "no_content":
                break
        self._deform(fixed, moving, best)
        return best | {"attempts": attempts}

    def _deform(self, fixed: Payload, moving: Payload, best: dict[str, Any]) -> None:
        """Once, on the answer: a smooth local field, where the vessels clearly ask for one. The confidence stays."""
        aligned, judge = best.pop("aligned"), best.pop("judge")
        asked = self.options.model.choice == "dense"
        wanted = asked or (self.options.model.choice == "auto" and best["status"] == "ok")
        best["field"] = None
        if aligned is None or best["transform"] is None or not wanted:
            return
        with stopwatch(self._timings, "refine"):
            pair = fixed.poses[Pose(*best["fixed_pose"])], moving.poses[Pose(*best["moving_pose"])]
            (scale, turn, x), (other, _, y) = pair[0].network_of_input.params[:2]
            if turn != 0 or other != 0:
                return  # a turned grid is no grid
            least = 0.0 if asked else self.options.model.field_gain_nats
            options = replace(self.options.field, min_gain_nats=max(self.options.field.min_gain_nats, least))
            found = refine_field(pair[0].ridges, pair[1].ridges, aligned[0], aligned[1], options)
            if found.control is None:
                return
            control = found.control.numpy()
            verdict = judge(Transform("dense", control, found.rectangle))
            if verdict["status"] != best["status"]:
                return
            best["quality"] |= {name: verdict[name] for name in verdict if name in REPORTED}
            rectangle = (np.array(found.rectangle) - [x, y, x, y]) / scale
            best["field"] = control / scale, tuple(rectangle.tolist())

    def _shows_enough(self, image: Payload, pose: Pose) -> bool:
        """Would the image room take an image this small?"""
        smallest = min(image_features.posed_working_size(pose, self.options.features), *image.first.content)
        return pose == Pose() or smallest >= MIN_SIDE_PX

    def _in_pose(self, image: Payload, pose: Pose) -> Features:
        if pose not in image.poses:
            features = image_features.in_pose(image.first, pose, self.engine, self.options.features, self._timings)
            image.poses[pose] = features
        return image.poses[pose]

    def _attempt(self, fixed: Features, moving: Features) -> dict[str, Any]:
        """One rung: match -> estimate -> refine -> quality."""
        with stopwatch(self._timings, "match"):
            pairs = _paired(fixed, moving, match(fixed.rows, moving.rows, **vars(self.options.match)))
        with stopwatch(self._timings, "estimate"):
            fit, pairs = self._fit(fixed, moving, pairs)
        measured, aligned = dict(NOTHING), None
        if fit.kind is not None:
            with stopwatch(self._timings, "refine"):
                aligned = self._align(fixed, moving, fit.kind, fit.params)
                correlation, overlap_px = ridge_correlation(fixed.ridges, moving.ridges, *aligned)
            measured = {
                "inliers": int(fit.inlier.sum()), "inlier_rms_px": fit.rms_px, "coverage": fit.coverage,
                "ridge_correlation": correlation, "overlap_px": overlap_px,
            }  # fmt: skip
        measured |= {
            "contrast_fixed": fixed.contrast, "contrast_moving": moving.contrast, "matches": len(pairs.score),
            "keypoints_fixed": len(fixed.xy), "keypoints_moving": len(moving.xy),
        }  # fmt: skip
        with stopwatch(self._timings, "quality"):
            raw = None if aligned is None else (aligned[0], aligned[1].tolist())

            def judge(field: Transform | None = None) -> dict[str, Any]:
                options = self.options.quality
                return quality(raw, fixed.content, moving.content, **measured, field=field, options=options)

            verdict = judge()
        numbers = measured | verdict
        return {
            "status": verdict["status"],
            "confidence": verdict["confidence"],
            "aligned": aligned,
            "judge": judge,
            "transform": None if aligned is None else _to_input_transform(*aligned, fixed, moving),
            "fixed_pose": tuple(fixed.pose),
            "moving_pose": tuple(moving.pose),
            "fixed_xy": _to_input(fixed, pairs.fixed),
            "moving_xy": _to_input(moving, pairs.moving),
            "score": pairs.score.numpy(),
            "inlier": fit.inlier.numpy().astype(np.uint8),
            "quality": {name: numbers[name] for name in REPORTED},
        }

    def _fit(self, fixed: Features, moving: Features, pairs: Pairs) -> tuple[Estimate, Pairs]:
        """Similarity first; then matches again under its guidance; then a higher model if it explains clearly more."""
        first = estimate(pairs.fixed, pairs.moving, **vars(self.options.estimate))
        if first.kind is None:
            return first, pairs
        kind = first.kind
        guided = match_guided(
            fixed.rows,
            moving.rows,
            fixed.xy,
            moving.xy,
            lambda points: apply(kind, first.params, points),
            **vars(self.options.guided),
        )
        pairs = _paired(fixed, moving, guided)
        upgraded = upgrade(
            pairs.fixed, pairs.moving, kind, first.params, fixed.content, moving.content, **vars(self.options.upgrade)
        )
        return upgraded, pairs

    def _align(self, fixed: Features, moving: Features, kind: str, params: Tensor) -> tuple[str, Tensor]:
        """On the vessels: as a homography, and as a quadratic where that explains clearly more of what it leaves."""

        def refined(start_kind: str, start: Tensor, target: str) -> Refinement:
            return refine(fixed.ridges, moving.ridges, start_kind, start, kind=target, options=self.options.refine)

        choice = self.options.model.choice
        first = refined(kind, params, "homography" if choice in CHOOSING else choice)
        if choice not in CHOOSING:
            return first.kind, first.params
        bent = refined(first.kind, first.params, "quadratic")
        model = self.options.model
        large = bent.shift_px >= model.large_bend_px
        needed = model.large_bend_gain_nats if large else model.quadratic_gain_nats
        return (bent.kind, bent.params) if bent.gain_nats >= needed else (first.kind, first.params)


@contextmanager
def _torch_threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _paired(fixed: Features, moving: Features, matches: tuple[Tensor, Tensor, Tensor]) -> Pairs:
    fixed_at, moving_at, score = matches
    return Pairs(fixed.xy[fixed_at], moving.xy[moving_at], score)


def _to_input(features: Features, xy: Tensor) -> NDArray[np.float32]:
    """Network px -> the caller's px."""
    return features.network_of_input.inverse(xy.double().numpy()).astype(np.float32)


def _to_input_transform(
    kind: str, params: Tensor, fixed: Features, moving: Features
) -> tuple[int, NDArray[np.float64]] | None:
    """Network px on both sides -> the callers' px on both sides, in the layout of csrc/core/types.h."""
    p = params.numpy()
    network = Transform(kind, p.reshape(2, 6) if kind == "quadratic" else p[:9].reshape(3, 3))
    both = fixed.network_of_input.inverse @ network @ moving.network_of_input
    out = np.zeros(12)
    out[: both.params.size] = both.params.ravel()
    return KINDS.index(both.kind), out
