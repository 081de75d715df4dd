"""The panels: checkerboard, overlay, matches, where the detector looked in both images, and the expected error."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastretina.report.scene import Picture, Scene, luminance
from fastretina.uncertainty import error_map

_BAR = 34  # px, height of a panel's label
_GAP = 6
_PAPER, _INK = (250, 250, 250), (25, 25, 25)
_INLIER, _OUTLIER, _KEYPOINT = (60, 220, 90), (235, 80, 60), (80, 235, 255)
_FIXED_HUE, _WARPED_HUE = np.array([1.0, 0.25, 0.55]), np.array([0.0, 0.75, 0.45])  # they add up to white
_TILES = 8  # of the checkerboard, along the longer side
_MAX_LINES = 200  # more would hide the picture; the points are all drawn


def overlay_panels(scene: Scene) -> Picture:
    """All panels in one picture. A refused pair has no checkerboard and no overlay."""
    rows = []
    if scene.warped is not None:
        rows.append([_labelled(checkerboard(scene), "checkerboard: fixed | warped moving"),
                     _labelled(colour_overlay(scene), "overlay: fixed magenta, warped moving green")])  # fmt: skip
    inliers = int(scene.result.inliers.sum())
    rows.append(
        [_labelled(matches(scene), f"matches: {len(scene.result.matches)}, of these {inliers} inliers (green)")]
    )
    rows.append([
        _labelled(heatmap(scene, "fixed"), f"fixed: detector, {len(scene.result.keypoints_fixed)} keypoints"),
        _labelled(heatmap(scene, "moving"), f"moving: detector, {len(scene.result.keypoints_moving)} keypoints"),
    ])  # fmt: skip
    if scene.warped is not None:
        rows.append(expected_error(scene))
    return _stack(rows)


def checkerboard(scene: Scene) -> Picture:
    """Tiles of FIXED and of warped MOVING in turn; vessels run on across the borders if the transform is right."""
    assert scene.warped is not None
    assert scene.valid is not None
    height, width = scene.fixed.shape[:2]
    tile = -(-max(height, width) // _TILES)
    y, x = np.mgrid[:height, :width]
    other = ((x // tile + y // tile) % 2 == 1) & scene.valid
    return np.where(other[..., None], scene.warped, scene.fixed)


def colour_overlay(scene: Scene) -> Picture:
    """FIXED in one hue, warped MOVING in its complement."""
    assert scene.warped is not None
    assert scene.valid is not None
    warped = np.where(scene.valid, luminance(scene.warped), 0)
    mixed = luminance(scene.fixed)[..., None] * _FIXED_HUE + warped[..., None] * _WARPED_HUE
    return np.asarray(np.clip(mixed, 0, 255), dtype=np.uint8)


def matches(scene: Scene) -> Picture:
    """Both images side by side; inliers are joined by a green line, the other matches by a faint red one."""
    import cv2

    height = max(scene.fixed.shape[0], scene.moving.shape[0])
    left, right = (_padded(p, height, p.shape[1], (0, 0, 0)) for p in (scene.fixed, scene.moving))
    gap = np.full((height, _GAP, 3), _PAPER, np.uint8)
    canvas = np.ascontiguousarray(np.hstack([left, gap, right]) * 0.75).astype(np.uint8)
    start = scene.fixed_points(scene.result.matches[:, :2])
    end = scene.moving_points(scene.result.matches[:, 2:])
    end[:, 0] += left.shape[1] + _GAP
    inliers = scene.result.inliers
    for chosen, colour in ((~inliers, _OUTLIER), (inliers, _INLIER)):
        index = np.flatnonzero(chosen)
        drawn = canvas.copy()
        for i in index[:: max(1, -(-len(index) // _MAX_LINES))]:
            cv2.line(drawn, _pixel(start[i]), _pixel(end[i]), colour, 1, cv2.LINE_AA)
        weight = 0.35 if colour == _OUTLIER else 0.6
        canvas = np.asarray(cv2.addWeighted(drawn, weight, canvas, 1 - weight, 0), dtype=np.uint8)
        for i in index:
            for point in (start[i], end[i]):
                cv2.circle(canvas, _pixel(point), 2, colour, -1, cv2.LINE_AA)
    return canvas


def heatmap(scene: Scene, which: str) -> Picture:
    """One image, darkened, with the detector's map in colour and its keypoints."""
    import cv2

    fixed = which == "fixed"
    picture = scene.fixed if fixed else scene.moving
    map_ = scene.result.heatmap_fixed if fixed else scene.result.heatmap_moving
    keypoints = scene.result.keypoints_fixed if fixed else scene.result.keypoints_moving
    canvas = np.repeat(luminance(picture)[..., None], 3, axis=2) * 0.6
    if map_ is not None and map_.size:
        strength = cv2.resize(_unit(map_), (picture.shape[1], picture.shape[0]), interpolation=cv2.INTER_LINEAR)
        colours = cv2.applyColorMap((strength * 255).astype(np.uint8), cv2.COLORMAP_INFERNO)[..., ::-1]
        canvas = canvas * (1 - 0.8 * strength[..., None]) + colours * (0.8 * strength[..., None])
    drawn = np.ascontiguousarray(np.clip(canvas, 0, 255).astype(np.uint8))
    for point in scene.fixed_points(keypoints) if fixed else scene.moving_points(keypoints):
        cv2.circle(drawn, _pixel(point), 2, _KEYPOINT, 1, cv2.LINE_AA)
    return drawn


def expected_error(scene: Scene) -> list[Picture]:
    """FIXED, darkened, with the expected error in colour where MOVING shows something, and the inliers; its scale."""
    import cv2

    map_ = error_map(scene.result, (scene.fixed.shape[1], scene.fixed.shape[0]))
    seen = np.isfinite(map_)
    low, high = (float(v) for v in np.percentile(map_[seen], (0, 98))) if seen.any() else (0.0, 1.0)
    high = max(high, low + 1e-6)
    level = (255 * np.clip((np.nan_to_num(map_) - low) / (high - low), 0, 1)).astype(np.uint8)
    colours = cv2.applyColorMap(level, cv2.COLORMAP_VIRIDIS)[..., ::-1]
    gray = np.repeat(luminance(scene.fixed)[..., None], 3, axis=2) * 0.6
    canvas = np.where(seen[..., None], 0.5 * gray + 0.5 * colours, gray).astype(np.uint8)
    for point in scene.fixed_points(scene.result.matches[scene.result.inliers, :2]):
        cv2.circle(canvas, _pixel(point), 2, _INLIER, 1, cv2.LINE_AA)
    middle = float(np.median(map_[seen])) if seen.any() else 0.0
    panel = _labelled(canvas, f"expected error: median {middle:.2f} px of the fixed image; inliers")
    return [panel, _scale(low, high, canvas.shape[0])]


def _scale(low: float, high: float, height: int) -> Picture:
    """A colour bar: ``high`` px on top, ``low`` px at the bottom."""
    import cv2

    bar = np.full((height + _BAR, 110, 3), _PAPER, np.uint8)
    ramp = np.repeat(np.linspace(255, 0, height).astype(np.uint8)[:, None], 24, axis=1)
    bar[_BAR:, 6:30] = cv2.applyColorMap(ramp, cv2.COLORMAP_VIRIDIS)[..., ::-1]
    for value, y in ((high, _BAR + 14), ((low + high) / 2, _BAR + height // 2), (low, _BAR + height - 4)):
        cv2.putText(bar, f"{value:.2f} px", (36, y), cv2.FONT_HERSHEY_SIMPLEX, 0.42, _INK, 1, cv2.LINE_AA)
    return bar


def _unit(map_: NDArray[Any]) -> NDArray[np.float32]:
    """A map of any range as 0 ... 1: the median is nothing, the top per mille is everything."""
    low, high = (float(v) for v in np.percentile(map_, (50, 99.9)))
    return np.clip((map_ - low) / max(high - low, 1e-12), 0, 1).astype(np.float32)


def _pixel(point: NDArray[np.float64]) -> tuple[int, int]:
    x, y = np.clip(np.rint(point), -(2**15), 2**15)
    return int(x), int(y)


def _padded(picture: Picture, height: int, width: int, colour: tuple[int, int, int]) -> Picture:
    canvas = np.full((height, width, 3), colour, np.uint8)
    canvas[: picture.shape[0], : picture.shape[1]] = picture
    return canvas


def _labelled(picture: Picture, text: str) -> Picture:
    import cv2

    bar = np.full((_BAR, picture.shape[1], 3), _PAPER, np.uint8)
    font, scale = cv2.FONT_HERSHEY_SIMPLEX, 0.6
    while scale > 0.3 and cv2.getTextSize(text, font, scale, 1)[0][0] > picture.shape[1] - 12:
        scale -= 0.05
    cv2.putText(bar, text, (6, _BAR - 11), font, scale, _INK, 1, cv2.LINE_AA)
    return np.vstack([bar, picture])


def _stack(rows: list[list[Picture]]) -> Picture:
    """Panels in rows, with gaps, on paper."""
    strips = []
    for row in rows:
        height = max(p.shape[0] for p in row)
        cells = [_padded(p, height, p.shape[1], _PAPER) for p in row]
        gap = np.full((height, _GAP, 3), _PAPER, np.uint8)
        strips.append(np.hstack([piece for cell in cells for piece in (gap, cell)][1:]))
    width = max(s.shape[1] for s in strips)
    gap = np.full((_GAP, width, 3), _PAPER, np.uint8)
    padded = [_padded(s, s.shape[0], width, _PAPER) for s in strips]
    return np.vstack([piece for strip in padded for piece in (gap, strip)][1:])
