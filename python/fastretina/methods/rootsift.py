"""Upright root-SIFT rows at points that another detector found; GLAMPoints is trained and used with them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastretina.methods.classical import root

SIZE_PX = 8.0
"""Diameter of a key point: a descriptor sees about six times as much. Chosen on synthetic pairs (docs/METHODS.md)."""
GRAY_PER_SD, MIDDLE = 31.0, 128.0  # a locally normalised plane, clipped at 4 deviations, in 8 bits


def describe(sift: Any, plane: NDArray[np.float32], xy: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows ``(K, 128)`` of length 1 of a locally normalised plane ``(H, W)`` at ``xy`` ``(K, 2)``; ``sift``: OpenCV's.

    Source: Arandjelovic and Zisserman, "Three Things Everyone Should Know to Improve Object Retrieval" (2012).
    """
    import cv2

    if not len(xy):
        return np.zeros((0, 128), np.float32)
    gray = np.clip(MIDDLE + GRAY_PER_SD * plane, 0, 255).astype(np.uint8)
    points = [cv2.KeyPoint(float(x), float(y), SIZE_PX, 0.0) for x, y in xy]
    rows = root(sift.compute(gray, points)[1])
    return (rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-6)).astype(np.float32)
