"""Room upsample, written to be read: one output pixel at a time."""

import numpy as np


def cubic_weight(distance: float) -> float:
    """Keys' kernel with a = -0.75. Exact for the multiples of 1/8 that occur."""
    a, d = -0.75, abs(distance)
    if d <= 1:
        return (a + 2) * d**3 - (a + 3) * d**2 + 1
    return a * (d**3 - 5 * d**2 + 8 * d - 4) if d < 2 else 0.0


def fma(a: float, b: float, c: float) -> np.float32:
    """a * b + c rounded once to float32: float64 holds the product exactly, and the sum nearly always."""
    return np.float32(float(a) * float(b) + float(c))


def interpolate(cells: np.ndarray, out: int) -> np.float32:
    """Output sample `out` of the one-dimensional signal `cells`, upsampled four times."""
    n = len(cells)
    source = (out + 0.5) / 4 - 0.5
    left = int(np.floor(source))
    taps = [left - 1, left, left + 1, left + 2]
    if out % 4 < 2:  # the mirror image of phases 3 and 2
        taps.reverse()
    weights = [cubic_weight(source - t) for t in taps]
    values = [cells[min(max(t, 0), n - 1)] for t in taps]
    total = np.float32(weights[0] * float(values[0]))
    for k in (3, 2, 1):
        total = fma(weights[k], values[k], total)
    return total


def upsample(difference: np.ndarray) -> np.ndarray:
    h, w = difference.shape
    rows = [[interpolate(row, x) for x in range(4 * w)] for row in difference]
    expanded = np.array(rows, np.float32).reshape(h, 4 * w)
    columns = [[interpolate(expanded[:, x], y) for y in range(4 * h)] for x in range(4 * w)]
    return np.array(columns, np.float32).reshape(4 * w, 4 * h).T.copy()
