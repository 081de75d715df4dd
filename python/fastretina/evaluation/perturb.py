"""Harder versions of an image, and where they put its pixels."""

from __future__ import annotations

import math
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastretina.errors import InvalidInput
from fastretina.resample import resample
from fastretina.transform import Transform
from fastretina.transform_math import Floats

PERTURBATIONS = "none, mirror, rot<degrees>, scale<factor>, crop<share>"

_WINDOWS = 8  # that a crop may take


def perturb(image: NDArray[Any], kind: str, name: str, keep: Floats | None = None) -> tuple[NDArray[Any], Transform]:
    """A harder MOVING image and the transform from the old pixels to the new; the same for the same ``name``.

    ``kind``: none, mirror, rot30 (0.8 to 1 times 30 degrees to either side; rot180: 120 to 180), scale1.5 (or its
    inverse), crop0.5 (half of each side). ``keep``: points (N, 2) of which a crop should hold many: of eight windows
    the one with most of them is taken. Raises InvalidInput for another ``kind``.
    """
    rng = np.random.default_rng(zlib.crc32(f"{kind}:{name}".encode()))
    if kind == "none":
        return image, Transform.identity()
    if kind == "mirror":
        return np.ascontiguousarray(image[:, ::-1]), Transform.from_matrix([[-1, 0, image.shape[1] - 1], [0, 1, 0]])
    for prefix, change in (("rot", _rotated), ("scale", _scaled)):
        if (amount := _amount(kind, prefix)) is not None:
            return change(image, amount, rng)
    if (share := _amount(kind, "crop")) is not None and share < 1:
        return _cropped(image, share, rng, np.zeros((0, 2)) if keep is None else keep)
    raise InvalidInput(f"perturb: got {kind!r}; allowed: {PERTURBATIONS}")


def _amount(kind: str, prefix: str) -> float | None:
    try:
        amount = float(kind.removeprefix(prefix)) if kind.startswith(prefix) else 0.0
    except ValueError:
        return None
    return amount if 0 < amount < 1000 else None


def _cropped(
    image: NDArray[Any], share: float, rng: np.random.Generator, keep: Floats
) -> tuple[NDArray[Any], Transform]:
    height, width = image.shape[:2]
    h, w = int(height * share), int(width * share)
    corners = rng.integers(0, [width - w + 1, height - h + 1], (_WINDOWS, 2))
    held = [int(((keep >= corner) & (keep < corner + np.array([w, h]))).all(axis=1).sum()) for corner in corners]
    x, y = (int(v) for v in corners[int(np.argmax(held))])
    return np.ascontiguousarray(image[y : y + h, x : x + w]), Transform.from_matrix([[1, 0, -x], [0, 1, -y]])


def _rotated(image: NDArray[Any], limit: float, rng: np.random.Generator) -> tuple[NDArray[Any], Transform]:
    """About the centre, on a frame that holds every corner."""
    degrees = rng.uniform(0.8 * limit, limit) if limit < 180 else rng.uniform(120, 180)
    angle = math.radians(float(degrees) * float(rng.choice([-1, 1])))
    c, s = math.cos(angle), math.sin(angle)
    height, width = image.shape[:2]
    new_width, new_height = math.ceil(abs(c) * width + abs(s) * height), math.ceil(abs(s) * width + abs(c) * height)
    to_middle = Transform.from_matrix([[1, 0, -(width - 1) / 2], [0, 1, -(height - 1) / 2]])
    from_middle = Transform.from_matrix([[1, 0, (new_width - 1) / 2], [0, 1, (new_height - 1) / 2]])
    change = from_middle @ Transform.from_matrix([[c, s, 0], [-s, c, 0]], "similarity") @ to_middle
    return resample(image, change, (new_width, new_height))[0], change


def _scaled(image: NDArray[Any], factor: float, rng: np.random.Generator) -> tuple[NDArray[Any], Transform]:
    import cv2

    factor = factor ** float(rng.choice([-1, 1]))
    height, width = image.shape[:2]
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    scaled = cv2.resize(image, size, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR)
    sx, sy = size[0] / width, size[1] / height  # pixel centres: x' = (x + 1/2) s - 1/2
    return scaled, Transform.from_matrix([[sx, 0, 0.5 * sx - 0.5], [0, sy, 0.5 * sy - 0.5]])
