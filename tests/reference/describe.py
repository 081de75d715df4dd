"""Room describe, written to be read."""

import numpy as np


def describe(map, xy):
    dims, height, width = map.shape
    rows = np.zeros((len(xy), dims))
    for n, (x, y) in enumerate(np.asarray(xy, np.float64)):
        u, v = np.clip((x - 1.5) / 4, 0, width - 1), np.clip((y - 1.5) / 4, 0, height - 1)
        i, j = int(u), int(v)
        i1, j1 = min(i + 1, width - 1), min(j + 1, height - 1)
        fx, fy = u - i, v - j
        row = (1 - fy) * ((1 - fx) * map[:, j, i] + fx * map[:, j, i1]) + fy * (
            (1 - fx) * map[:, j1, i] + fx * map[:, j1, i1]
        )
        norm = np.sqrt((row.astype(np.float64) ** 2).sum())
        rows[n] = row / norm if norm >= 1e-12 else 0
    return rows
