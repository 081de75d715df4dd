"""Room warp, written to be read: float64, one pixel at a time."""

import numpy as np


def forward(kind, p, q):
    x, y = q
    if kind == "quadratic":
        monomials = np.array([1, x, y, x * x, x * y, y * y])
        return np.asarray(p).reshape(2, 6) @ monomials
    u, v, w = np.asarray(p).reshape(3, 3) @ [x, y, 1]
    return np.array([u / w, v / w])


def source_of(kind, p, pixel, centre):
    """Where an output pixel comes from, or None."""
    if kind != "quadratic":
        matrix = np.asarray(p, np.float64).reshape(3, 3)
        u, v, w = np.linalg.inv(matrix) @ [*pixel, 1]
        if w == 0:
            return None
        q = np.array([u / w, v / w])
        # The point and the moving frame's centre are on the same side of the pole.
        return q if (matrix[2] @ [*q, 1]) * (matrix[2] @ [*centre, 1]) > 0 else None
    c = np.asarray(p, np.float64).reshape(2, 6)

    def jacobian(q):
        x, y = q
        return np.array([[r[1] + 2 * r[3] * x + r[4] * y, r[2] + r[4] * x + 2 * r[5] * y] for r in c])

    orientation = np.linalg.det(jacobian(centre))
    q = centre + np.linalg.solve(jacobian(centre), pixel - forward(kind, p, centre))
    for _ in range(16):
        j = jacobian(q)
        if np.linalg.det(j) * orientation <= 0:
            return None
        step = np.linalg.solve(j, pixel - forward(kind, p, q))
        q = q + step
        if np.abs(step).sum() < 1e-9 * (1 + np.abs(q).sum()):
            return q if np.linalg.det(jacobian(q)) * orientation > 0 else None
    return None


def near(d):
    return 1.25 * d**3 - 2.25 * d**2 + 1


def far(d):
    return -0.75 * d**3 + 3.75 * d**2 - 6 * d + 3


def weights(interpolation, f):
    """(offset, weight) of the taps for fraction f."""
    if interpolation == "nearest":
        return [(int(np.floor(f + 0.5)), 1.0)]
    if interpolation == "linear":
        return [(0, 1 - f), (1, f)]
    return [(-1, far(1 + f)), (0, near(f)), (1, near(1 - f)), (2, far(2 - f))]


def warp(moving, kind, p, size, interpolation="linear"):
    """-> values before rounding (float64), valid (bool)."""
    height, width = moving.shape[:2]
    out = np.zeros((size[1], size[0], *moving.shape[2:]))
    valid = np.zeros((size[1], size[0]), bool)
    centre = np.array([(width - 1) / 2, (height - 1) / 2])
    for y in range(size[1]):
        for x in range(size[0]):
            q = source_of(kind, p, np.array([x, y], np.float64), centre)
            if q is None or not (-0.5 <= q[0] <= width - 0.5 and -0.5 <= q[1] <= height - 0.5):
                continue
            valid[y, x] = True
            i, j = int(np.floor(q[0])), int(np.floor(q[1]))
            for dy, wy in weights(interpolation, q[1] - j):
                for dx, wx in weights(interpolation, q[0] - i):
                    tap = moving[min(max(j + dy, 0), height - 1), min(max(i + dx, 0), width - 1)]
                    out[y, x] += wy * wx * tap.astype(np.float64)
    return out, valid
