"""The rooms, one call each, on NumPy arrays.

``image -> network -> upsample -> nms -> describe -> match -> estimate -> refine -> warp -> quality``, and ``detect``
(upsample + nms fused). Every function runs the compiled core; ``threads`` never changes a result.
"""

from __future__ import annotations

import threading
from typing import Any, NamedTuple

import numpy as np

from fastretina import _core

_local = threading.local()


def _session(threads: int = 1) -> _core.Session:
    """The calling thread's session with that many threads (0: one per core); scratch memory is kept for the next call."""
    sessions = _local.__dict__.setdefault("sessions", {})
    if threads not in sessions:
        sessions[threads] = _core.Session(threads)
    return sessions[threads]


class Keypoints(NamedTuple):
    """Key points, best first: score descending, then row-major position ascending."""

    xy: np.ndarray
    """(n, 2) float32, pixels."""
    score: np.ndarray
    """(n,) float32."""


def upsample(difference: np.ndarray, *, threads: int = 1) -> np.ndarray:
    """Class-difference map (h, w) -> confidence map (4h, 4w), float32, bicubic.

    Half-pixel centres, a = -0.75, taps clamped at the edges: ``torch.nn.functional.interpolate(scale_factor=4,
    mode="bicubic", align_corners=False)`` up to rounding. Flipping the input flips the output bit for bit.

    Raises InvalidInput for another dtype or number of axes, an empty map, NaN or infinity.
    Source: Keys 1981, "Cubic convolution interpolation for digital image processing".
    """
    return _core.upsample(_session(threads), difference)


def nms(confidence: np.ndarray, mask: np.ndarray | None = None, *, threads: int = 1, **options: Any) -> Keypoints:
    """Confidence map (H, W) float32 -> the key points, in its pixels.

    A pixel is a key point if its score exceeds ``threshold``, ``mask`` ((H, W) uint8, 0 = no key point here) allows it,
    and it comes first (score descending, then row-major index ascending) in the window of ``radius`` pixels around it,
    2 radius + 1 on a side. Pixels outside the mask cannot become key points but still compete. The ``max_keypoints``
    best are kept. Defaults: ``_core.NMS_DEFAULTS``.

    Raises InvalidInput for a wrong dtype or shape, an empty map, NaN or infinity, radius outside 0 ... 255,
    max_keypoints < 1, threshold NaN; TypeError for an unknown option.
    Source: greedy-free window maxima as in DeTone et al. 2018 (SuperPoint), with a total order so that ties are decided.
    """
    return Keypoints(*_core.nms(_session(threads), confidence, mask, **options))


def detect(difference: np.ndarray, mask: np.ndarray | None = None, *, threads: int = 1, **options: Any) -> Keypoints:
    """Class-difference map (h, w) float32 -> key points in pixels of the (4h, 4w) confidence map, which is never stored.

    Equal bit for bit to ``nms(upsample(difference), mask, ...)``; same options and errors. ``mask`` is (4h, 4w) uint8.
    """
    return Keypoints(*_core.detect(_session(threads), difference, mask, **options))
