"""The whole registration in PyTorch, in the order of the rooms. The twin of csrc/pipeline.cpp, which says why.

Used where the compiled core is missing or not wanted. The same decisions as the core's; numbers differ by what the
rooms' modules state, and by thread count in the last bits of sums.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from fastretina.config import MIN_SIDE_PX, Config
from fastretina.engines import Engine, Manifest
from fastretina.torch_path import image_features
from fastretina.torch_path.estimate import Estimate, estimate
from fastretina.torch_path.frames import magnification, shifted, to_input, to_input_transform, to_network
from fastretina.torch_path.image_features import (
    LARGEST_SIDE_PX,
    ROOMS,
    SOURCE_PER_WORKING_SIZE,
    STRIDE,
    Features,
    Pose,
    Source,
    Timings,
    stopwatch,
)
from fastretina.torch_path.match import match, match_guided
from fastretina.torch_path.options import options_of
from fastretina.torch_path.quality import quality
from fastretina.torch_path.refine import Refinement, apply, refine, ridge_correlation
from fastretina.torch_path.refine_field import refine_field
from fastretina.torch_path.threads import torch_threads
from fastretina.torch_path.upgrade import upgrade
from fastretina.transform import SINGLE_KINDS as KINDS
from fastretina.transform import Transform

HALF_FIELD, THIRD_FIELD = 1 / 1.7, 1 / 2.9  # fields of view differ by up to x3
FINER = 4 / 3
WORTHWHILE = 1.1
STARTS = 2  # of a rung: consensuses of its matches
SCALES_AN_OCTAVE = 4
MOST_ENLARGED = 3.0
POLISH_KEEPS = 0.95
POLISH_LEVEL, POLISH_EPSILON_PX = 2, 0.05
MOST_LEVEL = 1.5  # a square turned by 45 degrees needs 1.41
SIDELOBES = 6  # directions on each of two rings
SIDELOBE_RINGS_PX = (12.0, 24.0)
SIDELOBE_ROW_STEP = 8
LEAST_DEVIATION = 0.01  # of a correlation
NOTHING: dict[str, Any] = {
    "inliers": 0, "inlier_rms_px": 0.0, "coverage": 0.0, "inlier_similarity": 0.0, "ridge_correlation": 0.0,
    "peak_to_sidelobe": 0.0, "overlap_px": 0,
}  # fmt: skip
REPORTED = (
    "ridge_correlation", "peak_to_sidelobe", "matches", "inliers", "inlier_rms_px", "coverage", "inlier_similarity",
    "attempts", "overlap", "scale", "rotation_deg", "anisotropy", "pole", "fold", "keypoints_fixed", "keypoints_moving",
    "contrast_fixed", "contrast_moving",
)  # fmt: skip


CHOOSING = ("auto", "dense")  # those for which the model is chosen


Shown = tuple[Pose, Pose]  # how FIXED and MOVING are


class Rung(NamedTuple):
    """How one attempt shows the two images."""

    fixed: Pose
    moving: Pose
    levelled: bool = False


def ladder() -> list[Rung]:
    """Attempts, cheap and likely ones first."""
    rungs = []
    for scale, field in (
        *((1.0, field) for field in (1.0, HALF_FIELD, THIRD_FIELD)),
        *((FINER, field) for field in (1.0, HALF_FIELD)),
        (SOURCE_PER_WORKING_SIZE, THIRD_FIELD),
    ):
        rungs.append(Rung(Pose(scale), Pose(scale * field)))
        if field != 1:
            rungs.append(Rung(Pose(scale * field), Pose(scale)))
    for mirrored in (False, True):
        rungs += [Rung(Pose(), Pose(1.0, eighths, mirrored), True) for eighths in range(0 if mirrored else 1, 8)]
    return rungs


class Pairs(NamedTuple):
    """Matched points in network px, best first."""

    fixed: Tensor
    moving: Tensor
    score: Tensor


class Payload:
    """One prepared image: its features as it is, and, once a weak pair asked for them, in other poses."""

    def __init__(self, source: Source, first: Features, timings_ms: Timings) -> None:
        self.source = source
        self.poses = {first.pose: first}
        self.timings_ms = timings_ms  # of preparing it

    @property
    def first(self) -> Features:
        return self.poses[Pose()]

    @property
    def keypoints(self) -> NDArray[np.float32]:
        """(K, 2) in the caller's pixels, best first."""
        return to_input(self.first, self.first.xy)

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

    def __init__(self, engine: Engine, config: Config, threads: int, manifest: Manifest | None = None) -> None:
        self.engine, self.threads = engine, threads
        self.options = options_of(config, manifest)
        self.options.features.image.multiple = engine.multiple
        # What is not asked for is not tried; automatic: key points decide up to the homography, vessels beyond it.
        choice, highest = self.options.model.choice, self.options.upgrade.max_kind
        chooses = choice in CHOOSING
        self.options.upgrade.max_kind = min(highest, "homography", key=KINDS.index) if chooses else choice
        self.rungs = ladder()
        self._timings: Timings = {}

    def prepare(self, image: NDArray[Any]) -> Payload:
        """(H, W) or (H, W, 3) RGB; uint8, uint16 or float32 in [0, 1]. InvalidInput calls it "image"."""
        with torch_threads(self.threads):
            checked = image_features.checked_image(image)
            timings = dict.fromkeys(ROOMS, 0.0)
            source = image_features.source_of(checked, self.options.features, timings)
            first = image_features.in_pose(source, Pose(), self.engine, self.options.features, timings)
            return Payload(source, first, timings)

    def register(self, fixed: Payload, moving: Payload) -> dict[str, Any]:
        """What the compiled pipeline returns, by the same names."""
        self._timings = dict.fromkeys(ROOMS, 0.0)
        with torch_threads(self.threads):
            return self._climb(fixed, moving) | {"timings_ms": self._timings}

    def _climb(self, fixed: Payload, moving: Payload) -> dict[str, Any]:
        """Attempts in order until one is strong; the best one is the answer."""
        best: dict[str, Any] = {}
        for found in self._attempts(fixed, moving):
            if not best or found["confidence"] > best["confidence"]:
                best = found
            if self._ends_climb(best, attempts := found["rung"] + 1):
                break
        best |= {"attempts": attempts, "field": None}
        if best["transform"] is None:
            return best
        last = self._finest(fixed, moving, best)
        return self._deform(fixed, moving, last, self._polish(fixed, moving, last, best))

    def _attempts(self, fixed: Payload, moving: Payload) -> Iterator[dict[str, Any]]:
        """What every start of every rung comes to."""
        attempts = 0
        level = math.sqrt(fixed.first.field / max(moving.first.field, 1e-6))
        level = min(max(level, 1 / MOST_LEVEL), MOST_LEVEL)
        for rung in self.rungs:
            if rung.levelled:
                rung = rung._replace(moving=rung.moving._replace(scale=rung.moving.scale * level))
            if self._shows_enough(rung.fixed) and self._shows_enough(rung.moving):
                attempts += 1
                seen = self._in_pose(fixed, rung.fixed), self._in_pose(moving, rung.moving)
                yield from self._attempt(*seen, attempts)

    def _ends_climb(self, best: dict[str, Any], attempts: int) -> bool:
        """Is the best so far the answer, or are there further starts and rungs to try?"""
        ladder = self.options.ladder
        strong = best["confidence"] >= ladder.strong_confidence
        return attempts == ladder.max_rungs or strong or best["status"] == "no_content"

    def _deform(self, fixed: Payload, moving: Payload, last: Shown, best: dict[str, Any]) -> dict[str, Any]:
        """Once, on the answer: a smooth local field, where the vessels clearly ask for one. The confidence stays."""
        asked = self.options.model.choice == "dense"
        if not asked and not (self.options.model.choice == "auto" and best["status"] == "ok"):
            return best
        fine = self._in_pose(fixed, last[0], False), self._in_pose(moving, last[1], False)
        with stopwatch(self._timings, "refine"):
            (scale, _, x), (_, _, y) = fine[0].network_of_input.params[:2]
            least = 0.0 if asked else self.options.model.field_gain_nats
            options = replace(self.options.field, min_gain_nats=max(self.options.field.min_gain_nats, least))
            aligned = to_network(best["transform"], *fine)
            found = refine_field(fine[0].ridges, fine[1].ridges, aligned[0], aligned[1], options)
            if found.control is None:
                return best
            control = found.control.numpy()
        field = Transform("dense", control, found.rectangle)
        if self._judged(aligned, *fine, best["measured"], field)["status"] == "implausible":
            return best
        rectangle = (np.array(found.rectangle) - [x, y, x, y]) / scale
        return best | {"field": (control / scale, tuple(rectangle.tolist()))}

    def _shows_enough(self, pose: Pose) -> bool:
        """Is enough left of an image at this scale?"""
        return pose == Pose() or image_features.posed_working_size(pose, self.options.features) >= MIN_SIDE_PX

    def _in_pose(self, image: Payload, pose: Pose, described: bool = True) -> Features:
        found = image.poses.get(pose)
        if found is None or (described and not found.described):
            engine = self.engine if described else None
            found = image_features.in_pose(image.source, pose, engine, self.options.features, self._timings)
            image.poses[pose] = found
        return found

    def _polish(self, fixed: Payload, moving: Payload, last: Shown, best: dict[str, Any]) -> dict[str, Any]:
        """On the vessels once more, at the finest scale: in full where the two scales change against one another."""
        poses = best["poses"]
        if best["status"] != "ok" or last == poses:
            return best
        fine = self._in_pose(fixed, last[0], False), self._in_pose(moving, last[1], False)
        seen = self._in_pose(fixed, poses[0]), self._in_pose(moving, poses[1])
        with stopwatch(self._timings, "refine"):
            start = to_network(best["transform"], *fine)
            options = self.options.refine
            if _alike(last, poses):
                options = replace(options, first_level=POLISH_LEVEL, epsilon_px=POLISH_EPSILON_PX)
            found = refine(fine[0].ridges, fine[1].ridges, *start, kind="identity", options=options)
            transform = to_input_transform(found.kind, found.params, *fine)
            kind, params = to_network(transform, *seen)
            correlation, overlap_px = ridge_correlation(seen[0].ridges, seen[1].ridges, kind, params)
        # At the coarser scale the attempt was the best there is: a little less is expected, much less is another place.
        if correlation < POLISH_KEEPS * best["quality"]["ridge_correlation"]:
            return best
        measured = best["measured"] | {"ridge_correlation": correlation, "overlap_px": overlap_px}
        polished = self._judged((kind, params), *seen, measured)
        return best | polished | {"transform": transform} if polished["status"] == "ok" else best

    def _finest(self, fixed: Payload, moving: Payload, best: dict[str, Any]) -> Shown:
        """How the finest scale that both images have shows them, with vessels as wide in both, for the ridges alone."""
        seen = best["poses"]
        limit = FINER if seen == (Pose(), Pose()) else SOURCE_PER_WORKING_SIZE
        finer = min(self._headroom(fixed), self._headroom(moving), limit)
        scale = max(1.0 if finer < WORTHWHILE else finer, min(pose.scale for pose in seen))
        enlarged = magnification(best, self._in_pose(fixed, seen[0]), self._in_pose(moving, seen[1]))
        wider = enlarged * seen[1].scale / seen[0].scale
        octaves = round(SCALES_AN_OCTAVE * math.log2(wider)) / SCALES_AN_OCTAVE
        ratio = 2 ** abs(octaves)
        most = min(MOST_ENLARGED, LARGEST_SIDE_PX / self.options.features.image.working_size)
        smaller, larger = Pose(min(max(most / ratio, 1.0), scale)), Pose(min(scale * ratio, most))
        return (larger, smaller) if octaves < 0 else (smaller, larger)

    def _headroom(self, image: Payload) -> float:
        """How much finer than at the working size an image could be shown before pixels are made up."""
        return max(image.source.gray.shape) / self.options.features.image.working_size

    def _judged(
        self,
        aligned: tuple[str, Tensor] | None,
        fixed: Features,
        moving: Features,
        measured: dict[str, Any],
        field: Transform | None = None,
    ) -> dict[str, Any]:
        with stopwatch(self._timings, "quality"):
            raw = None if aligned is None else (aligned[0], aligned[1].tolist())
            options = self.options.quality
            verdict = quality(raw, fixed.content, moving.content, **measured, field=field, options=options)
        numbers = measured | verdict
        return {
            "status": verdict["status"],
            "confidence": verdict["confidence"],
            "aligned": aligned,
            "measured": measured,
            "quality": {name: numbers[name] for name in REPORTED},
        }

    def _attempt(self, fixed: Features, moving: Features, attempts: int) -> Iterator[dict[str, Any]]:
        """One rung: match; then estimate -> refine -> quality from the largest consensus of the matches, and, where
        that does not end the climb, from the largest one among those it leaves unexplained."""
        with stopwatch(self._timings, "match"):
            pairs = _paired(fixed, moving, match(fixed.rows, moving.rows, **vars(self.options.match)))
        for _ in range(STARTS):
            with stopwatch(self._timings, "estimate"):
                found = estimate(pairs.fixed, pairs.moving, **vars(self.options.estimate))
            yield self._concluded(fixed, moving, found, pairs, attempts)
            if found.kind is None:
                return
            pairs = Pairs(*(values[~found.inlier] for values in pairs))

    def _concluded(
        self, fixed: Features, moving: Features, fit: Estimate, pairs: Pairs, attempts: int
    ) -> dict[str, Any]:
        """From one start to its quality."""
        measured, aligned = dict(NOTHING), None
        if fit.kind is not None:
            with stopwatch(self._timings, "estimate"):
                fit, pairs = self._upgraded(fixed, moving, fit.kind, fit.params)
        if fit.kind is not None:
            with stopwatch(self._timings, "refine"):
                aligned = self._align(fixed, moving, fit.kind, fit.params)
                correlation, overlap_px = ridge_correlation(fixed.ridges, moving.ridges, *aligned)
            measured = {
                "inliers": int(fit.inlier.sum()), "inlier_rms_px": fit.rms_px, "coverage": fit.coverage,
                "inlier_similarity": float(pairs.score[fit.inlier].double().mean()) if fit.inlier.any() else 0.0,
                "ridge_correlation": correlation, "overlap_px": overlap_px,
                "peak_to_sidelobe": _peak_to_sidelobe(fixed, moving, *aligned, correlation),
            }  # fmt: skip
        measured |= {
            "contrast_fixed": fixed.contrast, "contrast_moving": moving.contrast, "matches": len(pairs.score),
            "keypoints_fixed": len(fixed.xy), "keypoints_moving": len(moving.xy), "attempts": attempts,
        }  # fmt: skip
        return self._judged(aligned, fixed, moving, measured) | {
            "rung": attempts - 1,
            "transform": None if aligned is None else to_input_transform(*aligned, fixed, moving),
            "fixed_pose": _pose_tuple(fixed.pose),
            "moving_pose": _pose_tuple(moving.pose),
            "fixed_xy": to_input(fixed, pairs.fixed),
            "moving_xy": to_input(moving, pairs.moving),
            "score": pairs.score.numpy(),
            "inlier": fit.inlier.numpy().astype(np.uint8),
            "poses": (fixed.pose, moving.pose),
        }

    def _upgraded(self, fixed: Features, moving: Features, kind: str, params: Tensor) -> tuple[Estimate, Pairs]:
        """From a similarity: matches again under its guidance; then a higher model where it explains clearly more."""
        guided = match_guided(
            fixed.rows, moving.rows, fixed.xy, moving.xy,
            lambda points: apply(kind, params, points), **vars(self.options.guided),
        )  # fmt: skip
        pairs = _paired(fixed, moving, guided)
        options = vars(self.options.upgrade)
        return upgrade(pairs.fixed, pairs.moving, kind, params, fixed.content, moving.content, **options), pairs

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


def _alike(a: Shown, b: Shown) -> bool:
    """Do both show FIXED as large beside MOVING?"""
    return math.isclose(a[0].scale * b[1].scale, a[1].scale * b[0].scale, rel_tol=1e-6)


def _peak_to_sidelobe(fixed: Features, moving: Features, kind: str, params: Tensor, peak: float) -> float:
    """How far the correlation stands out of what it is where nothing should fit: shifted aside."""
    found = []
    for ring, radius in enumerate(SIDELOBE_RINGS_PX):
        for i in range(SIDELOBES):
            angle = math.pi / SIDELOBES * (2 * i + ring)
            aside = shifted(kind, params, radius * math.cos(angle), radius * math.sin(angle))
            found.append(ridge_correlation(fixed.ridges, moving.ridges, kind, aside, SIDELOBE_ROW_STEP)[0])
    mean = sum(found) / len(found)
    variance = max(sum(r * r for r in found) / len(found) - mean * mean, 0.0)
    return (peak - mean) / (math.sqrt(variance) + LEAST_DEVIATION)


def _pose_tuple(pose: Pose) -> tuple[float, int, bool]:
    return pose.scale, 45 * pose.eighth_turns, pose.mirrored


def _paired(fixed: Features, moving: Features, matches: tuple[Tensor, Tensor, Tensor]) -> Pairs:
    fixed_at, moving_at, score = matches
    return Pairs(fixed.xy[fixed_at], moving.xy[moving_at], score)
