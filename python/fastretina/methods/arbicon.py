"""Registration by one network that sees both images: an affine map, looked at again, and a smooth field on top.

After document B (Dong, Nie & Wei 2022; ``networks/arbicon.py``). There is no RANSAC: what agrees in the correlation of
two images says what the map is. Each image is seen at a few sizes; the pair of sizes under which most agrees is where
the search starts. Where that is refused, one image may show a small part of the other: windows of either, at twice the
size, are compared with the whole of the other. Whether to trust an answer is what the quality room says, from the
mutual best among the cells that show a vessel under the final map, and from the ridges of both images; the ridges
decide on the field, too.
"""

from __future__ import annotations

from functools import cached_property
from itertools import product
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastretina import displacement, ops
from fastretina.config import Config
from fastretina.errors import InvalidInput
from fastretina.methods import keypoints
from fastretina.methods.keypoints import Features, Floats32, judged, stopwatch
from fastretina.networks import arbicon
from fastretina.networks.arbicon import FRAME_PX, Arbicon, Look
from fastretina.torch_path.threads import torch_threads
from fastretina.transform import Transform
from fastretina.transform_layout import kind_and_params

SIZES = (1.0, 2 / 3, 4 / 9)  # of an image in the frame
STARTS = ((0, 0), (0, 1), (1, 0), (0, 2), (2, 0))  # which sizes of FIXED and MOVING are compared
ENLARGED, WINDOW_STEP = 2, FRAME_PX // 2  # of the windows: size of the image, and px of it from one to the next
STEPS, FINE_STEPS = 3, 3  # of the affine stage from the best start, on the grid's cells and on single cells
VESSEL, MOST_CELLS = 0.05, 1024  # trust and number of the cells that are matched one by one
LEAST_CELLS = 8  # of an image that has content
LEAST_SHOWN = 0.3  # of a window
CONTROLS = 8  # of the field, a side
SHARES, LEAST_JACOBIAN = (1.0, 0.7, 0.5, 0.3), 0.2  # of a field that are tried until it is far from folding
KINDS = ("auto", "affine", "dense")
INLIER_PX = 5.0  # of FIXED's network plane
COVERAGE_CELLS = 8  # as csrc/estimate counts coverage

Floats = NDArray[np.float64]
Field = tuple[Floats, displacement.Rectangle]


class Framed(NamedTuple):
    """An image in the middle of the network's frame, at one of the sizes."""

    planes: Tensor  # (1, 1, FRAME_PX, FRAME_PX)
    masks: Tensor
    look: Look
    frame_of_input: Transform  # px -> frame units
    content: tuple[slice, slice]  # rows and columns of the frame that show the image


class Seen(keypoints.Seen):
    """One prepared image. Its key points are the cells that show a vessel."""

    def __init__(self, image: NDArray[Any], network: Arbicon, threads: int) -> None:
        self._network, self._threads = network, threads
        self.sizes = [self._framed(image, round(size * FRAME_PX))[0] for size in SIZES]
        super().__init__(image, lambda *_: _vessel_cells(self.sizes[0]), threads, keypoints.Look())

    @cached_property
    def windows(self) -> list[Framed]:
        """Of the enlarged image."""
        return self._framed(self._image, ENLARGED * FRAME_PX)

    def _framed(self, image: NDArray[Any], working_size: int) -> list[Framed]:
        """Every window of the image, in a frame, that shows enough of it."""
        small = ops.image(image, working_size=working_size, threads=self._threads)
        width, height = small.content_size
        side = max(FRAME_PX, working_size)
        left, top = (side - width) // 2, (side - height) // 2
        content = slice(top, top + height), slice(left, left + width)
        planes, masks = torch.zeros(2, 1, 1, side, side)
        planes[0, 0][content] = torch.from_numpy(small.plane[:height, :width].copy())
        masks[0, 0][content] = torch.from_numpy(small.mask[:height, :width].astype(np.float32))
        s, found = small.scale * 2 / FRAME_PX, []
        for y, x in product(range(0, side - FRAME_PX + 1, WINDOW_STEP), repeat=2):
            part = ..., slice(y, y + FRAME_PX), slice(x, x + FRAME_PX)
            if side > FRAME_PX and masks[part].mean() < LEAST_SHOWN:
                continue
            x0, y0 = ((0.5 * small.scale + aside) * 2 / FRAME_PX - 1 for aside in (left - x, top - y))
            with torch_threads(self._threads), torch.inference_mode():
                look = self._network.look(planes[part], masks[part])
            frame = Transform.from_matrix([[s, 0, x0], [0, s, y0]])
            found.append(Framed(planes[part], masks[part], look, frame, content))
        return found

    @property
    def heatmap(self) -> Floats32:  # type: ignore[override]
        """(h, w): where the network sees vessels, over the whole image."""
        whole = self.sizes[0]
        shown: Floats32 = torch.sigmoid(whole.look.vessels[0, 0])[whole.content].numpy()
        return shown


class Found(NamedTuple):
    """A map, and the cells of both images that are each other's best under it, best first."""

    transform: Transform | None
    field: Field | None
    fixed: Floats  # (M, 2) px
    moving: Floats  # (M, 2) px
    score: Floats32  # (M,) cosines
    off: Floats  # (M,) how far the map is from that, px of FIXED's network plane


NOTHING = Found(None, None, np.zeros((0, 2)), np.zeros((0, 2)), np.zeros(0, np.float32), np.zeros(0))
Start = tuple[Framed, Framed, Tensor]  # frames of FIXED and of MOVING, and a map (1, 2, 3) between them


class Pipeline:
    """``transform``: "affine" ends after the affine stage; "auto" keeps the field of the dense stage where the ridges
    agree better with it than without, "dense" wherever it does not fold.
    """

    def __init__(self, network: Arbicon, weights_hash: str, config: Config, threads: int) -> None:
        if config.transform not in KINDS:
            raise InvalidInput(f"transform: got {config.transform!r}; allowed for 'arbicon': {', '.join(KINDS)}")
        self.network, self.threads, self.transform = network.eval(), threads, config.transform
        self.weights_hash = weights_hash
        self.choices: dict[str, Any] = {"network": "arbicon", "engine": "torch", "precision": "f32"}

    def prepare(self, image: NDArray[Any]) -> Seen:
        """As ``Registrar.prepare``."""
        return Seen(image, self.network, self.threads)

    def register(self, fixed: Seen, moving: Seen) -> dict[str, Any]:
        """What ``torch_path.pipeline`` returns, by the same names."""
        timings = dict.fromkeys(keypoints.ROOMS, 0.0)
        if min(len(fixed.keypoints), len(moving.keypoints)) < LEAST_CELLS:
            return self._result(fixed, moving, NOTHING, timings, 1) | {"timings_ms": timings}
        tries = []
        for number, starts in enumerate((self._by_size, self._by_window), start=1):
            with stopwatch(timings, "estimate"), torch_threads(self.threads), torch.inference_mode():
                found = self._estimated(fixed, moving, *starts(fixed, moving))
            tries.append(self._result(fixed, moving, found, timings, number))
            if tries[-1]["status"] == "ok":
                break
        return max(tries, key=lambda found: found["confidence"]) | {"attempts": len(tries), "timings_ms": timings}

    def _result(
        self, fixed: Seen, moving: Seen, found: Found, timings: dict[str, float], number: int
    ) -> dict[str, Any]:
        inlier = found.off < INLIER_PX
        with stopwatch(timings, "quality"):
            numbers = judged(
                fixed, moving, found.transform, _measured(fixed, moving, found, inlier) | {"attempts": number}
            )
        return {
            "status": numbers.pop("status"), "confidence": numbers.pop("confidence"), "quality": numbers,
            "transform": None if found.transform is None else kind_and_params(found.transform), "field": found.field,
            "fixed_xy": found.fixed, "moving_xy": found.moving, "score": found.score, "inlier": inlier,
            "rung": number - 1, "attempts": 1, "fixed_pose": (1.0, 0, False), "moving_pose": (1.0, 0, False),
        }  # fmt: skip

    def _estimated(self, fixed: Seen, moving: Seen, frame: Framed, shown: Framed, affine: Tensor) -> Found:
        """From a map (1, 2, 3) between the frames of FIXED and of MOVING on."""
        for _ in range(STEPS):
            warped = self.network.warped(shown.planes, shown.masks, affine)
            step, _ = arbicon.fit(*self.network.agreed(frame.look, warped).lists())
            affine = arbicon.compose(step, affine)
        for _ in range(FINE_STEPS):
            known, warped = affine, self.network.warped(shown.planes, shown.masks, affine)
            at_fixed, at_moving, score = _mutual_best(frame, warped)
            weight = torch.from_numpy(score)[None]
            step, _ = arbicon.fit(weight, at_fixed.float()[None], at_moving.float()[None], arbicon.NEAR)
            affine = arbicon.compose(step, known)
        source, refined = (
            Transform.from_matrix(found[0].double().numpy(), "affine") @ shown.frame_of_input
            for found in (known, affine)
        )
        transform = frame.frame_of_input.inverse @ refined
        field = None
        if self.transform != "affine":
            code = self.network.code(self.network.agreed(frame.look, warped))
            field = self._field(fixed, moving, frame, transform, _values(self.network, code, step))
        fixed_px = frame.frame_of_input.inverse(at_fixed.numpy())
        moving_px = source.inverse(at_moving.numpy())
        off = np.linalg.norm(transform(moving_px) - fixed_px, axis=1) * fixed.network.scale
        return Found(transform, field, fixed_px, moving_px, score, off)

    def _by_size(self, fixed: Seen, moving: Seen) -> Start:
        whole = fixed.sizes[0]
        f, m, affine = self._best([(fixed.sizes[i], moving.sizes[j]) for i, j in STARTS])
        grown = (whole.frame_of_input @ f.frame_of_input.inverse).params[None, :2]
        return whole, m, arbicon.compose(torch.tensor(grown).float(), affine)

    def _by_window(self, fixed: Seen, moving: Seen) -> Start:
        of_fixed = [(window, moving.sizes[0]) for window in fixed.windows]
        of_moving = [(fixed.sizes[0], window) for window in moving.windows]
        return self._best(of_fixed + of_moving or [(fixed.sizes[0], moving.sizes[0])])

    def _best(self, pairs: list[tuple[Framed, Framed]]) -> Start:
        """The pair of frames on whose map most agrees."""
        maps = [arbicon.fit(*self.network.agreed(f.look, m.look).lists()) for f, m in pairs]
        best = max(range(len(pairs)), key=lambda i: float(maps[i][1]))
        return *pairs[best], maps[best][0]

    def _field(self, fixed: Seen, moving: Seen, frame: Framed, transform: Transform, values: Floats) -> Field | None:
        """Of the dense stage, in px of FIXED; None where it folds, or is not wanted."""
        control = unfolded(interpolating(values))
        if control is None:
            return None
        network_of_frame = fixed.network_of_input @ frame.frame_of_input.inverse
        base = fixed.network_of_input @ transform @ moving.network_of_input.inverse
        bent = Transform("dense", *scaled(control, network_of_frame)) @ base
        if self.transform == "auto" and self._agreement(fixed, moving, bent) <= self._agreement(fixed, moving, base):
            return None
        return scaled(control, frame.frame_of_input.inverse)

    def _agreement(self, fixed: Seen, moving: Seen, transform: Transform) -> float:
        """Correlation of the ridges under a map between the network's planes."""
        height, width = fixed.network.plane.shape
        plane = ops.warp(moving.network.plane, transform, (width, height), threads=self.threads)
        mask = ops.warp(moving.network.mask, transform, (width, height), interpolation="nearest", threads=self.threads)
        ridges = ops.ridges(plane.image, mask.image, threads=self.threads)
        return ops.ridge_correlation(fixed.ridges, ridges, Transform.identity(), threads=self.threads)[0]


def _values(network: Arbicon, code: Tensor, step: Tensor) -> Floats:
    """(CONTROLS, CONTROLS, 2) of the field over FIXED's frame, after the last ``step`` (1, 2, 3): frame units."""
    axis = torch.linspace(-1, 1, CONTROLS)
    points = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), -1).reshape(1, -1, 2)
    before = arbicon.apply(arbicon.invert(step), points)
    values = before + network.displacement(before, code) - points
    return values[0].double().numpy().reshape(CONTROLS, CONTROLS, 2)


def interpolating(values: Floats) -> Floats:
    """Control displacements (rows, columns, 2) of the B-spline that has these values at the control points."""
    rows, columns = (np.linalg.inv((4 * np.eye(n) + np.eye(n, k=1) + np.eye(n, k=-1)) / 6) for n in values.shape[:2])
    return np.asarray(np.einsum("ir,rck,jc->ijk", rows, values, columns))


def unfolded(control: Floats) -> Floats | None:
    """The largest share of a field over the frame that does not fold; None where none helps."""
    for share in SHARES:
        if displacement.least_jacobian(share * control, (-1.0, -1.0, 1.0, 1.0))[0] > LEAST_JACOBIAN:
            return share * control
    return None


def scaled(control: Floats, px_of_frame: Transform) -> Field:
    """A field over the frame in frame units, in the px of an image (``px_of_frame``: a scale and a shift)."""
    (x0, y0), (x1, y1) = px_of_frame([[-1.0, -1.0], [1.0, 1.0]])
    return control * (x1 - x0) / 2, (float(x0), float(y0), float(x1), float(y1))


def _shown(look: Look) -> tuple[Tensor, Floats32, Floats32]:
    """Places (K, 2; frame units), rows and trust of the cells that show a vessel, the most trusted first."""
    trust = look.trust[0].flatten()
    keep = torch.argsort(-trust, stable=True)[: min(int((trust >= VESSEL).sum()), MOST_CELLS)]
    rows = look.rows[0].flatten(1).T[keep].contiguous()
    return arbicon.cell_centres(look.trust.shape[1])[keep].double(), rows.numpy(), trust[keep].numpy()


def _vessel_cells(framed: Framed) -> Features:
    places, rows, trust = _shown(framed.look)
    return Features(framed.frame_of_input.inverse(places.numpy()).astype(np.float32), rows, trust, FRAME_PX)


def _mutual_best(fixed: Framed, moving: Look) -> tuple[Tensor, Tensor, Floats32]:
    """Places (M, 2) in FIXED's frame and in warped MOVING's, and their cosines; best first."""
    f_xy, f_rows, _ = _shown(fixed.look)
    m_xy, m_rows, _ = _shown(moving)
    if not len(f_xy) or not len(m_xy):
        return f_xy[:0], m_xy[:0], np.zeros(0, np.float32)
    found = ops.match(f_rows, m_rows)
    return f_xy[torch.from_numpy(found.fixed).long()], m_xy[torch.from_numpy(found.moving).long()], found.score


def _measured(fixed: Seen, moving: Seen, found: Found, inlier: NDArray[np.bool_]) -> dict[str, Any]:
    """What the quality room asks of the matches; lengths in px of FIXED's network plane."""
    occupied = [set(map(tuple, _bins(found.fixed)[keep])) for keep in (np.ones_like(inlier), inlier)]
    return {
        "matches": len(inlier), "inliers": int(inlier.sum()),
        "inlier_rms_px": float(np.sqrt(np.mean(found.off[inlier] ** 2))) if inlier.any() else 0.0,
        "coverage": len(occupied[1]) / max(len(occupied[0]), 1),
        "keypoints_fixed": len(fixed.keypoints), "keypoints_moving": len(moving.keypoints),
    }  # fmt: skip


def _bins(points: Floats) -> NDArray[np.int64]:
    """Which of the cells over their bounding box each point is in."""
    if not len(points):
        return np.zeros((0, 2), np.int64)
    low, high = points.min(0), points.max(0)
    share = (points - low) / np.maximum(high - low, 1e-9)
    return np.minimum(share * COVERAGE_CELLS, COVERAGE_CELLS - 1).astype(np.int64)
