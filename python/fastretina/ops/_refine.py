"""The room refine: ridges, and alignment on them."""

from __future__ import annotations

from typing import Any, NamedTuple

from fastretina import _core
from fastretina.errors import InvalidInput
from fastretina.ops._call import run
from fastretina.ops._device import Array, place
from fastretina.transform import SINGLE_KINDS, Transform
from fastretina.transform_layout import kind_and_params, transform_of


class Ridges(NamedTuple):
    """Vessel ridges of one image, same for dark and bright vessels.

    A level's pixel is four bytes, from the lowest: strength x 255, 128 + 127 x strength x (cos, sin) of the doubled
    direction across the line, and, at the finest level, 255 inside the field of view.
    """

    eighth: Array
    """(ceil h / 8, ceil w / 8) uint32"""
    quarter: Array
    half: Array
    full: Array
    """(h, w) uint32"""
    points: Array
    """(N, 2) float32: x, y where refine looks, a lattice over the field of view."""


def ridges(plane: Array, mask: Array | None = None, *, threads: int = 1, stream: Any = None, **options: Any) -> Ridges:
    """Ridge map of a locally normalised ``plane`` (h, w) float32; 0 outside ``mask`` (h, w) uint8, None: everywhere.

    Options (defaults are the core's): ``sigma_px`` of the Hessian, 0.5 ... 10; ``saturation``: strength becomes a half
    at saturation x its mean; ``rim_px``: no ridges nearer to the edge of the mask; ``max_points``.
    Raises InvalidInput for another dtype or shape, NaN, or an option out of range.
    Source: Lindeberg 1998, Edge detection and ridge detection with automatic scale selection.
    """
    return Ridges(*run(_core.ridges, *place(threads, stream, plane=plane, mask=mask), **options))


class Refinement(NamedTuple):
    """What refine found."""

    transform: Transform
    """MOVING -> FIXED, plane pixels; the start where nothing scored higher."""
    score_before: float
    """Ridge correlation of the start, in [-1, 1]."""
    score_after: float
    """Ridge correlation of the result, at least score_before."""
    gain_nats: float
    """Log-likelihood that the result gains over the start: how clearly the ridges ask for it."""
    shift_px: float
    """How far the points of the overlap moved, root mean square."""
    iterations: int
    refused: bool
    """A bound was hit, or the overlap was too small: the transform is the start."""


def refine(
    fixed: Ridges,
    moving: Ridges,
    start: Transform,
    *,
    kind: str = "identity",
    threads: int = 1,
    stream: Any = None,
    **options: Any,
) -> Refinement:
    """Maximises the correlation of the ridges over the transform, coarse to fine, from ``start`` (MOVING -> FIXED).

    ``kind``: of the result: "similarity", "affine", "homography" or "quadratic"; the start's where that is higher
    ("identity": always the start's). Options (defaults are the core's): ``max_iterations`` a level, ``epsilon_px``,
    ``max_shift_px`` of the overlap and ``max_frame_shift_px`` of the frame's corners (beyond: refused), ``bend_px`` and
    ``samples_per_point`` (strength of the prior on terms that bend), ``min_points``; ``first_level``: 0 starts at the
    coarsest level, 3 at the finest.
    Raises InvalidInput for an unknown kind, maps that ridges() did not make, or an option out of range.
    Source: Evangelidis & Psarakis 2008, Parametric image alignment using enhanced correlation coefficient maximization.
    """
    if kind not in SINGLE_KINDS:
        raise InvalidInput(f"kind: got {kind!r}, expected one of {', '.join(SINGLE_KINDS)}")
    maps = _placed_maps(threads, stream, fixed, moving)
    number = SINGLE_KINDS.index(kind)
    raw = run(_core.refine, *maps, *kind_and_params(start), kind=number, **options)
    found, *rest = raw
    return Refinement(transform_of(*found), *rest)


class FieldRefinement(NamedTuple):
    """What refine_field found."""

    field: Transform | None
    """A dense map of FIXED onto itself, plane pixels: ``field @ start`` is the result. None: none is supported."""
    gain_nats: float
    """Log-likelihood that held-out lattice points gained, as far as they were asked."""
    score_before: float
    """Correlation over the lattice points without a field, and with it. 0 where the held-out points said no."""
    score_after: float
    iterations: int


def refine_field(
    fixed: Ridges, moving: Ridges, start: Transform, *, threads: int = 1, stream: Any = None, **options: Any
) -> FieldRefinement:
    """A smooth displacement of FIXED on top of ``start`` (MOVING -> FIXED, as ``refine`` leaves it), where supported.

    The field is a cubic B-spline with ``cells`` grid steps along the longer side of the overlap in FIXED, of 40 px at
    least. It is fitted to one half of a chessboard of points and judged on the other, both ways; it must gain
    ``min_gain_nats`` there. Further options (defaults are the core's): ``max_iterations`` of the last fit,
    ``epsilon_px``; ``bend_px`` and ``shift_px``, prior deviations of second differences and displacements;
    ``samples_per_point``, ``min_points``; the bounds ``min_displacement_px`` (root mean square),
    ``max_displacement_px`` and ``min_jacobian``.
    Raises InvalidInput for maps that ridges() did not make, a composite or dense start, or an option out of range.
    Source: Rueckert et al. 1999, Nonrigid registration using free-form deformations.
    """
    maps = _placed_maps(threads, stream, fixed, moving)
    field, *rest = run(_core.refine_field, *maps, *kind_and_params(start), **options)
    return FieldRefinement(None if field is None else Transform("dense", *field), *rest)


def _placed_maps(threads: int, stream: Any, fixed: Ridges, moving: Ridges) -> list[Any]:
    for name, map in (("fixed", fixed), ("moving", moving)):
        if not isinstance(map, tuple) or len(map) != len(Ridges._fields):
            raise InvalidInput(f"{name}: got {type(map).__name__}, expected what ops.ridges returns")
    return place(threads, stream, fixed=tuple(fixed), moving=tuple(moving))


def ridge_correlation(
    fixed: Ridges, moving: Ridges, transform: Transform, *, threads: int = 1, stream: Any = None
) -> tuple[float, int]:
    """(correlation in [-1, 1] of the ridges over the overlap under ``transform``, moving pixels in the overlap).

    Strength and direction both count, on every second pixel. 0 where there is no overlap or no structure.
    Raises InvalidInput for maps that ridges() did not make, or a composite transform.
    """
    maps = _placed_maps(threads, stream, fixed, moving)
    return _core.ridge_correlation(*maps, *kind_and_params(transform))
