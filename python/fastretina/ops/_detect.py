"""The rooms upsample and nms, both in one (detect), and describe."""

from __future__ import annotations

from typing import Any, NamedTuple

from fastretina import _core
from fastretina.ops._call import run
from fastretina.ops._device import Array, place


class Keypoints(NamedTuple):
    """Key points, best first: score descending, then row-major position ascending."""

    xy: Array
    """(n, 2) float32, pixels."""
    score: Array
    """(n,) float32."""


def upsample(difference: Array, *, threads: int = 1, stream: Any = None) -> Array:
    """Class-difference map (h, w) -> confidence map (4h, 4w), float32, bicubic.

    Half-pixel centres, a = -0.75, taps clamped at the edges: ``torch.nn.functional.interpolate(scale_factor=4,
    mode="bicubic", align_corners=False)`` up to rounding. Flipping the input flips the output bit for bit.

    Raises InvalidInput for another dtype or number of axes, an empty map, NaN or infinity.
    Source: Keys 1981, "Cubic convolution interpolation for digital image processing".
    """
    return _core.upsample(*place(threads, stream, difference=difference))


def nms(
    confidence: Array, mask: Array | None = None, *, threads: int = 1, stream: Any = None, **options: Any
) -> Keypoints:
    """Confidence map (H, W) float32 -> the key points, in its pixels.

    A pixel is a key point if its score exceeds ``threshold``, ``mask`` ((H, W) uint8, 0 = no key point here) allows it,
    and it comes first (score descending, then row-major index ascending) in the window of ``radius`` pixels around it,
    2 radius + 1 on a side. Pixels outside the mask cannot become key points but still compete. The ``max_keypoints``
    best are kept. Defaults: ``_core.NMS_DEFAULTS``.

    Raises InvalidInput for a wrong dtype or shape, an empty map, NaN or infinity, radius outside 0 ... 255,
    max_keypoints < 1, threshold NaN.
    Source: window maxima as in DeTone et al. 2018 (SuperPoint), under a total order that decides ties.
    """
    return Keypoints(*run(_core.nms, *place(threads, stream, confidence=confidence, mask=mask), **options))


def detect(
    difference: Array, mask: Array | None = None, *, threads: int = 1, stream: Any = None, **options: Any
) -> Keypoints:
    """Class-difference map (h, w) float32 -> key points in pixels of the (4h, 4w) confidence map (never stored).

    Equal bit for bit to ``nms(upsample(difference), mask, ...)``; same options and errors. ``mask`` is (4h, 4w) uint8.
    """
    return Keypoints(*run(_core.detect, *place(threads, stream, difference=difference, mask=mask), **options))


def describe(map: Array, xy: Array, *, threads: int = 1, stream: Any = None) -> Array:
    """Dense descriptors (D, h, w) float32 and points (N, 2) float32 -> (N, D) float32 rows of length 1.

    Points are pixels of the (4h, 4w) image: cell i is centred on pixel 4i + 1.5; bilinear, clamped to the outermost
    cell centres. ``map`` may have any strides: pass an (h, w, D) map as ``map.transpose(2, 0, 1)``, it is not copied. A
    row of length below 1e-12 comes back as zeros.

    Raises InvalidInput for a wrong dtype or shape, an empty map, NaN or infinity among the points.
    """
    return _core.describe(*place(threads, stream, map=map, xy=xy))
