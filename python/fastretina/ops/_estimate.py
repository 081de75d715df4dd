"""The room estimate."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from fastretina import _core
from fastretina.ops._call import checked_size, run
from fastretina.ops._device import Array, place
from fastretina.transform import Transform
from fastretina.transform_layout import kind_and_params, transform_of


class Estimate(NamedTuple):
    """A robust fit to point pairs. No transform is an answer, not an error."""

    transform: Transform | None
    """MOVING -> FIXED; None if none was found."""
    inlier: Array
    """(N,) bool, within the threshold."""
    iterations: int
    """Hypotheses drawn (``estimate``) or models fitted (``upgrade``)."""
    cost: float
    """Sum over all pairs of min(residual^2, threshold^2), px^2."""
    rms_px: float
    """Root mean squared residual of the inliers."""
    coverage: float
    """Share of the 8 x 8 cells over the FIXED points' bounding box that hold pairs, which also hold inliers."""


def _estimate(raw: tuple[Any, ...]) -> Estimate:
    kind_and_params, found, inlier, iterations, cost, rms_px, coverage = raw
    transform = transform_of(*kind_and_params) if found else None
    return Estimate(transform, inlier.view(np.bool_), iterations, cost, rms_px, coverage)


def estimate(
    fixed_xy: Array,
    moving_xy: Array,
    weight: Array | None = None,
    *,
    threads: int = 1,
    stream: Any = None,
    **options: Any,
) -> Estimate:
    """Point pairs (N, 2) and (N, 2) float32, pixels -> the transform that explains most of them, by RANSAC.

    ``weight`` (N,) float32 >= 0: how much a pair's support counts. Options (defaults: ``_core.ESTIMATE_DEFAULTS``):

    * ``kind``: ``"similarity"``, ``"affine"``, ``"homography"`` or ``"quadratic"`` (12 parameters).
    * ``threshold_px``: pairs mapped to within it of their FIXED point are inliers.
    * ``confidence`` of having met a good sample, at which the search stops; ``max_iterations`` stops it at the latest.
    * ``seed``: the answer depends on the pairs, the options and the seed, never on ``threads``.
    * ``sorted``: pairs are ordered best first; samples come from the top first.
    * ``allow_mirror``: maps that reverse orientation are answers too.
    * ``min_scale``, ``max_scale``: of the map's local scale at the inliers' centroid.

    Raises InvalidInput for a wrong dtype or shape, more than 2^20 pairs, NaN or infinity, negative weights, an option
    out of range. Too few pairs, or none that agree: ``transform`` is None.
    Sources: Fischler & Bolles 1981 (RANSAC), Torr & Zisserman 2000 (MSAC), Chum, Matas & Kittler 2003 (local
    optimisation), Chum & Matas 2005 (PROSAC).
    """
    placed = place(threads, stream, fixed_xy=fixed_xy, moving_xy=moving_xy, weight=weight)
    return _estimate(run(_core.estimate, *placed, **options))


def upgrade(
    fixed_xy: Array,
    moving_xy: Array,
    transform: Transform,
    fixed_size: tuple[int, int],
    moving_size: tuple[int, int],
    weight: Array | None = None,
    *,
    threads: int = 1,
    stream: Any = None,
    **options: Any,
) -> Estimate:
    """Refits ``transform`` (MOVING -> FIXED, roughly right) and raises its kind where that explains clearly more.

    Point pairs as for ``estimate``; ``fixed_size`` and ``moving_size``: (width, height) of the frames, pixels. Affine,
    homography and quadratic are fitted in turn, with their bending terms held back by priors for retinal images. A
    higher kind is taken if it lowers the robust cost (noise units, plus BIC's price for parameters) by the share
    ``min_gain``, and only if its inliers cover enough of the frames' overlap, its predictions are certain all over the
    overlap, and it nowhere strays far from the simpler map. Options: ``max_kind``, ``threshold_px``, ``min_gain``
    (defaults: ``_core.UPGRADE_DEFAULTS``).

    Raises InvalidInput as ``estimate``, for an empty frame or a composite transform.
    Source of the priced robust cost: Torr 1998 (GRIC), Schwarz 1978 (BIC).
    """
    start = kind_and_params(transform)
    sizes = checked_size("fixed_size", fixed_size), checked_size("moving_size", moving_size)
    placed = place(threads, stream, fixed_xy=fixed_xy, moving_xy=moving_xy, weight=weight)
    return _estimate(run(_core.upgrade, *placed, *start, *sizes, **options))
