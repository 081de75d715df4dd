"""The network's input: one plane, locally normalised.  Same definition as the ``image`` room (``docs/TRAINING.md``).

The local mean is subtracted and the local deviation divided out, so that shading and gain vanish and one network serves
every modality.  Statistics live on 4x4-pixel cells; two passes of a 7x7-cell box give a window of about 50 px.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch
import torch.nn.functional as functional
from torch import Tensor

from fastretina.errors import InvalidInput

CELL_PX = 4
BOX_CELLS = 7
DARK_FRACTION = 0.05
DARK_QUANTILE = 0.95
ERODE_PX = 3
CLIP = 4.0
GLOBAL_SD_WEIGHT = 0.1
SD_FLOOR = 0.002


def plane_of(image: np.ndarray) -> np.ndarray:
    """uint8 or uint16 ``(H, W)`` or RGB ``(H, W, 3)``, or float32 in [0, 1] → float32 plane in [0, 1]; green of RGB."""
    if image.ndim == 3 and image.shape[2] == 3:
        image = image[..., 1]
    if image.ndim != 2 or image.size == 0:
        raise InvalidInput(f"image: expected (H, W) or (H, W, 3), got {image.shape}")
    if image.dtype == np.uint8:
        return image.astype(np.float32) / 255.0
    if image.dtype == np.uint16:
        return image.astype(np.float32) / 65535.0
    if image.dtype == np.float32:
        return image
    raise InvalidInput(f"image: expected uint8, uint16 or float32, got {image.dtype}")


def resize_longer(plane: np.ndarray, working_size: int) -> np.ndarray:
    """Resize ``(H, W)`` so that the longer side is ``working_size``: area average down, bilinear up."""
    height, width = plane.shape
    scale = working_size / max(height, width)
    shape = (max(1, round(width * scale)), max(1, round(height * scale)))
    if shape == (width, height):
        return plane
    return cv2.resize(plane, shape, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)


def _surround_level(plane: np.ndarray) -> float:
    """What is surely not the eye, where the corners are clearly darker than the middle; 0 where they are not."""
    height, width = plane.shape
    side = max(1, min(height, width) // 16)
    rows = np.concatenate([plane[:side], plane[-side:]])
    brightest = 1.5 * float(np.quantile(np.concatenate([rows[:, :side], rows[:, -side:]], 1), 0.99))
    middle = plane[height // 4 : height - height // 4 : 4, width // 4 : width - width // 4 : 4]
    return brightest if middle.size and brightest < np.quantile(middle, 0.10) else 0.0


def field_of_view(plane: np.ndarray) -> np.ndarray:
    """``(H, W)`` plane → float32 mask, 1 inside the field of view.

    Outside is what is darker than 5 % of the 95th percentile, or than the surround that the corners show, and
    4-connected to the frame; then 3 px are eroded (the frame itself does not erode).
    """
    threshold = max(DARK_FRACTION * np.quantile(plane, DARK_QUANTILE), _surround_level(plane))
    dark = (plane < threshold).astype(np.uint8)
    count, label = cv2.connectedComponents(dark, connectivity=4)
    frame = np.concatenate([label[0], label[-1], label[:, 0], label[:, -1]])
    outside = np.zeros(count, np.bool_)
    outside[frame] = True
    outside[0] = False
    valid = (~outside[label]).astype(np.uint8)
    window = np.ones((2 * ERODE_PX + 1, 2 * ERODE_PX + 1), np.uint8)
    return cv2.erode(valid, window, borderType=cv2.BORDER_CONSTANT, borderValue=1).astype(np.float32)


def _box(cells: Tensor) -> Tensor:
    """Two passes of a 7x7 box sum over ``(N, C, h, w)``, zero outside."""
    pad = BOX_CELLS // 2
    area = BOX_CELLS * BOX_CELLS
    for _ in range(2):
        cells = functional.avg_pool2d(cells, BOX_CELLS, 1, pad, count_include_pad=True) * area
    return cells


def normalise(planes: Tensor, masks: Tensor) -> Tensor:
    """Locally normalise ``planes`` ``(N, 1, H, W)`` in [0, 1] inside ``masks`` (same shape, 1 = valid).

    Returns float32 of the same shape in [-4, 4], 0 outside the mask.  Any ``H`` and ``W``.
    """
    if planes.shape != masks.shape or planes.ndim != 4 or planes.shape[1] != 1:
        raise InvalidInput(f"planes, masks: expected two tensors (N, 1, H, W), got {planes.shape} and {masks.shape}")
    height, width = planes.shape[2:]
    pad = (0, -width % CELL_PX, 0, -height % CELL_PX)
    weight = functional.pad(masks, pad)
    image = functional.pad(planes, pad)
    # Centring makes s2/s0 - mean² exact enough in float32 and changes no result.
    centre = (image * weight).sum((2, 3), keepdim=True) / weight.sum((2, 3), keepdim=True).clamp_min(1)
    image = (image - centre) * weight
    sums = functional.avg_pool2d(torch.cat([weight, image, image * image], 1), CELL_PX) * CELL_PX**2
    inside = sums[:, :1] > 0
    blurred = _box(sums)
    s0 = blurred[:, :1]
    seen = s0 > 0.5  # sums of ones: below one pixel is rounding
    safe = torch.where(seen, s0, torch.ones_like(s0))
    mean = torch.where(seen, blurred[:, 1:2] / safe, 0.0)
    variance = torch.where(seen, blurred[:, 2:] / safe - mean * mean, 0.0)
    sd = variance.clamp_min(0).sqrt()
    global_sd = (sd * inside).sum((2, 3), keepdim=True) / inside.sum((2, 3), keepdim=True).clamp_min(1)
    up = functional.interpolate(
        torch.cat([mean, sd], 1), scale_factor=float(CELL_PX), mode="bilinear", align_corners=False
    )
    up = up[:, :, :height, :width]
    centred = planes - centre - up[:, :1]
    scale = up[:, 1:] + GLOBAL_SD_WEIGHT * global_sd + SD_FLOOR
    return masks * (centred / scale).clamp(-CLIP, CLIP)


def pad_to(planes: Tensor, multiple: int) -> Tensor:
    """Zero-pad ``(N, C, H, W)`` at the right and bottom to a multiple."""
    height, width = planes.shape[2:]
    return functional.pad(planes, (0, -width % multiple, 0, -height % multiple))


def network_input(image: np.ndarray, working_size: int, multiple: int) -> tuple[Tensor, np.ndarray]:
    """A whole image → network input ``(1, 1, H', W')`` and the mask ``(H, W)`` at the working size."""
    plane = resize_longer(plane_of(image), working_size)
    mask = field_of_view(plane)
    planes = normalise(torch.from_numpy(plane)[None, None], torch.from_numpy(mask)[None, None])
    return pad_to(planes, multiple), mask
