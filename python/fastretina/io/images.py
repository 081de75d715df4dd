"""PNG, JPEG, TIFF and BMP, 8 and 16 bit (TIFF: also float32 in [0, 1]), gray or RGB, as NumPy arrays."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastretina.errors import InvalidInput
from fastretina.io.integrity import TIFF, damage, file_format, tiff_pages
from fastretina.io.output import write_bytes

_SUFFIXES = {".png": ".png", ".tif": ".tiff", ".tiff": ".tiff", ".jpg": ".jpg", ".jpeg": ".jpg", ".bmp": ".bmp"}
_DTYPES = ("uint8", "uint16", "float32")


def read_image(path: str | os.PathLike[str], *, min_side: int = 1) -> NDArray[Any]:
    """The image in a file: (H, W) gray or (H, W, 3) RGB; uint8, uint16, or float32 in [0, 1].

    Alpha is dropped, a palette becomes RGB, the EXIF orientation is applied. Of a TIFF with several pages the first is
    read, with a UserWarning. Raises InvalidInput, naming the file, for anything that is no whole image of these kinds,
    and for one whose shorter side is below ``min_side`` px.
    """
    name = os.fspath(path)
    data = _read_bytes(name)
    kind = file_format(data)
    if kind is None:
        raise InvalidInput(f"{name}: not a PNG, JPEG, TIFF or BMP image{_seems_text(data)}; convert it to one of these")
    if problem := damage(data, kind):
        raise InvalidInput(f"{name}: no usable {kind} image: {problem}; export the image again")
    if kind == TIFF and (pages := len(tiff_pages(data))) > 1:
        warnings.warn(f"{name}: holds {pages} pages; the first is read", UserWarning, stacklevel=2)
    image = _decode(name, data, kind)
    if image.dtype.name not in _DTYPES:
        raise InvalidInput(f"{name}: pixels are {image.dtype}; allowed: 8 or 16 bit, or float32 in [0, 1]")
    if image.dtype == np.float32 and not bool(((image >= 0) & (image <= 1)).all()):
        raise InvalidInput(f"{name}: float pixels outside [0, 1] or NaN; scale them to [0, 1]")
    if min(image.shape[:2]) < min_side:
        size = f"{image.shape[1]} x {image.shape[0]}"
        raise InvalidInput(f"{name}: {size} px is too small; the shorter side must have at least {min_side} px")
    return image


def write_image(path: str | os.PathLike[str], image: NDArray[Any]) -> None:
    """Write a gray or RGB array atomically; the suffix decides the format. Depth is kept, or InvalidInput raised."""
    suffix = Path(path).suffix
    if suffix.lower() not in _SUFFIXES:
        raise InvalidInput(f"{os.fspath(path)}: unknown image suffix {suffix!r}; allowed: {', '.join(_SUFFIXES)}")
    try:
        data = encode_image(image, suffix)
    except InvalidInput as error:
        raise InvalidInput(f"{os.fspath(path)}: {error}") from error
    write_bytes(path, data)


def encode_image(image: NDArray[Any], suffix: str = ".png") -> bytes:
    """A gray or RGB array as the bytes of an image file."""
    import cv2

    extension = _SUFFIXES[suffix.lower()]
    formats = {".png": ("uint8", "uint16"), ".tiff": _DTYPES}.get(extension, ("uint8",))
    if image.dtype.name not in formats:
        raise InvalidInput(f"{image.dtype} pixels do not fit into {extension[1:].upper()}; use .tiff or .png")
    ok, data = cv2.imencode(extension, image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    if not ok:
        raise InvalidInput(f"an image of shape {image.shape} cannot be written as {extension[1:].upper()}")
    return data.tobytes()


def _read_bytes(name: str) -> bytes:
    if os.path.isdir(name):
        raise InvalidInput(f"{name}: is a folder; give an image file")
    try:
        with open(name, "rb") as file:
            data = file.read()
    except FileNotFoundError as error:
        raise InvalidInput(f"{name}: no such file") from error
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise InvalidInput(f"{name}: cannot be read ({getattr(error, 'strerror', None) or error})") from error
    if not data:
        raise InvalidInput(f"{name}: is empty")
    return data


def _seems_text(data: bytes) -> str:
    try:
        data[:512].decode("ascii")
    except UnicodeDecodeError:
        return ""
    return " (it looks like text)"


def _decode(name: str, data: bytes, kind: str) -> NDArray[Any]:
    import cv2

    logging = getattr(cv2.utils, "logging", None)  # the decoder's own complaints would only repeat ours
    level = logging.getLogLevel() if logging else 0
    try:
        if logging:
            logging.setLogLevel(logging.LOG_LEVEL_SILENT)
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_ANYDEPTH | cv2.IMREAD_ANYCOLOR)
    except cv2.error as error:  # such as more pixels than OPENCV_IO_MAX_IMAGE_PIXELS
        raise InvalidInput(f"{name}: no readable {kind} image ({str(error).strip().splitlines()[-1]})") from error
    finally:
        if logging:
            logging.setLogLevel(level)
    if image is None or image.size == 0:
        raise InvalidInput(f"{name}: no readable {kind} image: it is damaged, truncated or of an unknown variant")
    return np.asarray(image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_BGR2RGB, image))  # in place
