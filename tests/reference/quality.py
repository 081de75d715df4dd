"""Room quality, the slow obvious way: numeric derivatives and a dense grid."""

import numpy as np


def local(transform, x, y, e=1e-3):
    p = transform(np.array([[x + e, y], [x - e, y], [x, y + e], [x, y - e]], float))
    return np.column_stack([(p[0] - p[1]) / (2 * e), (p[2] - p[3]) / (2 * e)])


def shape(transform, size):
    """scale, rotation_deg, anisotropy, mirrored of a map without pole or fold over a (width, height) frame."""
    width, height = size
    at = local(transform, (width - 1) / 2, (height - 1) / 2)
    mirrored = bool(np.linalg.det(at) < 0)
    u, _, v = np.linalg.svd(at)
    nearest = u @ v  # the nearest orthogonal matrix
    if mirrored:
        nearest = nearest @ np.diag([-1, 1])
    worst = 1.0
    for x in np.linspace(0, width - 1, 33):
        for y in np.linspace(0, height - 1, 33):
            s = np.linalg.svd(local(transform, x, y))[1]
            worst = max(worst, s[0] / s[1])
    angle = np.degrees(np.arctan2(nearest[1, 0], nearest[0, 0]))
    return np.sqrt(abs(np.linalg.det(at))), angle, worst, mirrored
