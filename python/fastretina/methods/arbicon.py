"""Registration by one network that sees both images: an affine map, looked at again, and a smooth field on top.

After document B (Dong, Nie & Wei 2022; ``networks/arbicon.py``). There are no key points and no RANSAC: the network
says what the map is. It knows moderate turns and scales, and starts from a few scales of MOVING here. Which map is the
answer, and whether to trust it, is what the vessels say: the correlation of the ridges, and the quality room.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastretina import displacement, ops
from fastretina.config import Config
from fastretina.errors import InvalidInput
from fastretina.methods import keypoints
from fastretina.methods.keypoints import Features, Floats32, core_transform, judged, stopwatch
from fastretina.networks import arbicon
from fastretina.networks.arbicon import FRAME_PX, Arbicon, Look
from fastretina.transform import Transform

STARTS = (1.0, 2 / 3, 1.5)  # scales of MOVING
AFFINE_STEPS = 6
CONTROLS = 8  # of the field, a side
SHARES, LEAST_JACOBIAN = (1.0, 0.7, 0.5, 0.3), 0.2  # of a field that are tried until it is far from folding
KINDS = ("auto", "affine", "dense")
INLIER_PX, REACH_PX = 5.0, 16  # how far the vessels of a cell may lie apart, and how far is looked; network px
COVERAGE_CELLS = 8  # as csrc/estimate counts coverage

Floats = NDArray[np.float64]
Field = tuple[Floats, displacement.Rectangle]


class Framed(NamedTuple):
    """An image in the middle of the network's frame."""

    planes: Tensor  # (1, 1, FRAME_PX, FRAME_PX)
    masks: Tensor
    look: Look
    frame_of_input: Transform  # px -> frame units
    content: tuple[slice, slice]  # rows and columns of the frame that show the image


class Seen(keypoints.Seen):
    """One prepared image. Its key points are the centres of the network's cells inside its field of view."""

    def __init__(self, image: NDArray[Any], framed: Framed, threads: int) -> None:
        self.framed = framed
        super().__init__(image, lambda *_: _cells(framed), threads, keypoints.Look())

    @property
    def heatmap(self) -> Floats32:  # type: ignore[override]
        """(h, w): where the network sees vessels, over the whole image."""
        shown: Floats32 = torch.sigmoid(self.framed.look.vessels[0, 0])[self.framed.content].numpy()
        return shown


class Matched(NamedTuple):
    """Cells of both images that are each other's best under a map, best first."""

    fixed: Floats  # (M, 2) px: where the vessels of MOVING's cell are found
    moving: Floats  # (M, 2) px
    score: Floats32  # (M,) cosines
    inlier: NDArray[np.bool_]
    off: Floats  # (M,) how far the map is from that, px of FIXED's network plane


class Pipeline:
    """``transform``: "affine" ends after the affine stage; "auto" and "dense" go on."""

    def __init__(self, network: Arbicon, weights_hash: str, config: Config, threads: int) -> None:
        if config.transform not in KINDS:
            raise InvalidInput(f"transform: got {config.transform!r}; allowed for 'arbicon': {', '.join(KINDS)}")
        self.network, self.threads, self.bends = network.eval(), threads, config.transform != "affine"
        self.weights_hash = weights_hash
        self.choices: dict[str, Any] = {"network": "arbicon", "engine": "torch", "precision": "f32"}

    def prepare(self, image: NDArray[Any]) -> Seen:
        """As ``Registrar.prepare``."""
        small = ops.image(image, working_size=FRAME_PX, threads=self.threads)
        width, height = small.content_size
        left, top = (FRAME_PX - width) // 2, (FRAME_PX - height) // 2
        content = slice(top, top + height), slice(left, left + width)
        planes, masks = torch.zeros(2, 1, 1, FRAME_PX, FRAME_PX)
        planes[0, 0][content] = torch.from_numpy(small.plane[:height, :width].copy())
        masks[0, 0][content] = torch.from_numpy(small.mask[:height, :width].astype(np.float32))
        s = small.scale * 2 / FRAME_PX
        x0, y0 = ((0.5 * small.scale + aside) * 2 / FRAME_PX - 1 for aside in (left, top))
        frame = Transform.from_matrix([[s, 0, x0], [0, s, y0]])
        with _running(self.threads):
            look = self.network.look(planes, masks)
        return Seen(image, Framed(planes, masks, look, frame, content), self.threads)

    def register(self, fixed: Seen, moving: Seen) -> dict[str, Any]:
        """What ``torch_path.pipeline`` returns, by the same names."""
        timings = dict.fromkeys(keypoints.ROOMS, 0.0)
        affine, field = torch.eye(2, 3)[None], None
        found = bool(len(fixed.keypoints) and len(moving.keypoints))
        with stopwatch(timings, "estimate"), _running(self.threads):
            if found:
                affine = self._aligned(fixed, moving)
            matched = self._matched(fixed, moving, affine)
            if found and self.bends:
                field = self._field(fixed, moving, affine)
        transform = between(fixed, moving, affine) if found else None
        with stopwatch(timings, "quality"):
            numbers = judged(fixed, moving, transform, _measured(fixed, moving, matched))
        return {
            "status": numbers.pop("status"), "confidence": numbers.pop("confidence"), "quality": numbers,
            "transform": None if transform is None else core_transform(transform), "field": field,
            "fixed_xy": matched.fixed, "moving_xy": matched.moving, "score": matched.score,
            "inlier": matched.inlier, "rung": 0, "attempts": len(STARTS),
            "fixed_pose": (1.0, 0, False), "moving_pose": (1.0, 0, False), "timings_ms": timings,
        }  # fmt: skip

    def _aligned(self, fixed: Seen, moving: Seen) -> Tensor:
        """The affine map (1, 2, 3) of all steps from all starts under which the ridges agree best."""
        found = []
        for scale in STARTS:
            start = torch.tensor([[[scale, 0, 0], [0, scale, 0]]], dtype=torch.float32)
            known = self.network.align(
                fixed.framed.look, moving.framed.planes, moving.framed.masks, start, AFFINE_STEPS
            )
            found += [start, *known]
        return max(found, key=lambda affine: self._agreement(fixed, moving, affine))

    def _agreement(self, fixed: Seen, moving: Seen, affine: Tensor) -> float:
        network = _network_map(fixed, moving, affine)
        correlation, overlap_px = ops.ridge_correlation(fixed.ridges, moving.ridges, network, threads=self.threads)
        return correlation * overlap_px**0.5  # a small overlap is likelier to agree by chance

    def _matched(self, fixed: Seen, moving: Seen, affine: Tensor) -> Matched:
        """The correlation's mutual best under a map, and how far their vessels lie apart."""
        warped = self.network.warped(moving.framed.planes, moving.framed.masks, affine)
        g = self.network.size.grid
        cosines = arbicon.correlate(fixed.framed.look.cells, warped.cells)[0, 0].reshape(g * g, g * g)
        best = cosines.argmax(0)  # FIXED's cell for each of MOVING's
        mutual = (cosines.argmax(1)[best] == torch.arange(g * g)) & (cosines.amax(0) > 0)
        cells = torch.nonzero(mutual)[:, 0]
        cells = cells[torch.argsort(-cosines[best[cells], cells], stable=True)]
        centres, px = arbicon.cell_centres(g), fixed.network_of_input @ fixed.framed.frame_of_input.inverse
        here, partner = (px(centres[index].double().numpy()) for index in (cells, best[cells]))
        ridges = self._warped_ridges(fixed, moving, _network_map(fixed, moving, affine))
        cell_px = px.params[0, 0] * 2 / g
        shift = _shifts(_strength(fixed.ridges), _strength(ridges), here, round(cell_px / 2))
        near = np.abs(partner - here).max(1, initial=0) < 1.5 * cell_px if len(here) else np.zeros(0, bool)
        off = np.where(near, np.linalg.norm(shift, axis=1), np.linalg.norm(partner - here, axis=1))
        source = moving.framed.frame_of_input.inverse(
            arbicon.apply(arbicon.invert(affine), centres[cells][None])[0].double().numpy()
        )
        return Matched(
            fixed.network_of_input.inverse(np.where(near[:, None], here + shift, partner)), source,
            cosines[best[cells], cells].numpy(), off < INLIER_PX, off,
        )  # fmt: skip

    def _field(self, fixed: Seen, moving: Seen, affine: Tensor) -> Field | None:
        """Of the dense stage, in px of FIXED; None where the ridges do not agree better with it than without."""
        code = self.network.code(
            fixed.framed.look, self.network.warped(moving.framed.planes, moving.framed.masks, affine)
        )
        axis = torch.linspace(-1, 1, CONTROLS)
        points = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), -1).reshape(1, -1, 2)
        values = self.network.displacement(points, code)[0].double().numpy().reshape(CONTROLS, CONTROLS, 2)
        control = unfolded(interpolating(values))
        if control is None:
            return None
        scores = []
        for share in (0.0, 1.0):
            field = scaled(control * share, fixed.network_of_input @ fixed.framed.frame_of_input.inverse)
            bent = Transform("dense", *field) @ _network_map(fixed, moving, affine)
            ridges = self._warped_ridges(fixed, moving, bent)
            scores.append(ops.ridge_correlation(fixed.ridges, ridges, Transform.identity(), threads=self.threads)[0])
        return scaled(control, fixed.framed.frame_of_input.inverse) if scores[1] > scores[0] else None

    def _warped_ridges(self, fixed: Seen, moving: Seen, transform: Transform) -> ops.Ridges:
        """Of MOVING as a map between the network's planes warps it."""
        height, width = fixed.network.plane.shape
        plane = ops.warp(moving.network.plane, transform, (width, height), threads=self.threads)
        mask = ops.warp(moving.network.mask, transform, (width, height), interpolation="nearest", threads=self.threads)
        return ops.ridges(plane.image, mask.image, threads=self.threads)


def between(fixed: Seen, moving: Seen, affine: Tensor) -> Transform:
    """A map (1, 2, 3) of frame units between the images' px."""
    frames = Transform.from_matrix(affine[0].double().numpy(), "affine")
    return fixed.framed.frame_of_input.inverse @ frames @ moving.framed.frame_of_input


def _network_map(fixed: Seen, moving: Seen, affine: Tensor) -> Transform:
    """The same between the planes at the network's scale."""
    return fixed.network_of_input @ between(fixed, moving, affine) @ moving.network_of_input.inverse


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


def _cells(framed: Framed) -> Features:
    """Centres and rows of the cells that are at least half inside the field of view."""
    rows = framed.look.cells[0].permute(1, 2, 0).reshape(-1, framed.look.cells.shape[1])
    grid = framed.look.cells.shape[2]
    shown = rows.norm(dim=1)  # the share of the cell that is seen
    keep = torch.argsort(-shown, stable=True)[: int((shown >= 0.5).sum())]
    xy = framed.frame_of_input.inverse(arbicon.cell_centres(grid)[keep].double().numpy()).astype(np.float32)
    return Features(xy, rows[keep].numpy(), shown[keep].numpy(), FRAME_PX)


def _measured(fixed: Seen, moving: Seen, matched: Matched) -> dict[str, Any]:
    """What the quality room asks of the matches; lengths in px of FIXED's network plane."""
    inlier = matched.inlier
    occupied = [set(map(tuple, _bins(matched.fixed)[keep])) for keep in (np.ones_like(inlier), inlier)]
    return {
        "matches": len(inlier), "inliers": int(inlier.sum()),
        "inlier_rms_px": float(np.sqrt(np.mean(matched.off[inlier] ** 2))) if inlier.any() else 0.0,
        "coverage": len(occupied[1]) / max(len(occupied[0]), 1),
        "keypoints_fixed": len(fixed.keypoints), "keypoints_moving": len(moving.keypoints), "attempts": len(STARTS),
    }  # fmt: skip


def _bins(points: Floats) -> NDArray[np.int64]:
    """Which of the cells over their bounding box each point is in."""
    if not len(points):
        return np.zeros((0, 2), np.int64)
    low, high = points.min(0), points.max(0)
    share = (points - low) / np.maximum(high - low, 1e-9)
    return np.minimum(share * COVERAGE_CELLS, COVERAGE_CELLS - 1).astype(np.int64)


def _strength(ridges: ops.Ridges) -> Floats32:
    """(h, w) in [0, 255]: the lowest byte of the finest level."""
    return (ridges.full & 255).astype(np.float32)


def _shifts(fixed: Floats32, moving: Floats32, at: Floats, half_px: int) -> Floats:
    """(M, 2) px: how far beside (M, 2) the window of MOVING about a point is most like FIXED, at most ``REACH_PX``.

    The largest zero-mean normalised correlation. As far as one looks where a window shows no vessel, or leaves FIXED.
    """
    import cv2

    shifts = np.full((len(at), 2), float(REACH_PX))
    wide = half_px + REACH_PX
    around = cv2.copyMakeBorder(fixed, wide, wide, wide, wide, cv2.BORDER_CONSTANT)
    inside = cv2.copyMakeBorder(moving, half_px, half_px, half_px, half_px, cv2.BORDER_CONSTANT)
    for i, (x, y) in enumerate(np.clip(np.rint(at).astype(int), 0, np.array(fixed.shape[::-1]) - 1)):
        window = inside[y : y + 2 * half_px + 1, x : x + 2 * half_px + 1]
        search = around[y : y + 2 * wide + 1, x : x + 2 * wide + 1]
        if window.size and window.std() > 1 and search.std() > 1:
            likeness = cv2.matchTemplate(search, window, cv2.TM_CCOEFF_NORMED)
            row, column = np.unravel_index(int(np.nan_to_num(likeness).argmax()), likeness.shape)
            shifts[i] = column - REACH_PX, row - REACH_PX
    return shifts


@contextmanager
def _running(threads: int) -> Iterator[None]:
    """Inference on that many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with torch.inference_mode():
            yield
    finally:
        torch.set_num_threads(before)
