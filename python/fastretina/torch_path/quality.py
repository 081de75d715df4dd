"""Room quality of the PyTorch path; csrc/quality/quality.h says what and in which order."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from fastretina.torch_path.options import QualityOptions
from fastretina.transform import Transform

GRID = 17


def _jacobian(kind: str, p: Sequence[float], x: float, y: float) -> tuple[float, float, float, float, float]:
    """a, b, c, d, and the homography's denominator (its sign is the side of the pole)."""
    if kind == "quadratic":
        return (p[1] + 2 * p[3] * x + p[4] * y, p[2] + p[4] * x + 2 * p[5] * y,
                p[7] + 2 * p[9] * x + p[10] * y, p[8] + p[10] * x + 2 * p[11] * y, 1.0)  # fmt: skip
    if kind != "homography":
        return p[0], p[1], p[3], p[4], 1.0
    w = p[6] * x + p[7] * y + p[8]
    if w == 0:
        return math.nan, math.nan, math.nan, math.nan, w
    u, v = (p[0] * x + p[1] * y + p[2]) / w, (p[3] * x + p[4] * y + p[5]) / w
    return (p[0] - u * p[6]) / w, (p[1] - u * p[7]) / w, (p[3] - v * p[6]) / w, (p[4] - v * p[7]) / w, w


def _anisotropy(a: float, b: float, c: float, d: float) -> float:
    q, r = math.hypot(a + d, c - b) / 2, math.hypot(a - d, c + b) / 2
    return (q + r) / abs(q - r) if abs(q - r) > 0 else math.inf


def _deformed(field: Transform | None, kind: str, p: Sequence[float], x: float, y: float) -> tuple[float, ...]:
    """As ``_jacobian``, of the field after the transform."""
    *j, side = _jacobian(kind, p, x, y)
    if field is None or not math.isfinite(sum(j)):
        return *j, side
    shape = (2, 6) if kind == "quadratic" else (3, 3)
    base = Transform(kind, np.reshape(p[: shape[0] * shape[1]], shape))
    return *(field.jacobian(base([x, y])) @ np.reshape(j, (2, 2))).ravel().tolist(), side


def _shape(kind: str, p: Sequence[float], field: Transform | None, size: tuple[int, int]) -> dict[str, Any]:
    width, height = size
    a, b, c, d, side = _deformed(field, kind, p, (width - 1) / 2, (height - 1) / 2)
    determinant = a * d - b * c
    mirrored = determinant < 0
    angle = math.atan2(-(b + c), d - a) if mirrored else math.atan2(c - b, a + d)
    pole, fold, worst = not abs(side) > 0, not abs(determinant) > 0, 1.0
    for iy in range(GRID):
        for ix in range(GRID):
            *j, here = _deformed(field, kind, p, (width - 1) * ix / (GRID - 1), (height - 1) * iy / (GRID - 1))
            if not here * side > 0:
                pole = True
                continue
            fold |= not (j[0] * j[3] - j[1] * j[2]) * determinant > 0
            ratio = _anisotropy(j[0], j[1], j[2], j[3])
            worst = math.inf if math.isnan(ratio) else max(worst, ratio)
    return {"scale": math.sqrt(abs(determinant)), "rotation_deg": math.degrees(angle), "anisotropy": worst,
            "central_anisotropy": _anisotropy(a, b, c, d),
            "mirrored": mirrored, "pole": pole, "fold": fold}  # fmt: skip


def quality(transform: tuple[str, Sequence[float]] | None, fixed_size: tuple[int, int], moving_size: tuple[int, int], *,
            contrast_fixed: float, contrast_moving: float, keypoints_fixed: int, keypoints_moving: int, matches: int,
            inliers: int, inlier_rms_px: float, coverage: float, inlier_similarity: float, ridge_correlation: float,
            peak_to_sidelobe: float, overlap_px: int, attempts: int, field: Transform | None = None,
            options: QualityOptions | None = None) -> dict[str, Any]:  # fmt: skip
    """As ``fastretina.ops.quality``; ``transform`` is (kind, 12 numbers), ``field`` a dense map after it."""
    o = options or QualityOptions()
    q: dict[str, Any] = {"status": "", "confidence": 0.0, "scale": 1.0, "rotation_deg": 0.0, "anisotropy": 1.0,
                         "mirrored": False, "overlap": 0.0, "pole": False, "fold": False}  # fmt: skip
    central = 1.0
    if transform is not None:
        kind, values = transform
        shape = _shape(kind, [float(v) for v in values], field, moving_size)
        central = shape.pop("central_anisotropy")
        q |= shape
        growth = q["scale"] ** 2
        smaller = min(fixed_size[0] * fixed_size[1], moving_size[0] * moving_size[1] * growth)
        q["overlap"] = min(1.0, overlap_px * growth / smaller) if smaller > 0 else 0.0
    if (
        not min(contrast_fixed, contrast_moving) >= o.min_contrast
        or min(keypoints_fixed, keypoints_moving) < o.min_keypoints
    ):
        q["status"] = "no_content"
    elif transform is None or inliers < o.min_inliers:
        q["status"] = "too_few_matches"
    elif (q["pole"] or q["fold"] or not o.min_scale <= q["scale"] <= o.max_scale
          or not central <= o.max_central_anisotropy or not q["anisotropy"] <= o.max_anisotropy
          or not q["overlap"] >= o.min_overlap):  # fmt: skip
        q["status"] = "implausible"
    else:
        ratio = inliers / matches if matches > 0 else 0.0
        features = (ridge_correlation, math.log1p(inliers), ratio, q["overlap"], inlier_rms_px, coverage,
                    math.log1p(max(peak_to_sidelobe, 0.0)), inlier_similarity, math.log(max(attempts, 1)),
                    math.log(q["anisotropy"]))  # fmt: skip
        bias, *weights = vars(o.confidence).values()
        logit = bias + sum(w * f for w, f in zip(weights, features, strict=True))
        q["confidence"] = 1 / (1 + math.exp(-logit))
        q["status"] = "ok" if q["confidence"] >= o.min_confidence else "low_agreement"
    return q
