"""The room match."""

from __future__ import annotations

from typing import Any, NamedTuple

from fastretina import _core
from fastretina.ops._call import run
from fastretina.ops._device import Array, place
from fastretina.transform import Transform
from fastretina.transform_layout import kind_and_params


class Matches(NamedTuple):
    """Mutual nearest neighbours, best first: score descending, then index in the fixed set ascending."""

    fixed: Array
    """(m,) int32, row in the fixed set."""
    moving: Array
    """(m,) int32, row in the moving set."""
    score: Array
    """(m,) float32, cosine similarity."""


def match(fixed: Array, moving: Array, *, threads: int = 1, stream: Any = None, **options: Any) -> Matches:
    """Descriptors (N, D) and (M, D) float32, rows of norm 1 (or 0) -> their mutual nearest neighbours.

    Rows i and j match if j is the most similar moving row for i and i the most similar fixed row for j; among equally
    similar rows the lower index is first. Options (defaults: ``_core.MATCH_DEFAULTS``):

    * ``precision``: ``"f32"``; ``"bf16"``, rows rounded to bf16 and summed in f32; ``"i8"``, rows rounded to
      ``round(127 x)`` and summed exactly. The same bits on every machine.
    * ``min_similarity``: matches below it are dropped.
    * ``ratio``: below 1, Lowe's test in both directions: the distance ``sqrt(2 - 2 s)`` to the best must be below
      ``ratio`` times the distance to the second best (if there is one).

    Raises InvalidInput for a wrong dtype or shape, rows of another norm (NaN and infinity included), D = 0, another
    precision, min_similarity outside [-1, 1] or ratio outside (0, 1].
    Source of the ratio test: Lowe 2004, "Distinctive image features from scale-invariant keypoints", section 7.1.
    """
    return Matches(*run(_core.match, *place(threads, stream, fixed=fixed, moving=moving), **options))


def match_guided(
    fixed: Array,
    moving: Array,
    fixed_points: Array,
    moving_points: Array,
    transform: Transform,
    *,
    threads: int = 1,
    stream: Any = None,
    **options: Any,
) -> Matches:
    """As ``match`` in f32, but only pairs compete whose points agree with ``transform`` (MOVING -> FIXED).

    ``fixed_points`` (N, 2) and ``moving_points`` (M, 2) float32, px. A pair competes if ``transform`` (no composite)
    maps its moving point to within ``radius_px`` of its fixed point; matches are mutual among those pairs. Matches
    below ``min_similarity`` are dropped. Defaults: ``_core.GUIDED_MATCH_DEFAULTS``.

    Raises InvalidInput as ``match``, and for other numbers of points, NaN or infinity in them, a composite transform,
    radius_px not positive.
    """
    start = kind_and_params(transform)
    arrays = {"fixed": fixed, "moving": moving, "fixed_points": fixed_points, "moving_points": moving_points}
    return Matches(*run(_core.match_guided, *place(threads, stream, **arrays), *start, **options))
