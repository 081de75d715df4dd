"""Room estimate, slow and obvious: every minimal sample is tried, the one of least MSAC cost is refitted."""

from itertools import combinations

import numpy as np

MINIMAL_PAIRS = {"similarity": 2, "affine": 3, "homography": 4, "quadratic": 6}
REACH = 1.6  # the last fits' biweight reaches this many thresholds


def design(kind, moving):
    """Rows of the linear system whose unknowns are the parameters; homographies by the direct linear transform."""
    x, y = moving[:, 0], moving[:, 1]
    zero, one = np.zeros_like(x), np.ones_like(x)
    if kind == "similarity":
        return np.stack([x, -y, one, zero], 1), np.stack([y, x, zero, one], 1)
    row = [x, y, one] if kind == "affine" else [one, x, y, x * x, x * y, y * y]
    none = [zero] * len(row)
    return np.stack(row + none, 1), np.stack(none + row, 1)


def apply(kind, p, moving):
    if kind == "homography":
        q = np.c_[moving, np.ones(len(moving))] @ p.reshape(3, 3).T
        return q[:, :2] / q[:, 2:]
    a, b = design(kind, moving)
    return np.stack([a @ p, b @ p], 1)


def fit(kind, fixed, moving, weight):
    """Weighted least squares of the residuals in FIXED."""
    root = np.sqrt(weight)[:, None]
    if kind != "homography":
        a, b = design(kind, moving)
        right = np.concatenate([root[:, 0] * fixed[:, 0], root[:, 0] * fixed[:, 1]])
        return np.linalg.lstsq(np.concatenate([root * a, root * b]), right, rcond=None)[0]
    x, y, u, v = *moving.T, *fixed.T
    denominator = np.ones(len(x))
    for _ in range(10):  # algebraic error over the last denominator becomes the geometric one
        zero, one = np.zeros_like(x), np.ones_like(x)
        a = np.stack([x, y, one, zero, zero, zero, -x * u, -y * u], 1) * root / denominator[:, None]
        b = np.stack([zero, zero, zero, x, y, one, -x * v, -y * v], 1) * root / denominator[:, None]
        right = np.concatenate([root[:, 0] * u / denominator, root[:, 0] * v / denominator])
        p = np.append(np.linalg.lstsq(np.concatenate([a, b]), right, rcond=None)[0], 1.0)
        denominator = p[6] * x + p[7] * y + 1
    return p


def residuals(kind, p, fixed, moving):
    return np.linalg.norm(apply(kind, p, moving) - fixed, axis=1)


def cost(kind, p, fixed, moving, threshold):
    return np.minimum(residuals(kind, p, fixed, moving) ** 2, threshold**2).sum()


def estimate(kind, fixed, moving, threshold):
    """Parameters of the best model, on centred coordinates for the sake of conditioning: (map, inlier flags)."""
    centre, scale = moving.mean(0), 100.0
    m = (moving - centre) / scale
    best, least = None, np.inf
    for sample in combinations(range(len(m)), MINIMAL_PAIRS[kind]):
        chosen = list(sample)
        p = fit(kind, fixed[chosen], m[chosen], np.ones(len(chosen)))
        with np.errstate(all="ignore"):
            c = cost(kind, p, fixed, m, threshold)
        if c < least:
            best, least = p, c
    for _ in range(50):
        closeness = 1 - (residuals(kind, best, fixed, m) / (REACH * threshold)) ** 2
        inside = closeness > 0
        best = fit(kind, fixed[inside], m[inside], closeness[inside] ** 2)
    return (lambda points: apply(kind, best, (points - centre) / scale)), residuals(kind, best, fixed, m) <= threshold


def numbers(mapped, fixed, threshold):
    """What is reported of a finished map: inlier flags, cost, rms, coverage."""
    r = np.linalg.norm(mapped - fixed, axis=1)
    inlier = r <= threshold
    low, width = fixed.min(0), np.ptp(fixed, axis=0)
    held, met = set(), set()
    for point, good in zip(fixed, inlier, strict=True):
        cell = tuple(min(7, int((point[c] - low[c]) * (8 / width[c]))) if width[c] > 0 else 0 for c in (0, 1))
        held.add(cell)
        if good:
            met.add(cell)
    rms = np.sqrt((r[inlier] ** 2).mean()) if inlier.any() else 0.0
    return inlier, np.minimum(r**2, threshold**2).sum(), rms, len(met) / len(held)
