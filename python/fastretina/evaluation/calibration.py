"""Fits the confidence: features of registrations and whether each succeeded -> the weights of a ``ConfidenceModel``.

usage: python -m fastretina.evaluation.calibration ROWS.json [ROWS.json ...] [--judge ROWS.json ...] [--plot FILE.png]
ROWS.json ...: lists of objects with the keys of ``FEATURES`` and ``success`` (``training/outcomes.py`` writes them).
Prints the table for a manifest (csrc/quality/quality.h holds the default network's), and how good the fit is on rows it
has not seen: those of ``--judge``, else by cross-validation.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastretina.errors import InvalidInput
from fastretina.evaluation.metrics import auroc, calibration_error
from fastretina.evaluation.plots import reliability_plot
from fastretina.evaluation.run import SILENT_PX
from fastretina.io import write_bytes
from fastretina.torch_path.options import QualityOptions

Floats = NDArray[np.float64]
Row = dict[str, Any]
ACCEPTED = QualityOptions().min_confidence
MOST_ANISOTROPIC = QualityOptions().max_anisotropy  # beyond it is implausible, whatever the confidence

# Name and the sign that its weight may have: +1 more is better, -1 less is better.
FEATURES = {
    "ridge_correlation": 1,
    "log_inliers": 1,
    "inlier_ratio": 1,
    "overlap": 1,
    "inlier_rms_px": -1,
    "coverage": 1,
    "log_peak_to_sidelobe": 1,
    "inlier_similarity": 1,
    "log_attempts": -1,
    "log_anisotropy": -1,
}


class Calibration(NamedTuple):
    """P(success) = 1 / (1 + exp(-(bias + features @ weights)))."""

    bias: float
    weights: Floats

    def confidence(self, features: ArrayLike) -> Floats:
        """(n, k) -> (n,)."""
        return _sigmoid(self.bias + np.asarray(features, np.float64) @ self.weights)


def _sigmoid(logit: Floats) -> Floats:
    return 0.5 * (1 + np.tanh(0.5 * logit))


def features_of(row: Mapping[str, Any]) -> Floats:
    """The feature vector of a row of measurements (``Registration.quality`` and the like)."""
    values = dict(row)
    values.setdefault("log_inliers", np.log1p(values.get("inliers", 0)))
    values.setdefault("log_peak_to_sidelobe", np.log1p(max(values.get("peak_to_sidelobe", 0), 0)))
    values.setdefault("log_attempts", np.log(max(values.get("attempts", 1), 1)))
    values.setdefault("log_anisotropy", np.log(min(max(values.get("anisotropy", 1), 1), MOST_ANISOTROPIC)))
    values.setdefault("inlier_ratio", values.get("inliers", 0) / max(1, values.get("matches", 0)))
    missing = [name for name in FEATURES if name not in values]
    if missing:
        raise InvalidInput(f"row: got no {missing[0]!r}, expected {', '.join(FEATURES)}")
    return np.array([float(values[name]) for name in FEATURES])


def fit(features: ArrayLike, success: ArrayLike, signs: Sequence[int] | None = None, ridge: float = 1.0) -> Calibration:
    """Logistic regression whose weights keep their signs.

    ``features`` (n, k) finite, ``success`` (n,) of 0 and 1 with both present, ``signs`` (k,) of -1, 0 (free) and +1.
    ``ridge`` penalises half the squared weights of the standardised features, which keeps separable rows finite.
    Newton steps with an active set: a weight that would change its sign is held at 0 until its gradient pulls it back.
    """
    x, y = np.asarray(features, np.float64), np.asarray(success, np.float64)
    if x.ndim != 2 or y.shape != x.shape[:1] or not np.isfinite(x).all():
        raise InvalidInput(f"features, success: got {x.shape} and {y.shape}, expected finite (n, k) and (n,)")
    if not np.isin(y, (0, 1)).all() or len(np.unique(y)) < 2:
        raise InvalidInput("success: got other values than 0 and 1, or only one of them, expected both")
    if not ridge > 0:
        raise InvalidInput(f"ridge: got {ridge}, expected a positive number")
    sign = np.asarray(signs if signs is not None else [0] * x.shape[1])
    if sign.shape != x.shape[1:] or not np.isin(sign, (-1, 0, 1)).all():
        raise InvalidInput(f"signs: got {sign.tolist()}, expected one of -1, 0, 1 for each of {x.shape[1]} features")
    mean, spread = x.mean(0), x.std(0)
    spread = np.where(spread > 0, spread, 1.0)
    design = np.column_stack([np.ones(len(x)), (x - mean) / spread])
    penalty = np.concatenate([[0.0], np.full(x.shape[1], ridge)])
    beta = _constrained_newton(design, y, penalty, np.concatenate([[0], sign]))
    weights = beta[1:] / spread
    return Calibration(float(beta[0] - weights @ mean), weights)


def _cost(design: Floats, y: Floats, penalty: Floats, beta: Floats) -> float:
    logit = design @ beta
    return float(np.sum(np.logaddexp(0, logit) - y * logit) + 0.5 * penalty @ beta**2)


def _constrained_newton(design: Floats, y: Floats, penalty: Floats, sign: NDArray[Any]) -> Floats:
    beta = np.zeros(design.shape[1])
    for _ in range(200):
        p = _sigmoid(design @ beta)
        gradient = design.T @ (p - y) + penalty * beta
        # At 0, and the descent direction leads to the forbidden side: held.
        free = ~((beta == 0) & (sign != 0) & (-gradient * sign <= 0))
        if np.abs(gradient[free]).max(initial=0) < 1e-9 * len(y):
            break
        part = design[:, free]
        hessian = part.T @ (part * (p * (1 - p))[:, None]) + np.diag(penalty[free] + 1e-12)
        step = np.zeros_like(beta)
        step[free] = -np.linalg.solve(hessian, gradient[free])
        size, here = 1.0, _cost(design, y, penalty, beta)
        while size > 1e-10:
            candidate = beta + size * step
            candidate = np.where(sign * candidate < 0, 0.0, candidate)
            if _cost(design, y, penalty, candidate) < here:
                break
            size *= 0.5
        else:
            break
        beta = candidate
    return beta


def cross_validated(
    features: ArrayLike, success: ArrayLike, signs: Sequence[int] | None = None, folds: int = 5
) -> Floats:
    """The confidence of every row by a fit to the other folds."""
    x, y = np.asarray(features, np.float64), np.asarray(success, np.float64)
    fold = np.empty(len(y), int)
    for value in (0, 1):  # both outcomes in every fold
        rows = np.flatnonzero(y == value)
        fold[rows] = np.arange(len(rows)) % folds
    out = np.empty(len(y))
    for k in range(folds):
        out[fold == k] = fit(x[fold != k], y[fold != k], signs).confidence(x[fold == k])
    return out


def as_table(calibration: Calibration) -> str:
    """The table ``[confidence]`` of a manifest; the fields of ``ConfidenceModel`` in csrc/quality/quality.h."""
    rows = [("bias", calibration.bias), *zip(FEATURES, calibration.weights, strict=True)]
    return "\n".join(["[confidence]", *(f"{name} = {float(value):.6g}" for name, value in rows)])


def judged(confidence: Floats, rows: Sequence[Row]) -> str:
    """What a confidence is worth on rows that it was not fitted to."""
    success = np.array([float(row["success"]) for row in rows])
    accepted = [row for row, c in zip(rows, confidence, strict=True) if c >= ACCEPTED]
    silent = sum(row["wrong"] or row["error_px"] is None or row["error_px"] >= SILENT_PX for row in accepted)
    wrong = [c for row, c in zip(rows, confidence, strict=True) if row["wrong"]]
    return (
        f"{len(rows)} unseen rows, {int(success.sum())} right within 5 px, {len(wrong)} of different eyes: "
        f"AUROC {auroc(confidence, success):.4f}, calibration error {calibration_error(confidence, success):.4f}; "
        f"{len(accepted)} accepted, {silent} of them off by {SILENT_PX:.0f} px or wrong; "
        f"highest of different eyes {max(wrong, default=0):.2f}"
    )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", type=Path, nargs="+")
    parser.add_argument("--judge", type=Path, nargs="+", default=[], metavar="ROWS.json")
    parser.add_argument("--plot", type=Path, metavar="FILE.png", help="confidence against outcome (needs matplotlib)")
    parser.add_argument("--folds", type=int, default=5)
    args = parser.parse_args(arguments)
    rows = _read(args.rows)
    x, y = np.array([features_of(row) for row in rows]), np.array([float(row["success"]) for row in rows])
    signs = list(FEATURES.values())
    found = fit(x, y, signs)
    print(as_table(found))
    if args.judge:
        unseen = _read(args.judge)
        confidence = found.confidence([features_of(row) for row in unseen])
    else:
        unseen, confidence = rows, cross_validated(x, y, signs, args.folds)
    print(f"fitted to {len(rows)} rows, {int(y.sum())} right; {judged(confidence, unseen)}")
    if args.plot:
        shown = [
            {"method": "unseen", "confidence": float(c), "good": row["success"]}
            for row, c in zip(unseen, confidence, strict=True)
        ]
        write_bytes(args.plot, reliability_plot(shown))


def _read(paths: Sequence[Path]) -> list[Row]:
    return [row for path in paths for row in json.loads(path.read_text())]


if __name__ == "__main__":
    main()
