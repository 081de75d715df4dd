"""The one pipeline of all methods by key points: describe -> match -> prune -> estimate -> quality.

A method says how an image is described and how two descriptions are matched; estimation and trust are the core's rooms,
the same for all. As in Zhao & Guan's report on SuperPoint and SuperGlue (document C, section III D and E) a transform
is found by RANSAC on minimal samples, re-estimated on its inliers, and not aligned on the vessels afterwards.

The confidence is the default network's model. Two things it was fitted on differ: no alignment on the vessels, so that
the ridges agree a little less, and other descriptors, whose similarities are not comparable; for those every method is
given ``TYPICAL_SIMILARITY``. It is conservative rather than calibrated.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from fastretina import ops
from fastretina.config import Config
from fastretina.errors import InvalidInput
from fastretina.methods.pruning import locally_consistent
from fastretina.transform import Transform
from fastretina.transform_layout import kind_and_params

Floats32 = NDArray[np.float32]
Indices = tuple[NDArray[np.int32], NDArray[np.int32], Floats32]  # rows of FIXED, rows of MOVING, score; best first

ROOMS = ("image", "detect", "match", "estimate", "quality")
TYPICAL_SIMILARITY = 0.75
SIDELOBES, SIDELOBE_RINGS_PX, LEAST_DEVIATION = 6, (12.0, 24.0), 0.01  # as csrc/pipeline.cpp looks around a peak


class Features(NamedTuple):
    """Key points of one image, best first."""

    xy: Floats32  # (K, 2) px of the image
    rows: Floats32  # (K, D) of length 1
    score: Floats32  # (K,)
    frame_px: int  # longer side of the frame they were found in; thresholds are px of it


def in_image(xy: NDArray[Any], scale: float) -> Floats32:
    """Points (K, 2) of a frame, ``scale`` times the size of the image, in px of the image."""
    return ((xy + 0.5) / scale - 0.5).astype(np.float32)


class Describes(Protocol):
    """Finds and describes key points. ``inverted``: of the negative, for those that see polarity."""

    choices: dict[str, Any]
    weights_hash: str

    def __call__(self, image: NDArray[Any], inverted: bool) -> Features: ...


class Look(NamedTuple):
    """How an image is shown to ``Describes``: changed (image -> another, and its size relative to it), inverted."""

    change: Callable[[NDArray[Any]], tuple[NDArray[Any], float]] | None = None
    inverted: bool = False


Attempts = tuple[tuple[Look, Look], ...]  # looks of FIXED and MOVING, one pair after the other
POLARITIES: Attempts = ((Look(), Look()), (Look(), Look(inverted=True)))
Matches = Callable[[Features, Features, tuple[int, int], tuple[int, int]], Indices]  # FIXED, MOVING, their sizes
Prunes = Callable[[Floats32, Floats32], NDArray[np.bool_]]  # matched FIXED, MOVING points (M, 2) -> which to keep


def mutual_nearest(ratio: float = 1.0) -> Matches:
    """Mutual nearest neighbours, nearer than ``ratio`` times the second nearest."""

    def matched(fixed: Features, moving: Features, *_: tuple[int, int]) -> Indices:
        found = ops.match(fixed.rows, moving.rows, ratio=ratio)
        return found.fixed, found.moving, found.score

    return matched


class Seen:
    """One prepared image; ``shown``: the look whose key points it shows."""

    def __init__(
        self, image: NDArray[Any], describe: Callable[[NDArray[Any], bool], Features], threads: int, shown: Look
    ) -> None:
        self.timings_ms = dict.fromkeys(ROOMS, 0.0)
        with stopwatch(self.timings_ms, "image"):
            self.network = ops.image(image, threads=threads)
            self.ridges = ops.ridges(self.network.plane, self.network.mask, threads=threads)
        scale = self.network.scale
        shift = 0.5 * scale - 0.5
        self.network_of_input = Transform.from_matrix([[scale, 0, shift], [0, scale, shift]], "similarity")
        self.size = (image.shape[1], image.shape[0])
        self._image, self._describe, self._shown = np.array(image), describe, shown
        self._features: dict[Look, Features] = {}
        with stopwatch(self.timings_ms, "detect"):
            self.features(shown)

    def features(self, look: Look) -> Features:
        """Of the image in that look, in its own px; kept."""
        if look not in self._features:
            image, scale = look.change(self._image) if look.change else (self._image, 1.0)
            found = self._describe(image, look.inverted)
            if scale != 1.0:
                found = found._replace(xy=in_image(found.xy, scale))
            self._features[look] = found
        return self._features[look]

    @property
    def keypoints(self) -> Floats32:
        """(K, 2) px of the image."""
        return self.features(self._shown).xy

    @property
    def heatmap(self) -> None:
        """None: these methods show their key points only."""
        return


class Pipeline:
    """See the module. ``polarities``: 2 tries MOVING's negative, too. The most confident attempt is the answer. What
    "auto" becomes: ``kind`` of the transform, whether to ``prune``, and ``translate``, names of ``translation.py`` that
    are tried after the images as they are.
    """

    def __init__(
        self,
        describe: Describes,
        config: Config,
        threads: int,
        *,
        matches: Matches | None = None,
        prune: bool = False,
        polarities: int = 1,
        translate: tuple[str, ...] = (),
        kind: str = "affine",
        threshold_px: float = 5.0,
    ) -> None:
        if config.transform == "dense":
            raise InvalidInput(f"transform: method {config.method!r} has no local field; allowed: one without")
        if config.input == "vessels":
            from fastretina.methods.vessels import OnVessels

            describe, polarities = OnVessels(describe, threads), 1
        self.describe, self.threads, self.seed = describe, threads, config.seed
        self.matches = matches or mutual_nearest()
        self.prune: Prunes | None = locally_consistent if {"on": True, "off": False}.get(config.prune, prune) else None
        self.attempts = POLARITIES[:polarities]
        self.kind = kind if config.transform == "auto" else config.transform
        self.threshold_px = threshold_px
        self.choices, self.weights_hash = describe.choices, describe.weights_hash
        names = {"auto": translate, "off": ()}.get(config.translate, (config.translate,))
        if names:
            self._translate(names, untouched=config.translate == "auto")

    def _translate(self, names: tuple[str, ...], untouched: bool) -> None:
        """Makes translations the attempts, ``untouched`` images before them."""
        from fastretina.methods.translation import Translations

        translations = Translations(names, self.threads)
        self.attempts = (self.attempts if untouched else ()) + translations.attempts
        self.choices = {**self.choices, "translate": "+".join(names)}
        self.weights_hash = "+".join(filter(None, (self.weights_hash, translations.weights_hash)))

    def prepare(self, image: NDArray[Any]) -> Seen:
        """As ``Registrar.prepare``."""
        return Seen(image, self.describe, self.threads, self.attempts[0][0])

    def register(self, fixed: Seen, moving: Seen) -> dict[str, Any]:
        """What ``torch_path.pipeline`` returns, by the same names: of the most confident attempt."""
        timings = dict.fromkeys(ROOMS, 0.0)
        tries = [
            self._attempt(fixed, moving, looks, number, timings) for number, looks in enumerate(self.attempts, start=1)
        ]
        best = max(tries, key=lambda found: (found["confidence"], found["inlier"].sum()))
        return best | {"attempts": len(tries), "timings_ms": timings}

    def _attempt(
        self, fixed: Seen, moving: Seen, looks: tuple[Look, Look], number: int, timings: dict[str, float]
    ) -> dict[str, Any]:
        with stopwatch(timings, "detect"):
            f, m = fixed.features(looks[0]), moving.features(looks[1])
        with stopwatch(timings, "match"):
            at_f, at_m, score = self._matched(f, m, fixed.size, moving.size)
        with stopwatch(timings, "estimate"):
            transform, fit = self._estimate(f, m, at_f, at_m, fixed.size, moving.size)
        with stopwatch(timings, "quality"):
            unit = fixed.network.scale / _scale(f, fixed.size)  # network px to a px of the method's frame
            measured = {
                "matches": len(score), "inliers": int(fit.inlier.sum()), "inlier_rms_px": fit.rms_px * unit,
                "coverage": fit.coverage, "keypoints_fixed": len(f.xy), "keypoints_moving": len(m.xy),
                "attempts": number,
            }  # fmt: skip
            numbers = judged(fixed, moving, transform, measured)
        return {
            "status": numbers.pop("status"), "confidence": numbers.pop("confidence"), "quality": numbers,
            "transform": None if transform is None else kind_and_params(transform), "field": None,
            "fixed_xy": f.xy[at_f], "moving_xy": m.xy[at_m], "score": score, "inlier": fit.inlier,
            "rung": number - 1, "fixed_pose": (1.0, 0, False), "moving_pose": (1.0, 0, False),
        }  # fmt: skip

    def _matched(self, f: Features, m: Features, fixed: tuple[int, int], moving: tuple[int, int]) -> Indices:
        if not len(f.xy) or not len(m.xy):
            nobody = np.zeros(0, np.int32)
            return nobody, nobody, np.zeros(0, np.float32)
        at_f, at_m, score = self.matches(f, m, fixed, moving)
        if self.prune is None:
            return at_f, at_m, score
        keep = self.prune(f.xy[at_f] * np.float32(_scale(f, fixed)), m.xy[at_m] * np.float32(_scale(m, moving)))
        return at_f[keep], at_m[keep], score[keep]

    def _estimate(
        self,
        f: Features,
        m: Features,
        at_f: NDArray[np.int32],
        at_m: NDArray[np.int32],
        fixed: tuple[int, int],
        moving: tuple[int, int],
    ) -> tuple[Transform | None, ops.Estimate]:
        """In px of the frames that the method saw; the transform is in the callers'."""
        frames = _resized(_scale(f, fixed)), _resized(_scale(m, moving))
        points = (
            frame(features.xy[at].astype(np.float64)).astype(np.float32)
            for frame, features, at in zip(frames, (f, m), (at_f, at_m), strict=True)
        )
        options: dict[str, Any] = {
            "kind": self.kind,
            "threshold_px": self.threshold_px,
            "seed": self.seed,
            "max_iterations": 10000,
        }
        fit = ops.estimate(*points, threads=self.threads, **options)
        if fit.transform is None:
            return None, fit
        return frames[0].inverse @ fit.transform @ frames[1], fit


def judged(fixed: Seen, moving: Seen, transform: Transform | None, measured: dict[str, Any]) -> dict[str, Any]:
    """The quality room's verdict on a transform between the callers' px, and the numbers behind it.

    ``measured``: ``matches``, ``inliers``, ``inlier_rms_px`` (of the network's plane), ``coverage``,
    ``keypoints_fixed``, ``keypoints_moving``, ``attempts``; the ridges of both images give the rest.
    """
    seen: dict[str, Any] = {"ridge_correlation": 0.0, "overlap_px": 0, "peak_to_sidelobe": 0.0}
    network = None
    if transform is not None:
        network = fixed.network_of_input @ transform @ moving.network_of_input.inverse
        correlation, overlap_px = ops.ridge_correlation(fixed.ridges, moving.ridges, network)
        sidelobes = _peak_to_sidelobe(fixed.ridges, moving.ridges, network, correlation)
        seen = {"ridge_correlation": correlation, "overlap_px": overlap_px, "peak_to_sidelobe": sidelobes}
    seen |= measured | {"inlier_similarity": TYPICAL_SIMILARITY if measured["inliers"] else 0.0}
    seen |= {"contrast_fixed": fixed.network.contrast, "contrast_moving": moving.network.contrast}
    return seen | ops.quality(network, fixed.network.content_size, moving.network.content_size, **seen)


def _peak_to_sidelobe(fixed: ops.Ridges, moving: ops.Ridges, transform: Transform, peak: float) -> float:
    """How far the correlation stands out of what it is where nothing should fit: shifted aside."""
    found = []
    for ring, radius in enumerate(SIDELOBE_RINGS_PX):
        for i in range(SIDELOBES):
            angle = math.pi / SIDELOBES * (2 * i + ring)
            shift = Transform.from_matrix([[1, 0, radius * math.cos(angle)], [0, 1, radius * math.sin(angle)]])
            found.append(ops.ridge_correlation(fixed, moving, shift @ transform)[0])
    return max(0.0, (peak - float(np.mean(found))) / (float(np.std(found)) + LEAST_DEVIATION))


def _scale(features: Features, size: tuple[int, int]) -> float:
    return features.frame_px / max(size)


def _resized(scale: float) -> Transform:
    """Pixel centres: x' = (x + 1/2) s - 1/2."""
    shift = 0.5 * scale - 0.5
    return Transform.from_matrix([[scale, 0, shift], [0, scale, shift]], "similarity")


@contextmanager
def stopwatch(timings: dict[str, float], room: str) -> Iterator[None]:
    """Adds to the milliseconds of a room."""
    start = time.perf_counter()
    yield
    timings[room] += (time.perf_counter() - start) * 1e3
