"""Readers and writers: every kind of file that should be read, every kind of damage that should be named."""

import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from fastretina import InvalidInput
from fastretina.io import OutputFolder, read_image, read_points, write_bytes, write_image

cv2 = pytest.importorskip("cv2")


def picture(shape: tuple[int, ...], dtype: str = "uint8") -> np.ndarray:
    rng = np.random.default_rng(0)
    if dtype == "float32":
        return rng.random(shape, dtype=np.float32)
    return rng.integers(0, np.iinfo(dtype).max, shape, dtype=dtype, endpoint=True)


def png(width: int, height: int, colour: int, depth: int, rows: bytes, *more: tuple[bytes, bytes]) -> bytes:
    """A PNG written by hand."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    blocks = [(b"IHDR", header), *more, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    body = b"".join(struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in blocks)
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.mark.parametrize("suffix", ["png", "tif", "tiff", "bmp"])
@pytest.mark.parametrize("shape", [(70, 90), (70, 90, 3)])
def test_round_trip_is_exact(tmp_path: Path, suffix: str, shape: tuple[int, ...]) -> None:
    for dtype in ("uint8",) if suffix == "bmp" else ("uint8", "uint16"):
        image = picture(shape, dtype)
        write_image(tmp_path / f"a.{suffix}", image)
        again = read_image(tmp_path / f"a.{suffix}")
        assert again.dtype == image.dtype
        np.testing.assert_array_equal(again, image)


def test_float_tiff_round_trip(tmp_path: Path) -> None:
    image = picture((70, 90), "float32")
    write_image(tmp_path / "a.tiff", image)
    np.testing.assert_array_equal(read_image(tmp_path / "a.tiff"), image)


def test_channels_are_red_green_blue(tmp_path: Path) -> None:
    row = b"\0" + bytes([250, 100, 10])
    (tmp_path / "a.png").write_bytes(png(1, 1, 2, 8, row))
    assert read_image(tmp_path / "a.png").tolist() == [[[250, 100, 10]]]
    jpeg = np.zeros((80, 80, 3), np.uint8)
    jpeg[..., 0] = 200
    write_image(tmp_path / "a.jpg", jpeg)
    # a flat area: Y, Cb and Cr are rounded to integers and their DC coefficients to steps of about one level
    np.testing.assert_allclose(read_image(tmp_path / "a.jpg")[40, 40], [200, 0, 0], atol=3)


def test_alpha_is_dropped_and_a_palette_is_resolved(tmp_path: Path) -> None:
    (tmp_path / "rgba.png").write_bytes(png(1, 1, 6, 8, b"\0" + bytes([1, 2, 3, 0])))
    assert read_image(tmp_path / "rgba.png").tolist() == [[[1, 2, 3]]]
    palette = (b"PLTE", bytes([9, 9, 9, 40, 50, 60]))
    (tmp_path / "palette.png").write_bytes(png(2, 1, 3, 8, b"\0\0\1", palette))
    assert read_image(tmp_path / "palette.png").tolist() == [[[9, 9, 9], [40, 50, 60]]]
    image = picture((70, 90, 4), "uint16")
    cv2.imwrite(str(tmp_path / "deep.png"), image)
    np.testing.assert_array_equal(read_image(tmp_path / "deep.png"), image[..., 2::-1])


def test_one_bit_is_black_and_white(tmp_path: Path) -> None:
    (tmp_path / "mask.png").write_bytes(png(4, 1, 0, 1, b"\0\xa0"))
    assert read_image(tmp_path / "mask.png").tolist() == [[255, 0, 255, 0]]


def test_exif_orientation_is_applied(tmp_path: Path) -> None:
    image = np.zeros((70, 90, 3), np.uint8)
    image[:, :45] = 255
    write_image(tmp_path / "a.jpg", image)
    data = (tmp_path / "a.jpg").read_bytes()
    exif = b"Exif\0\0" + b"MM\0*\0\0\0\x08\0\x01" + struct.pack(">HHIHH", 0x0112, 3, 1, 6, 0) + b"\0\0\0\0"
    (tmp_path / "b.jpg").write_bytes(data[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + data[2:])
    turned = read_image(tmp_path / "b.jpg")
    assert turned.shape == (90, 70, 3)
    expected = np.rot90(
        image, -1
    )  # JPEG rings at the edge of black and white; on the wrong side it would differ by 255
    np.testing.assert_array_equal(turned > 127, expected > 127)


def test_first_page_of_a_stack_is_read_with_a_warning(tmp_path: Path) -> None:
    pages = [picture((70, 90)), picture((70, 90)) // 2]
    cv2.imwritemulti(str(tmp_path / "stack.tif"), pages)
    with pytest.warns(UserWarning, match="holds 2 pages; the first is read"):
        np.testing.assert_array_equal(read_image(tmp_path / "stack.tif"), pages[0])


def test_unicode_paths(tmp_path: Path) -> None:
    path = tmp_path / "Auge – 目 é.png"
    write_image(path, picture((70, 90)))
    assert read_image(path).shape == (70, 90)


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "bmp"])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.9, 0.999])
def test_truncation_is_found(tmp_path: Path, suffix: str, share: float) -> None:
    path = tmp_path / f"a.{suffix}"
    write_image(path, picture((200, 300, 3)))
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(InvalidInput, match=rf"a\.{suffix}: no .*image"):
        read_image(path)


def test_a_jpeg_cut_short_but_given_an_end_marker_passes(tmp_path: Path) -> None:
    """A known limit: a scan has no checksum. Whoever finds a way to tell may turn this test round."""
    write_image(tmp_path / "a.jpg", picture((200, 300, 3)))
    data = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "b.jpg").write_bytes(data[: len(data) // 2] + b"\xff\xd9")
    whole, half = read_image(tmp_path / "a.jpg"), read_image(tmp_path / "b.jpg")
    assert half.shape == whole.shape
    np.testing.assert_array_equal(half[:80], whole[:80])


@pytest.mark.parametrize("kind", [3, 4, 16], ids=["SHORT", "LONG", "LONG8"])
def test_sizes_of_a_big_tiff(tmp_path: Path, kind: int) -> None:
    image = picture((70, 90))
    tags = [(256, kind, 90), (257, kind, 70), (258, 3, 8), (259, 3, 1), (262, 3, 1), (273, 16, 16), (277, 3, 1),
            (278, kind, 70), (279, 16, image.size)]  # fmt: skip
    entries = b"".join(struct.pack("<HHQQ", tag, of, 1, value) for tag, of, value in tags)
    directory = struct.pack("<Q", len(tags)) + entries + struct.pack("<Q", 0)
    head = b"II+\0" + struct.pack("<HHQ", 8, 0, 16 + image.size)
    (tmp_path / "big.tif").write_bytes(head + image.tobytes() + directory)
    np.testing.assert_array_equal(read_image(tmp_path / "big.tif"), image)


def test_a_changed_byte_in_a_png_is_found(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    write_image(path, picture((70, 90)))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(InvalidInput, match=r"IDAT block is damaged \(checksum\)"):
        read_image(path)


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("text.png", b"this is not an image\n" * 9, r"not a PNG, JPEG, TIFF or BMP image \(it looks like text\)"),
        ("other.png", b"\0\1\2\xff" * 99, "not a PNG, JPEG, TIFF or BMP image; convert"),
        ("empty.png", b"", "is empty"),
        ("zero.png", png(0, 0, 0, 8, b""), "width or height is 0"),
        ("header.png", b"\x89PNG\r\n\x1a\n", "truncated"),
        ("header.tif", b"II*\0\x08\0\0\0", "truncated"),
        ("header.jpg", b"\xff\xd8\xff\xe0", "truncated"),
        ("header.bmp", b"BM" + b"\0" * 5, "truncated"),
        ("loop.tif", b"II*\0\x08\0\0\0" + b"\0\0" + b"\x08\0\0\0", "width or height is 0"),
    ],
)
def test_bad_files_are_named(tmp_path: Path, name: str, data: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(InvalidInput, match=f"{name}: .*{message}"):
        read_image(tmp_path / name)


def test_five_channels_are_refused(tmp_path: Path) -> None:
    tags = [(256, 4, 2), (257, 4, 2), (258, 3, 8), (259, 3, 1), (262, 3, 1), (273, 4, 134), (277, 3, 5), (278, 4, 2),
            (279, 4, 20), (284, 3, 1)]  # fmt: skip
    entries = b"".join(struct.pack("<HHI", tag, kind, 1) + struct.pack("<I", value) for tag, kind, value in tags)
    data = b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + entries + b"\0\0\0\0"
    (tmp_path / "five.tif").write_bytes(data + bytes(20))
    with pytest.raises(InvalidInput, match=r"it has 5 channels; allowed are 1 \(gray\), 3 \(RGB\)"):
        read_image(tmp_path / "five.tif")


def test_missing_folder_and_small_images(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"nowhere\.png: no such file"):
        read_image(tmp_path / "nowhere.png")
    with pytest.raises(InvalidInput, match="is a folder"):
        read_image(tmp_path)
    for shape in ((1, 300), (63, 300), (300, 63)):
        write_image(tmp_path / "small.png", picture(shape))
        with pytest.raises(InvalidInput, match="too small; the shorter side must have at least 64 px"):
            read_image(tmp_path / "small.png", min_side=64)


def test_float_pixels_must_be_finite_and_in_range(tmp_path: Path) -> None:
    for bad in (np.nan, -0.5, 255.0):
        image = picture((70, 90), "float32")
        image[3, 4] = bad
        write_image(tmp_path / "a.tiff", image)
        with pytest.raises(InvalidInput, match="outside"):
            read_image(tmp_path / "a.tiff")


def test_writers_refuse_what_a_format_cannot_hold(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="uint16 pixels do not fit into JPG"):
        write_image(tmp_path / "a.jpg", picture((70, 90), "uint16"))
    with pytest.raises(InvalidInput, match=r"unknown image suffix '\.gif'"):
        write_image(tmp_path / "a.gif", picture((70, 90)))
    assert not list(tmp_path.iterdir())


def test_writing_is_atomic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "a.bin"
    write_bytes(target, b"old")

    def broken(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", broken)
    with pytest.raises(InvalidInput, match="disk full"):
        write_bytes(target, b"new")
    assert target.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.bin"]


def test_output_folder_is_filled_in_one_go(tmp_path: Path) -> None:
    with OutputFolder(tmp_path / "deep" / "out") as folder:
        folder.fill({"a": b"1", "b": b"2"})
        folder.fill({"a": b"3"}, absent=["b", "never"])
    assert {p.name: p.read_bytes() for p in folder.path.iterdir()} == {"a": b"3"}


def test_output_folder_that_failed_is_not_left(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), OutputFolder(tmp_path / "out"):
        raise RuntimeError
    assert not (tmp_path / "out").exists()


def test_output_folder_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for path in (tmp_path / "file", tmp_path / "file" / "out"):
        with pytest.raises(InvalidInput, match="output folder is not writable"):
            OutputFolder(path)


def test_points_keep_their_other_columns(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text("name,Y,X\nfovea,2.5,1\ndisc,4,3e1\n\n", encoding="utf-8")
    table = read_points(tmp_path / "p.csv")
    assert table.points.tolist() == [[1.0, 2.5], [30.0, 4.0]]
    assert table.with_points(table.points + 0.1).decode() == "name,Y,X\nfovea,2.6,1.1\ndisc,4.1,30.1\n"
    (tmp_path / "bare.csv").write_text("1, 2\n3, 4\n")
    assert read_points(tmp_path / "bare.csv").points.tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no points"),
        ("x,y\n1,a\n", "row 1 of the points is no x,y"),
        ("1\n", "row 1"),
        ("1,nan\n", "NaN or infinity"),
    ],
)
def test_bad_points_are_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "p.csv").write_text(text)
    with pytest.raises(InvalidInput, match=message):
        read_points(tmp_path / "p.csv")
