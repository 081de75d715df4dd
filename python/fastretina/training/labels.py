"""Keypoint labels without a human: striking positions of the vessel tree.

Document A annotates bifurcations, crossings and sharp bends by hand.  Here they come from the skeleton of a vessel
label where there is one, and in every image from the skeleton of a Hessian ridge map (Frangi et al. 1998, first step)
of the unmodified image; other corners of that map are doubtful and trained as neither class.  Points are ``(x, y)`` in
pixels of the given image, pixel centres at integers.
"""

from __future__ import annotations

import cv2
import numpy as np

RIDGE_SIGMAS_PX = (1.8, 2.7, 4.2)
EDGE_PX = 9
MIN_EXTENT_PX = 40
CORNER_SIGMA_PX = 3.0
RIDGE_ON = 0.35
BEND_ARM_PX = 8
BEND_DEG = 35.0
THIN_PX = 8.0


def ridge_map(plane: np.ndarray, mask: np.ndarray, bright: bool) -> np.ndarray:
    """Line strength ``(H, W)`` of a plane in [0, 1]: the largest negative curvature of three scales, locally scaled.

    ``bright`` says whether vessels are brighter than the background.
    """
    inside = (mask > 0).astype(np.float32)
    image = (plane if bright else -plane) * inside
    # Outside the field of view the surroundings are continued, so that its edge is no line.
    around = cv2.GaussianBlur(image, (0, 0), 8.0) / np.maximum(cv2.GaussianBlur(inside, (0, 0), 8.0), 1e-3)
    image = np.where(inside > 0, image, around).astype(np.float32)
    best = np.zeros_like(image)
    for sigma in RIDGE_SIGMAS_PX:
        smooth = cv2.GaussianBlur(image, (0, 0), sigma)
        xx = cv2.Sobel(smooth, cv2.CV_32F, 2, 0, ksize=3) * (sigma * sigma / 4)
        yy = cv2.Sobel(smooth, cv2.CV_32F, 0, 2, ksize=3) * (sigma * sigma / 4)
        xy = cv2.Sobel(smooth, cv2.CV_32F, 1, 1, ksize=3) * (sigma * sigma / 4)
        root = np.sqrt((xx - yy) ** 2 / 4 + xy * xy)
        np.maximum(best, root - (xx + yy) / 2, out=best)
    best *= cv2.erode(inside, np.ones((2 * EDGE_PX + 1, 2 * EDGE_PX + 1), np.uint8), borderValue=1)
    power = cv2.blur(best * best, (95, 95))
    scale = 2.0 * np.sqrt(np.maximum(power, 0)) + 1.5 * np.sqrt(max(float(power.mean()), 0.0)) + 1e-6
    ridges = np.clip(best / scale, 0, 1)
    # Noise makes short lines, vessels long ones.
    _, part, stats, _ = cv2.connectedComponentsWithStats((ridges > 0.3).astype(np.uint8), connectivity=8)
    long_line = (stats[:, cv2.CC_STAT_WIDTH] + stats[:, cv2.CC_STAT_HEIGHT] >= MIN_EXTENT_PX).astype(np.uint8)
    long_line[0] = 0
    return (ridges * cv2.dilate(long_line[part], np.ones((5, 5), np.uint8))).astype(np.float32)


def ridge_corners(ridges: np.ndarray, radius_px: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """Corners of a ridge map: ``(K, 2)`` sub-pixel points and ``(K,)`` strengths, best first.

    Strength is the smaller eigenvalue of the structure tensor in a Gaussian window (Shi and Tomasi 1994).
    """
    smooth = cv2.GaussianBlur(ridges, (0, 0), 1.5)
    dx = cv2.Sobel(smooth, cv2.CV_32F, 1, 0, ksize=3)
    dy = cv2.Sobel(smooth, cv2.CV_32F, 0, 1, ksize=3)
    xx, yy, xy = (cv2.GaussianBlur(v, (0, 0), CORNER_SIGMA_PX) for v in (dx * dx, dy * dy, dx * dy))
    response = (xx + yy) / 2 - np.sqrt((xx - yy) ** 2 / 4 + xy * xy)
    peak = cv2.dilate(response, np.ones((2 * radius_px + 1, 2 * radius_px + 1), np.uint8))
    ys, xs = np.nonzero((response == peak) & (response > 1e-6))
    inner = (xs > 0) & (ys > 0) & (xs < response.shape[1] - 1) & (ys < response.shape[0] - 1)
    xs, ys = xs[inner], ys[inner]
    centre = response[ys, xs]

    def offset(before: np.ndarray, after: np.ndarray) -> np.ndarray:
        curve = 2 * centre - before - after
        return np.clip((after - before) / (2 * np.maximum(curve, 1e-9)), -0.5, 0.5)

    x = xs + offset(response[ys, xs - 1], response[ys, xs + 1])
    y = ys + offset(response[ys - 1, xs], response[ys + 1, xs])
    order = np.argsort(-centre, kind="stable")
    return np.stack([x, y], 1)[order].astype(np.float32), centre[order].astype(np.float32)


def _neighbours(image: np.ndarray) -> list[np.ndarray]:
    """The eight neighbours of every pixel, clockwise from the top, zero outside."""
    padded = np.pad(image, 1)
    height, width = image.shape
    steps = ((-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1))
    return [padded[1 + dy : 1 + dy + height, 1 + dx : 1 + dx + width] for dy, dx in steps]


def skeleton(label: np.ndarray) -> np.ndarray:
    """Thin a binary label to lines one pixel wide (Zhang and Suen 1984); bool ``(H, W)``."""
    image = (label > 0).astype(np.uint8)
    while True:
        removed = 0
        for step in (0, 1):
            p = _neighbours(image)
            total = sum(q.astype(np.int16) for q in p)
            turns = sum(((p[i] == 0) & (p[(i + 1) % 8] == 1)).astype(np.int16) for i in range(8))
            a, b = ((0, 2, 4), (2, 4, 6)) if step == 0 else ((0, 2, 6), (0, 4, 6))
            drop = (image == 1) & (total >= 2) & (total <= 6) & (turns == 1)
            for i, j, k in (a, b):
                drop &= (p[i] * p[j] * p[k]) == 0
            removed += int(drop.sum())
            image[drop] = 0
        if removed == 0:
            return image > 0


def skeleton_points(label: np.ndarray) -> np.ndarray:
    """Bifurcations, crossings and sharp bends of a vessel label: ``(K, 2)`` points.

    A junction counts when three branches or more leave a window of ``BEND_ARM_PX`` around it; a bend when those to the
    skeleton ``BEND_ARM_PX`` away on both sides turn by more than ``BEND_DEG``.
    """
    smooth = cv2.GaussianBlur((label > 0).astype(np.float32), (0, 0), 1.0) > 0.5
    lines = skeleton(smooth)
    count = np.where(lines, sum(q.astype(np.int16) for q in _neighbours(lines.astype(np.uint8))), 0)
    turns = _neighbours(lines.astype(np.uint8))
    crossings = sum(((turns[i] == 0) & (turns[(i + 1) % 8] == 1)).astype(np.int16) for i in range(8))
    candidates = np.argwhere(lines & (crossings >= 3) & (count >= 3))
    on_line = np.argwhere(lines & (crossings == 2))
    junctions: list[tuple[float, float]] = []
    bends: list[tuple[float, float, float]] = []
    for (y, x), junction in [(tuple(c), True) for c in candidates] + [(tuple(c), False) for c in on_line]:
        arms = _arms(lines, int(y), int(x))
        if junction:
            if len(arms) >= 3:
                junctions.append((float(x), float(y)))
        elif len(arms) == 2:
            turn = 180.0 - np.degrees(np.arccos(np.clip(arms[0] @ arms[1], -1, 1)))
            if turn > BEND_DEG:
                bends.append((-turn, float(x), float(y)))
    found = junctions + [(x, y) for _, x, y in sorted(bends)]
    return thin_points(np.array(found, np.float32).reshape(-1, 2), THIN_PX)


def _arms(lines: np.ndarray, y: int, x: int) -> list[np.ndarray]:
    """Unit directions from ``(x, y)`` to where its own skeleton component leaves a window of ``BEND_ARM_PX``."""
    r = BEND_ARM_PX
    if y < r or x < r or y >= lines.shape[0] - r or x >= lines.shape[1] - r:
        return []
    window = lines[y - r : y + r + 1, x - r : x + r + 1].astype(np.uint8)
    _, parts = cv2.connectedComponents(window, connectivity=8)
    window = (parts == parts[r, r]).astype(np.uint8)
    window[1:-1, 1:-1] = 0
    exits, _, _, centres = cv2.connectedComponentsWithStats(window, connectivity=8)
    directions = centres[1:exits] - r
    return [d / max(np.linalg.norm(d), 1e-6) for d in directions]


def thin_points(points: np.ndarray, distance_px: float) -> np.ndarray:
    """Keep points in order, dropping each that lies nearer than ``distance_px`` to one kept before."""
    kept: list[np.ndarray] = []
    for point in points:
        if not kept or np.min(np.sum((np.array(kept) - point) ** 2, 1)) >= distance_px**2:
            kept.append(point)
    return np.array(kept, np.float32).reshape(-1, 2)
