"""Room refine, the slow obvious way: the specification, in float64."""

import numpy as np

SCALES = (8, 4, 2, 1)
THIN = {8: 14, 4: 8, 2: 4, 1: 1}


def taps(sigma):
    """Gaussian, first and second derivative at -r ... r, as correlation kernels."""
    r = int(np.ceil(3 * np.float64(np.float32(sigma))))
    x = np.arange(-r, r + 1)
    g = np.exp(-x * x / (2 * np.float64(np.float32(sigma)) ** 2))
    d1 = x * g
    d2 = (x * x / np.float64(np.float32(sigma)) ** 2 - 1) * g
    d2 = d2 - d2.mean()
    return g / g.sum(), d1 / (d1 * x).sum(), d2 / (d2 * x * x / 2).sum()


def along(plane, kernel, axis):
    """Correlation with a kernel along an axis, zeros outside."""
    r = len(kernel) // 2
    pad = [(0, 0)] * plane.ndim
    pad[axis] = (r, r)
    wide = np.pad(plane, pad)
    n = plane.shape[axis]
    return sum(k * np.take(wide, range(i, i + n), axis=axis) for i, k in enumerate(kernel))


def ridges(plane, mask, sigma_px=2.4, saturation=8.0, rim_px=4, max_points=65536):
    """Levels as float (h, w, 3) coarse to fine, the eroded field of view (h, w) bool, and the points."""
    plane = plane.astype(np.float64)
    h, w = plane.shape
    inside = np.zeros((h, w), bool)
    for y in range(rim_px, h - rim_px):
        for x in range(rim_px, w - rim_px):
            inside[y, x] = mask[y - rim_px : y + rim_px + 1, x - rim_px : x + rim_px + 1].all()
    g, d1, d2 = taps(sigma_px)
    xx, xy, yy = along(along(plane, g, 0), d2, 1), along(along(plane, d1, 0), d1, 1), along(along(plane, d2, 0), g, 1)
    half, trace = (xx - yy) / 2, xx + yy
    d = np.hypot(half, xy)
    strength = np.minimum(np.abs(trace), 2 * d) * inside
    sign = np.where(trace < 0, -1, 1)
    knee = saturation * strength.sum() / max(inside.sum(), 1) + 1e-9
    value = np.stack([strength, *(sign * strength / np.maximum(d, 1e-12) * c for c in (half, xy))], -1)
    value /= (strength + knee)[..., None]
    levels = []
    for scale in reversed(SCALES):
        binomial = np.array([1, 4, 6, 4, 1]) / 16
        levels.insert(0, along(along(value, binomial, 0), binomial, 1))
        if scale < 8:
            value = np.pad(value, [(0, value.shape[0] % 2), (0, value.shape[1] % 2), (0, 0)])
            value = (value[::2, ::2] + value[1::2, ::2] + value[::2, 1::2] + value[1::2, 1::2]) / 4
    step = 3
    while step * step * max_points < inside.sum():
        step += 1
    points = [(x, y) for y in range(step // 2, h, step) for x in range(step // 2, w, step) if inside[y, x]]
    return levels, inside, np.array(points[:max_points], np.float32).reshape(-1, 2)


def unpack(level):
    """A packed level as float (h, w, 3) and its inside bytes."""
    b = np.ascontiguousarray(level).view(np.uint8).reshape(*level.shape, 4).astype(np.float64)
    return np.stack([b[..., 0] / 255, (b[..., 1] - 128) / 127, (b[..., 2] - 128) / 127], -1), b[..., 3] > 0


def bilinear(level, x, y):
    """Values (n, 3), 0 further than half a pixel outside the level."""
    h, w = level.shape[:2]
    seen = (x > -0.5) & (y > -0.5) & (x < w - 0.5) & (y < h - 0.5)
    x, y = np.clip(np.nan_to_num(x), 0, w - 1), np.clip(np.nan_to_num(y), 0, h - 1)
    ix, iy = np.minimum(x.astype(int), w - 2), np.minimum(y.astype(int), h - 2)
    a, b = (x - ix)[:, None], (y - iy)[:, None]
    top = level[iy, ix] * (1 - a) + level[iy, ix + 1] * a
    low = level[iy + 1, ix] * (1 - a) + level[iy + 1, ix + 1] * a
    return (top * (1 - b) + low * b) * seen[:, None]


def turned(transform, centre, vectors):
    """Doubled directions (n, 2) under the similarity nearest to the transform's Jacobian at a point."""
    e = 1e-4
    cx, cy = centre
    p = transform(np.array([[cx + e, cy], [cx - e, cy], [cx, cy + e], [cx, cy - e]], float))
    (a, c), (b, d) = (p[0] - p[1]) / (2 * e), (p[2] - p[3]) / (2 * e)
    z = vectors[:, 0] + 1j * vectors[:, 1]
    rotation = (a + d) + 1j * (c - b)
    if a * d - b * c < 0:
        rotation, z = (a - d) + 1j * (c + b), z.conj()
    z = z * (rotation / abs(rotation)) ** 2
    return np.stack([z.real, z.imag], -1)


def ridge_correlation(fixed, moving, transform):
    """(correlation, overlap px) of packed finest levels."""
    (f_level, f_inside), (m_level, m_inside) = unpack(fixed), unpack(moving)
    ys, xs = np.mgrid[0 : m_level.shape[0] : 2, 0 : m_level.shape[1] : 2]
    keep = m_inside[ys, xs]
    points = np.stack([xs[keep], ys[keep]], -1).astype(float)
    at = transform(points)
    ix, iy = np.floor(at + 0.5).astype(int).T
    seen = (ix >= 0) & (iy >= 0) & (ix < f_level.shape[1]) & (iy < f_level.shape[0])
    seen[seen] = f_inside[iy[seen], ix[seen]]
    if seen.sum() < 32:
        return 0.0, 4 * int(seen.sum())
    f = bilinear(f_level, *at[seen].T)
    m = m_level[ys, xs][keep][seen]
    m = np.column_stack([m[:, 0], turned(transform, points[seen].mean(0), m[:, 1:])])
    f[:, 0] -= f[:, 0].mean()
    m[:, 0] -= m[:, 0].mean()
    return float((f * m).sum() / np.sqrt((f * f).sum() * (m * m).sum())), 4 * int(seen.sum())


def objective(fixed, moving, points, transform, scale):
    """What a level of refine maximises, without the prior: the correlation at its points of two packed levels."""
    p = points[:: THIN[scale]].astype(float)
    at = transform(p)
    f = bilinear(unpack(fixed)[0], *((at + 0.5) / scale - 0.5).T)
    m = bilinear(unpack(moving)[0], *((p + 0.5) / scale - 0.5).T)
    m = np.column_stack([m[:, 0], turned(transform, p.mean(0), m[:, 1:])])
    f[:, 0] -= f[:, 0].mean()
    m[:, 0] -= m[:, 0].mean()
    return float((f * m).sum() / np.sqrt((f * f).sum() * (m * m).sum()))
