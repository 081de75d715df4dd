"""The room quality."""

from __future__ import annotations

from typing import Any

from fastretina import _core
from fastretina.ops._call import checked_size, run
from fastretina.transform import Transform
from fastretina.transform_layout import base_and_field


def quality(
    transform: Transform | None, fixed_size: tuple[int, int], moving_size: tuple[int, int], **measured: Any
) -> dict[str, Any]:
    """Status, confidence and plausibility of a candidate; sizes are (width, height) at network scale.

    ``measured``, all required: ``contrast_fixed``, ``contrast_moving``, ``keypoints_fixed``, ``keypoints_moving``,
    ``matches``, ``inliers``, ``inlier_rms_px``, ``coverage``, ``inlier_similarity``, ``ridge_correlation``,
    ``peak_to_sidelobe``, ``overlap_px``, ``attempts``. Options (defaults are the core's): ``min_contrast``,
    ``min_keypoints``, ``min_inliers``, ``min_scale``, ``max_scale``, ``max_anisotropy``, ``min_overlap``,
    ``min_confidence``, ``max_central_anisotropy``.

    Raises InvalidInput for a number that is missing, not finite or out of range, a size that is none, a composite.

    Returns ``status`` ("ok", "no_content", "too_few_matches", "implausible" or "low_agreement"; the first that holds,
    see csrc/quality/quality.h), ``confidence``, ``scale``, ``rotation_deg``, ``anisotropy``, ``mirrored``, ``overlap``,
    ``pole`` and ``fold``.
    """
    raw, field = (None, None) if transform is None else base_and_field(transform)
    sizes = checked_size("fixed_size", fixed_size), checked_size("moving_size", moving_size)
    return run(_core.quality, raw, field, *sizes, **measured)
