"""One image as the rooms after the network see it. The twin of csrc/image_features.cpp, which says why."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastretina.config import MIN_SIDE_PX
from fastretina.engines import Engine
from fastretina.errors import InvalidInput
from fastretina.torch_path.describe import describe
from fastretina.torch_path.detect import detect
from fastretina.torch_path.image import NetworkImage
from fastretina.torch_path.image import image as image_room
from fastretina.torch_path.options import FeatureOptions
from fastretina.torch_path.refine import Ridges, ridges
from fastretina.torch_path.warp import warp
from fastretina.transform import Transform

STRIDE = 4
SOURCE_PER_WORKING_SIZE = 2.0  # finer poses are interpolated
LARGEST_SIDE_PX = 16384  # of a plane
LONGEST_SIDE = 1 << 28
TOLERANCE = np.float32(1e-3)  # float32 images may leave [0, 1] by that much
ROOMS = ("image", "network", "detect", "describe", "match", "estimate", "refine", "quality")

Size = tuple[int, int]  # (width, height)
Timings = dict[str, float]  # ms, one entry a room


@contextmanager
def stopwatch(timings: Timings, room: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    timings[room] += (time.perf_counter() - start) * 1e3


class Pose(NamedTuple):
    """How an image is shown to the network. The identity shows it as it is."""

    scale: float = 1.0  # of the working size
    eighth_turns: int = 0  # of 45 degrees, counter-clockwise as seen on a screen; odd ones cut the corners off
    mirrored: bool = False  # left-right, before turning


class Source(NamedTuple):
    """The intensities that all poses of an image are taken from."""

    input: Size  # of the caller's image
    source_of_input: Transform  # the caller's px -> px of gray
    gray: Tensor


class Features(NamedTuple):
    """See csrc/image_features.h."""

    pose: Pose
    input: Size  # of the caller's image
    content: Size  # of the part of the plane that shows the image
    network_of_input: Transform  # the caller's px -> network px
    contrast: float
    field: float  # share of the content that is inside the field of view
    ridges: Ridges
    described: bool  # False: the network has not seen it, and the rest is empty
    difference: Tensor
    xy: Tensor  # (K, 2) key points, network px
    rows: Tensor  # (K, D)


def checked_image(image: object) -> Tensor:
    """A copy of the caller's pixels. InvalidInput as from the compiled core, which calls it "image" too."""
    allowed = (
        "an (H, W) or (H, W, 3) RGB array of uint8, uint16 or float32 in [0, 1]: cast with .astype, scale float64 and "
        "bool to float32 or uint8, drop an alpha channel"
    )
    if not isinstance(image, np.ndarray):
        raise _invalid("image", str(type(image)), allowed)
    if not (image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 3)):
        raise _invalid("image", _shape(image), allowed)
    if max(image.shape[:2]) >= LONGEST_SIDE:
        raise _invalid("image", _shape(image), "sides below 2^28 px")
    if image.dtype not in (np.uint8, np.uint16, np.float32):
        raise _invalid("image", _shape(image), allowed)
    height, width = image.shape[:2]
    if min(width, height) < MIN_SIDE_PX:
        raise _invalid("image", f"{width} x {height} px", "a shorter side of at least 64 px")
    if image.dtype == np.float32:
        _check_values(image.reshape(height, -1))
    return torch.from_numpy(np.array(image, order="C"))


def _check_values(rows: NDArray[np.float32]) -> None:
    bad = ~((rows >= -TOLERANCE) & (rows <= 1 + TOLERANCE))  # NaN is neither
    if not bad.any():
        return
    y, x = np.unravel_index(np.argmax(bad), bad.shape)
    if not np.isfinite(rows[y, x]):
        raise _invalid("image", f"NaN or infinity in row {y}", "finite values")
    allowed = "float32 values in [0, 1]: divide by the largest value the device can deliver (255, 4095, 65535 ...)"
    raise _invalid("image", f"{rows[y, x]:f} in row {y}", allowed)


def _invalid(argument: str, got: str, allowed: str) -> InvalidInput:
    return InvalidInput(f"{argument}: got {got}, expected {allowed}")


def _shape(array: NDArray[np.generic]) -> str:
    return f"({', '.join(map(str, array.shape))}) {array.dtype}"


def source_of(image: Tensor, options: FeatureOptions, timings: Timings) -> Source:
    """Of the caller's image."""
    height, width = image.shape[:2]
    longer, shorter = max(height, width), min(height, width)
    wanted = max(int(SOURCE_PER_WORKING_SIZE * options.image.working_size), math.ceil(MIN_SIDE_PX * longer / shorter))
    shrunk = vars(options.image) | {"working_size": max(min(longer, wanted), MIN_SIDE_PX)}
    with stopwatch(timings, "image"):
        seen = image_room(image, **shrunk)
    return Source((width, height), _resized_by(seen.scale), seen.gray)


def in_pose(source: Source, pose: Pose, engine: Engine | None, options: FeatureOptions, timings: Timings) -> Features:
    """The image as ``pose`` shows it; without an engine its ridges alone."""
    whole = (source.gray.shape[1], source.gray.shape[0])
    turned = _turned_by(pose, whole)
    with stopwatch(timings, "image"):
        if pose.eighth_turns % 2:
            shown, _ = warp(source.gray, "similarity", torch.from_numpy(turned.params.copy()), whole)
        else:
            shown = torch.rot90(source.gray.flip(1) if pose.mirrored else source.gray, pose.eighth_turns // 2)
        image_options = vars(options.image) | {"working_size": posed_working_size(pose, options)}
        seen = image_room(shown.contiguous(), **image_options)
    with stopwatch(timings, "refine"):
        lines = ridges(seen.plane, seen.mask, **vars(options.ridges))
    content = (seen.gray.shape[1], seen.gray.shape[0])
    network_of_input = _resized_by(seen.scale) @ turned @ source.source_of_input
    field = float(seen.mask[: content[1], : content[0]].double().mean())
    nothing = torch.zeros(0)
    features = Features(pose, source.input, content, network_of_input, seen.contrast, field, lines, False, nothing,
                        torch.zeros(0, 2), nothing)  # fmt: skip
    return features if engine is None else _described(features, seen, engine, options, timings)


def _described(
    features: Features, seen: NetworkImage, engine: Engine, options: FeatureOptions, timings: Timings
) -> Features:
    with stopwatch(timings, "network"):
        difference, descriptors = _network(engine, seen.plane)
    with stopwatch(timings, "detect"):
        xy, _ = detect(difference, seen.mask, **vars(options.detect))
    with stopwatch(timings, "describe"):
        rows = describe(descriptors, xy)
    return features._replace(described=True, difference=difference, xy=xy, rows=rows)


def posed_working_size(pose: Pose, options: FeatureOptions) -> int:
    return int(pose.scale * options.image.working_size + 0.5)


def _turned_by(pose: Pose, source: Size) -> Transform:
    """Pixels of an image -> pixels of the image mirrored and turned."""
    w, h = source[0] - 1, source[1] - 1
    s, o = (-1, w) if pose.mirrored else (1, 0)  # mirroring: x -> s x + o
    if pose.eighth_turns % 2:
        half = math.sqrt(0.5)
        c, n = half * (1, -1, -1, 1)[pose.eighth_turns // 2], half * (1, 1, -1, -1)[pose.eighth_turns // 2]
        x0, y0 = w / 2, h / 2  # about the middle of the frame
        matrix = [[c * s, n, x0 + c * (o - x0) - n * y0], [-n * s, c, y0 - n * (o - x0) - c * y0]]
        return Transform.from_matrix(matrix, "similarity")
    turns = ([[s, 0, o], [0, 1, 0]], [[0, 1, 0], [-s, 0, w - o]], [[-s, 0, w - o], [0, -1, h]], [[0, -1, h], [s, 0, o]])
    return Transform.from_matrix(turns[pose.eighth_turns // 2], "similarity")


def _resized_by(scale: float) -> Transform:
    shift = 0.5 * scale - 0.5
    return Transform.from_matrix([[scale, 0, shift], [0, scale, shift]], "similarity")


def _network(engine: Engine, plane: Tensor) -> tuple[Tensor, Tensor]:
    """Class difference (h, w), and descriptors (D, h, w) that stay valid until the engine's next run."""
    maps, descriptors = engine.run(plane.numpy())
    h, w = plane.shape[0] // STRIDE, plane.shape[1] // STRIDE
    if maps.shape != (2, h, w) or maps.dtype != np.float32:
        raise _invalid("engine output 0 (class maps)", _shape(maps), "a (2, H/4, W/4) float32 array")
    if descriptors.shape != (engine.dims, h, w):
        raise _invalid("engine output 1 (descriptors)", _shape(descriptors), "a (D, H/4, W/4) float32 array")
    return torch.from_numpy(maps[0] - maps[1]), torch.from_numpy(np.asarray(descriptors, np.float32))
