"""The room image."""

from __future__ import annotations

from typing import Any, NamedTuple

from fastretina import _core
from fastretina.ops._call import run
from fastretina.ops._device import Array, place


class NetworkImage(NamedTuple):
    """An image as the network sees it."""

    plane: Array
    """(h, w) float32, locally normalised, 0 outside the field of view; padded to the network's multiple."""
    mask: Array
    """(h, w) uint8, 1 inside the field of view."""
    gray: Array
    """(content h, content w) float32 in [0, 1]: the resized intensities before normalisation."""
    scale: float
    """Network pixels per input pixel: x' = (x + 1/2) scale - 1/2."""
    contrast: float
    """Mean local deviation over the field of view, in intensities: near 0 for a frame without content."""
    input_size: tuple[int, int]
    """(width, height), input pixels."""
    content_size: tuple[int, int]
    """(width, height) of the part of the plane that shows the image."""


def image(image: Array, *, threads: int = 1, stream: Any = None, **options: Any) -> NetworkImage:
    """(H, W) or (H, W, 3) RGB, uint8, uint16 or float32 in [0, 1] -> a locally normalised plane and its field of view.

    The longer side becomes ``working_size``; the plane is padded with zeros at the right and at the bottom to
    ``multiple``. Of RGB the green channel is taken, the luma where green shows nothing. uint16 is divided by the least
    of 1023, 4095, 16383 and 65535 that holds its maximum. Other options: ``dark_fraction``, ``erode_px``, ``clip``; see
    csrc/image/image.h for what they mean. Defaults: ``_core.IMAGE_DEFAULTS``. Strided arrays are fine.

    Raises InvalidInput for another dtype or shape, NaN or infinity, float32 values outside [0, 1], a shorter side below
    64 px, an option out of range. A black frame is none of these: its contrast is 0.
    """
    session, image = place(threads, stream, image=image)
    return NetworkImage(**run(_core.image, session, image, **options))
