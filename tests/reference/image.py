"""Room image, written to be read: float64, one pixel or one cell at a time."""

import numpy as np

CELL = 4


def plane_of(image):
    """Any image -> intensities in [0, 1]."""
    if image.ndim == 3:
        r, g, b = (image[..., c].astype(np.float64) for c in range(3))
        luma = 0.299 * r + 0.587 * g + 0.114 * b
        plane = luma if 8 * g.max() < luma.max() else g
    else:
        plane = image.astype(np.float64)
    if image.dtype == np.uint8:
        return plane / 255
    if image.dtype == np.uint16:
        return plane / next(unit for unit in (1023, 4095, 16383, 65535) if image.max() <= unit)
    return plane


def weights(size, out, longer, working):
    """(out, size) matrix of one axis: area coverage when shrinking, bilinear when enlarging."""
    w = np.zeros((out, size))
    for i in range(out):
        if working < longer:
            low, high = i * longer / working, min((i + 1) * longer / working, size)
            for k in range(size):
                w[i, k] = max(0.0, min(k + 1, high) - max(k, low))
            w[i] /= w[i].sum()
        else:
            position = (i + 0.5) * longer / working - 0.5
            k, f = int(np.floor(position)), position - np.floor(position)
            w[i, min(max(k, 0), size - 1)] += 1 - f
            w[i, min(max(k + 1, 0), size - 1)] += f
    return w


def resized(image, working_size):
    height, width = image.shape[:2]
    longer = max(height, width)
    out = [max(1, int(np.floor(side * working_size / longer + 0.5))) for side in (height, width)]
    across, down = weights(width, out[1], longer, working_size), weights(height, out[0], longer, working_size)
    return np.clip(down @ plane_of(image) @ across.T, 0, 1)


def surround_level(plane):
    """The corners, where they are clearly darker than the middle."""
    height, width = plane.shape
    side = max(1, min(height, width) // 16)
    corners = sorted(
        plane[y, x]
        for y in (*range(side), *range(height - side, height))
        for x in (*range(side), *range(width - side, width))
    )
    middle = sorted(
        plane[y, x]
        for y in range(height // 4, height - height // 4, 4)
        for x in range(width // 4, width - width // 4, 4)
    )
    brightest = np.float32(1.5) * corners[(len(corners) - 1) * 99 // 100]
    return brightest if middle and brightest < middle[(len(middle) - 1) * 10 // 100] else np.float32(0)


def field_of_view(plane, dark_fraction, erode_px):
    height, width = plane.shape
    q95 = np.sort(plane.ravel())[(plane.size - 1) * 95 // 100]
    dark = plane < max(np.float32(dark_fraction) * q95, surround_level(plane))
    outside = np.zeros_like(dark)
    todo = [(y, x) for y in range(height) for x in range(width) if y in (0, height - 1) or x in (0, width - 1)]
    while todo:
        y, x = todo.pop()
        if 0 <= y < height and 0 <= x < width and dark[y, x] and not outside[y, x]:
            outside[y, x] = True
            todo += [(y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)]
    mask = np.zeros((height, width), np.uint8)
    for y in range(height):
        for x in range(width):
            window = outside[max(y - erode_px, 0) : y + erode_px + 1, max(x - erode_px, 0) : x + erode_px + 1]
            mask[y, x] = not window.any()
    return mask


def box(cells):
    padded = np.pad(cells, 3)
    out = np.zeros_like(cells)
    for y in range(cells.shape[0]):
        for x in range(cells.shape[1]):
            out[y, x] = padded[y : y + 7, x : x + 7].sum()
    return out


def at_pixels(cells, height, width):
    out = np.zeros((height, width))
    for y in range(height):
        for x in range(width):
            v, u = np.clip((y - 1.5) / 4, 0, cells.shape[0] - 1), np.clip((x - 1.5) / 4, 0, cells.shape[1] - 1)
            j, i = int(v), int(u)
            j1, i1 = min(j + 1, cells.shape[0] - 1), min(i + 1, cells.shape[1] - 1)
            top = cells[j, i] * (1 - u + i) + cells[j, i1] * (u - i)
            bottom = cells[j1, i] * (1 - u + i) + cells[j1, i1] * (u - i)
            out[y, x] = top * (1 - v + j) + bottom * (v - j)
    return out


def normalised(plane, mask, clip):
    """-> normalised plane, contrast."""
    height, width = plane.shape
    pad = ((0, -height % CELL), (0, -width % CELL))
    m, v = np.pad(mask.astype(np.float64), pad), np.pad(plane, pad)

    def cell_sum(values):
        return values.reshape(values.shape[0] // CELL, CELL, values.shape[1] // CELL, CELL).sum((1, 3))

    own = cell_sum(m)
    s0, s1, s2 = (box(box(cell_sum(q))) for q in (m, m * v, m * v * v))
    safe = np.where(s0 > 0, s0, 1)
    mean = np.where(s0 > 0, s1 / safe, 0)
    sd = np.where(s0 > 0, np.sqrt(np.maximum(s2 / safe - mean**2, 0)), 0)
    contrast = sd[own > 0].mean() if (own > 0).any() else 0.0
    scale = at_pixels(sd, height, width) + 0.1 * contrast + 0.002
    return mask * np.clip((plane - at_pixels(mean, height, width)) / scale, -clip, clip), contrast


def image(image, *, working_size=640, multiple=8, dark_fraction=0.05, erode_px=3, clip=4.0):
    """-> padded plane, padded mask, resized intensities, contrast."""
    gray = resized(image, working_size)
    mask = field_of_view(gray.astype(np.float32), dark_fraction, erode_px)
    plane, contrast = normalised(gray, mask, clip)
    pad = ((0, -gray.shape[0] % multiple), (0, -gray.shape[1] % multiple))
    return np.pad(plane, pad), np.pad(mask, pad), gray, contrast
