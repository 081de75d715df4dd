"""Rooms match and match_guided, written to be read: the whole score matrix, one chain of exact FMAs an element."""

import numpy as np


def fma(a, b, c):
    """a * b + c in float32 with one rounding. The product is exact in float64; the sum is rounded to odd there, which
    makes the second rounding, to float32, the right one."""
    product, c = a.astype(np.float64) * b.astype(np.float64), c.astype(np.float64)
    total = product + c
    rest = total - product
    error = (product - (total - rest)) + (c - rest)
    bits = total.view(np.int64)
    towards = np.where((error > 0) == (total > 0), 1, -1)
    bits = np.where((error != 0) & (bits % 2 == 0), bits + towards, bits)
    return bits.view(np.float64).astype(np.float32)


def bf16(x):
    x = np.where(np.abs(x) < 2.0**-50, np.float32(0), x)
    bits = x.view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16) % 2) & 0xFFFF0000).astype(np.uint32).view(np.float32)


def similarity(fixed, moving, precision="f32"):
    """(N, M) float32."""
    if precision == "i8":
        a, b = (np.rint(np.float32(127) * x).astype(np.int64) for x in (fixed, moving))
        return (a @ b.T).astype(np.float32) / np.float32(127**2)
    if precision == "bf16":
        fixed, moving = bf16(fixed), bf16(moving)
    total = np.zeros((len(fixed), len(moving)), np.float32)
    for k in range(fixed.shape[1]):
        total = fma(fixed[:, k, None], moving[None, :, k], total)
    return total


def passes_ratio(scores, best, ratio):
    """Is the distance to `best` below ratio times the distance to the nearest other?"""
    others = np.delete(scores, best)
    if len(others) == 0:
        return True
    one = np.float32(1)
    to_best, to_second = (max(one - s, np.float32(0)) for s in (scores[best], others.max()))
    return to_best < np.float32(ratio) * np.float32(ratio) * to_second


def mutual(score, allowed, min_similarity):
    """Pairs (i, j), each first for the other among the allowed: argmax takes the lowest index of equal ones."""
    score = np.where(allowed, score, -np.inf)
    for i in range(len(score)):
        j = int(np.argmax(score[i]))
        if allowed[i, j] and int(np.argmax(score[:, j])) == i and score[i, j] >= np.float32(min_similarity):
            yield i, j


def best_first(score, pairs):
    pairs = sorted(pairs, key=lambda p: (-score[p], p[0]))
    fixed, moving = np.array(pairs, np.int32).reshape(-1, 2).T
    return fixed, moving, np.array([score[p] for p in pairs], np.float32)


def match(fixed, moving, *, precision="f32", min_similarity=-1.0, ratio=1.0):
    score = similarity(fixed, moving, precision)
    if score.size == 0:
        return best_first(score, [])
    pairs = mutual(score, np.ones(score.shape, bool), min_similarity)
    if ratio < 1:
        pairs = [(i, j) for i, j in pairs if passes_ratio(score[i], j, ratio) and passes_ratio(score[:, j], i, ratio)]
    return best_first(score, list(pairs))


def match_guided(fixed, moving, fixed_points, moving_points, transform, *, radius_px=12.0, min_similarity=0.2):
    """`transform` maps (M, 2) moving points to fixed ones."""
    score = similarity(fixed, moving)
    if score.size == 0:
        return best_first(score, [])
    mapped = transform(moving_points.astype(np.float64))
    distance_sq = ((fixed_points[:, None].astype(np.float64) - mapped[None]) ** 2).sum(axis=2)
    return best_first(score, list(mutual(score, distance_sq <= radius_px**2, min_similarity)))
