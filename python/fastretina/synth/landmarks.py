"""Striking positions of a vessel tree, known exactly: bifurcations, crossings of artery and vein, sharp bends."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from fastretina.synth.tree import Branch, VesselTree

Floats = NDArray[np.float64]


def landmarks(tree: VesselTree, min_width: float, arm: float, bend_deg: float) -> tuple[Floats, Floats]:
    """(positions (K, 2), widths (K,)) in eye units; vessels thinner than ``min_width`` do not count.

    Junctions (bifurcations and crossings) come first, the widest vessels first; then bends, the sharpest first. The
    width of a junction is that of its thinner vessel. A bend turns by more than ``bend_deg`` between the chords of
    length ``arm`` on both sides.
    """
    wide = tree.bifurcation_widths >= min_width
    cross, cross_widths = crossings(tree, min_width)
    junctions = np.concatenate([tree.bifurcations[wide], cross])
    widths = np.concatenate([tree.bifurcation_widths[wide], cross_widths])
    order = np.argsort(-widths, kind="stable")
    turns = [_bends(b, min_width, arm, bend_deg) for b in tree.branches if b.widths[0] >= min_width]
    bends = np.concatenate(turns) if turns else np.zeros((0, 4))
    bends = bends[np.argsort(-bends[:, 3], kind="stable")]
    return np.concatenate([junctions[order], bends[:, :2]]), np.concatenate([widths[order], bends[:, 2]])


def crossings(tree: VesselTree, min_width: float) -> tuple[Floats, Floats]:
    """(positions (K, 2), widths (K,) of the thinner vessel) of where an artery and a vein cross."""
    pieces = [_pieces(tree, kind, min_width) for kind in (True, False)]
    index = _neighbours(*(p[:, :4].reshape(-1, 2, 2).mean(1) for p in pieces))
    a, b = pieces[0][index[:, 0]], pieces[1][index[:, 1]]
    da, db, ab = a[:, 2:4] - a[:, :2], b[:, 2:4] - b[:, :2], b[:, :2] - a[:, :2]
    det = da[:, 0] * db[:, 1] - da[:, 1] * db[:, 0]
    det = np.where(np.abs(det) < 1e-12, np.inf, det)
    s = (ab[:, 0] * db[:, 1] - ab[:, 1] * db[:, 0]) / det
    t = (ab[:, 0] * da[:, 1] - ab[:, 1] * da[:, 0]) / det
    hit = (s >= 0) & (s < 1) & (t >= 0) & (t < 1)
    # Vessels that run into each other at a flat angle cross nowhere in particular.
    cosine = np.abs((da * db).sum(1)) / (np.linalg.norm(da, axis=1) * np.linalg.norm(db, axis=1) + 1e-12)
    hit &= (cosine < math.cos(math.radians(20))) & np.isfinite(det)
    at = a[hit, :2] + s[hit, None] * da[hit]
    outside = np.hypot(*(at - tree.disc).T) > tree.disc_radius  # on the disc everything crosses
    return at[outside], np.minimum(a[hit, 4], b[hit, 4])[outside]


def _neighbours(first: Floats, second: Floats) -> NDArray[np.int64]:
    """(N, 2): indices of points of two sets that lie in the same or in touching cells."""
    cell, row = 0.006, 1_000_000  # eye units: a piece of vessel is shorter; more than the cells of a row
    key = [np.floor(p / cell).astype(np.int64) @ (1, row) for p in (first, second)]
    order = np.argsort(key[0], kind="stable")
    pairs = []
    for offset in (dx + row * dy for dy in (-1, 0, 1) for dx in (-1, 0, 1)):
        start = np.searchsorted(key[0][order], key[1] + offset, "left")
        count = np.searchsorted(key[0][order], key[1] + offset, "right") - start
        within = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
        pairs.append(np.stack([order[np.repeat(start, count) + within], np.repeat(np.arange(len(second)), count)], 1))
    return np.concatenate(pairs)


def _pieces(tree: VesselTree, artery: bool, min_width: float) -> Floats:
    """(N, 5): the ends and the width of every piece of vessel of one kind that is wide enough."""
    rows = [
        np.concatenate([b.points[:-1], b.points[1:], b.widths[:-1, None]], axis=1)
        for b in tree.branches
        if b.artery is artery and b.widths[0] >= min_width
    ]
    pieces = np.concatenate(rows) if rows else np.zeros((0, 5))
    return pieces[pieces[:, 4] >= min_width]


def _bends(branch: Branch, min_width: float, arm: float, bend_deg: float) -> Floats:
    """(K, 4): place, width and turn (degrees) of the sharpest places of a branch."""
    points = branch.points
    step = float(np.linalg.norm(np.diff(points, axis=0), axis=1).mean())
    k = max(1, round(arm / step))
    if len(points) < 2 * k + 3:
        return np.zeros((0, 4))
    before, after = points[k:-k] - points[: -2 * k], points[2 * k :] - points[k:-k]
    cosine = (before * after).sum(1) / (np.linalg.norm(before, axis=1) * np.linalg.norm(after, axis=1) + 1e-12)
    turn = np.degrees(np.arccos(np.clip(cosine, -1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(turn, k), 2 * k + 1)
    sharp = (turn > bend_deg) & (turn >= windows.max(1)) & (branch.widths[k:-k] >= min_width)
    return np.column_stack([points[k:-k][sharp], branch.widths[k:-k][sharp], turn[sharp]])
