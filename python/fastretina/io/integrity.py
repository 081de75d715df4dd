"""What a file is, and whether all of it is there, before a decoder may guess.

Decoders differ in what they make of half a file (an error, gray rows, a warning); so it is looked at first. Each check
returns None if the file is whole, else half a sentence that says what is wrong.

What is not found: JPEG data has no checksum, so a scan that was cut short and given an end marker, or whose bytes were
changed, passes for whole. Decoders show gray below the cut.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable

PNG, JPEG, TIFF, BMP = "PNG", "JPEG", "TIFF", "BMP"

_MAGIC = {
    b"\x89PNG\r\n\x1a\n": PNG,
    b"\xff\xd8\xff": JPEG,
    b"II*\0": TIFF,
    b"MM\0*": TIFF,
    b"II+\0": TIFF,  # BigTIFF
    b"MM\0+": TIFF,
    b"BM": BMP,
}

_INTEGERS = {3: "H", 4: "I", 16: "Q"}  # TIFF's SHORT, LONG and (BigTIFF) LONG8


def file_format(data: bytes) -> str | None:
    """PNG, JPEG, TIFF or BMP by the first bytes, None for anything else."""
    return next((name for magic, name in _MAGIC.items() if data.startswith(magic)), None)


def damage(data: bytes, kind: str) -> str | None:
    """What is wrong with a file of this format, or None."""
    checks: dict[str, Callable[[bytes], str | None]] = {PNG: _png, JPEG: _jpeg, BMP: _bmp, TIFF: _tiff}
    try:
        return checks[kind](data)
    except struct.error:
        return "it is truncated"


def _png(data: bytes) -> str | None:
    position = 8
    while position < len(data):
        length, name = struct.unpack_from(">I4s", data, position)
        end = position + 12 + length
        if end > len(data):
            return f"it is truncated inside its {name.decode('latin1')} block"
        body = memoryview(data)[position + 4 : end - 4]
        if zlib.crc32(body) != struct.unpack_from(">I", data, end - 4)[0]:
            return f"its {name.decode('latin1')} block is damaged (checksum)"
        if name == b"IHDR" and 0 in struct.unpack_from(">II", data, position + 8):
            return "its width or height is 0"
        if name == b"IEND":
            return None
        position = end
    return "it is truncated (no end block)"


def _jpeg(data: bytes) -> str | None:
    position = 2
    while True:  # segment by segment to the start of the scan: a thumbnail inside has an end marker of its own
        marker, length = struct.unpack_from(">HH", data, position)
        if marker >> 8 != 0xFF:
            return "its segments are damaged"
        if marker == 0xFFFF:  # fill byte
            position += 1
            continue
        if 0xFFC0 <= marker <= 0xFFC2 and 0 in struct.unpack_from(">HH", data, position + 5):
            return "its width or height is 0"
        position += 2 + length
        if marker == 0xFFDA:
            break
    return None if data.find(b"\xff\xd9", position) >= 0 else "it is truncated (no end marker)"


def _bmp(data: bytes) -> str | None:
    offset, header, width, height, _, bits, compression = struct.unpack_from("<IIiiHHI", data, 10)
    if header < 40:
        return None  # an old header; the decoder judges
    if width <= 0 or height == 0:
        return "its width or height is 0"
    needed = (width * bits + 31) // 32 * 4 * abs(height)
    return "it is truncated" if compression == 0 and len(data) < offset + needed else None


def _tiff(data: bytes) -> str | None:
    pages = tiff_pages(data)
    if not pages:
        return "it is truncated (no page directory)"
    if 0 in (pages[0].get(256, 0), pages[0].get(257, 0)):
        return "its width or height is 0"
    if pages[0].get(277, 1) > 4:
        return f"it has {pages[0][277]} channels; allowed are 1 (gray), 3 (RGB) and 4 (RGBA)"
    return None


def tiff_pages(data: bytes) -> list[dict[int, int]]:
    """The integer tags (first value each) of every whole page directory."""
    order = "<" if data[:2] == b"II" else ">"
    big = data[2:4] in (b"+\0", b"\0+")
    head, count, entry, word = ("QQ", "Q", "HHQ", 8) if big else ("II", "H", "HHI", 4)
    offset = struct.unpack_from(order + head[0], data, 8 if big else 4)[0]
    pages: list[dict[int, int]] = []
    seen: set[int] = set()
    try:
        while offset and offset not in seen:
            seen.add(offset)
            entries = struct.unpack_from(order + count, data, offset)[0]
            offset += struct.calcsize("=" + count)
            tags: dict[int, int] = {}
            for _ in range(entries):
                tag, kind, _ = struct.unpack_from(order + entry, data, offset)
                value = offset + 4 + word
                if kind in _INTEGERS and struct.calcsize("=" + _INTEGERS[kind]) <= word:  # stored in place
                    tags[tag] = struct.unpack_from(order + _INTEGERS[kind], data, value)[0]
                offset = value + word
            pages.append(tags)
            offset = struct.unpack_from(order + head[1], data, offset)[0]
    except struct.error:
        pass  # the directory that is cut off is not counted
    return pages
