"""Room image in PyTorch: the masks of the compiled core, intensities within 1e-6, normalised values within 1e-3."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as functional
from torch import Tensor

CELL_PX = 4
BOX_CELLS = 7
GLOBAL_SD_WEIGHT = 0.1
SD_FLOOR = 0.002
LUMA = (0.299, 0.587, 0.114)
U16_UNITS = (1023, 4095, 16383, 65535)


class NetworkImage(NamedTuple):
    """See :class:`fastretina.ops.NetworkImage`."""

    plane: Tensor
    mask: Tensor
    gray: Tensor
    scale: float
    contrast: float


def _intensities(image: Tensor) -> tuple[Tensor, float]:
    """Stored values of the one plane, and the unit that makes them [0, 1]."""
    unit = {torch.uint8: 255.0, torch.float32: 1.0}.get(image.dtype)
    if unit is None:
        unit = float(next(u for u in U16_UNITS if int(image.to(torch.int32).max()) <= u))
    plane = image.to(torch.float32)
    if plane.ndim == 3:
        luma = LUMA[0] * plane[..., 0] + LUMA[1] * plane[..., 1] + LUMA[2] * plane[..., 2]
        green = plane[..., 1]
        plane = luma if 8 * green.max() < luma.max() else green
    return plane, unit


def _axis(size: int, out: int, longer: int, working: int) -> Tensor:
    """(out, size) weights: area coverage when shrinking, bilinear and clamped when enlarging."""
    i = torch.arange(out, dtype=torch.float64)[:, None]
    k = torch.arange(size, dtype=torch.float64)[None]
    if working < longer:
        low, high = i * longer / working, ((i + 1) * longer / working).clamp(max=size)
        weights = (torch.minimum(high, k + 1) - torch.maximum(low, k)).clamp_min(0) / (high - low)
    else:
        position = ((2 * i + 1) * longer / (2 * working) - 0.5).clamp(0, size - 1)
        weights = (1 - (position - k).abs()).clamp_min(0)
    return weights.float()


def _resize(image: Tensor, working_size: int) -> Tensor:
    height, width = image.shape[:2]
    longer = max(height, width)
    out_height, out_width = (max(1, int(side * working_size / longer + 0.5)) for side in (height, width))
    plane, unit = _intensities(image)
    plane = _axis(height, out_height, longer, working_size).to(plane.device) @ plane
    plane = plane @ _axis(width, out_width, longer, working_size).to(plane.device).T
    return (plane * (torch.ones(()) / unit)).clamp(0, 1)


def _order_statistic(values: Tensor, percent: int) -> Tensor:
    return values.flatten().kthvalue((values.numel() - 1) * percent // 100 + 1).values


def _surround_level(gray: Tensor) -> Tensor:
    """What is surely not the eye, where the corners show it; 0 where they do not."""
    height, width = gray.shape
    side = max(1, min(height, width) // 16)
    rows = torch.cat([gray[:side], gray[-side:]])
    brightest = 1.5 * _order_statistic(torch.cat([rows[:, :side], rows[:, -side:]], 1), 99)
    middle = gray[height // 4 : height - height // 4 : 4, width // 4 : width - width // 4 : 4]
    seen = middle.numel() > 0 and bool(brightest < _order_statistic(middle, 10))
    return brightest if seen else torch.zeros_like(brightest)


def field_of_view(gray: Tensor, dark_fraction: float, erode_px: int) -> Tensor:
    """(H, W) intensities -> (H, W) float mask, 1 inside."""
    dark = gray < torch.maximum(dark_fraction * _order_statistic(gray, 95), _surround_level(gray))
    outside = dark.clone()
    outside[1:-1, 1:-1] = False
    reached = -1
    while (count := int(outside.sum())) != reached:  # spread along rows and columns until nothing changes
        reached = count
        grown = outside.clone()
        grown[1:] |= outside[:-1]
        grown[:-1] |= outside[1:]
        grown[:, 1:] |= outside[:, :-1]
        grown[:, :-1] |= outside[:, 1:]
        outside = grown & dark
    window = 2 * erode_px + 1
    return 1 - functional.max_pool2d(outside.float()[None], window, 1, erode_px)[0]


def _box(cells: Tensor) -> Tensor:
    for _ in range(2):
        cells = functional.avg_pool2d(cells, BOX_CELLS, 1, BOX_CELLS // 2) * BOX_CELLS**2
    return cells


def normalise(gray: Tensor, mask: Tensor, clip: float) -> tuple[Tensor, float]:
    """(H, W) intensities and mask -> (H, W) normalised plane and the mean local deviation."""
    height, width = gray.shape
    pad = (0, -width % CELL_PX, 0, -height % CELL_PX)
    shift = (gray * mask).sum() / mask.sum().clamp_min(1)  # changes no result, keeps the variance's digits
    m = functional.pad(mask, pad)
    d = (functional.pad(gray, pad) - shift) * m
    own = functional.avg_pool2d(torch.stack([m, d, d * d])[None], CELL_PX) * CELL_PX**2
    s0, s1, s2 = _box(own)[0]
    seen = s0 > 0.5
    safe = torch.where(seen, s0, 1.0)
    mean = torch.where(seen, s1 / safe, 0.0)
    sd = torch.where(seen, (s2 / safe - mean**2).clamp_min(0).sqrt(), 0.0)
    inside = own[0, 0] > 0.5
    contrast = float(sd[inside].mean()) if bool(inside.any()) else 0.0
    up = functional.interpolate(torch.stack([mean, sd])[None], scale_factor=float(CELL_PX), mode="bilinear")[0]
    up = up[:, :height, :width]
    scale = up[1] + GLOBAL_SD_WEIGHT * contrast + SD_FLOOR
    return mask * ((gray - shift - up[0]) / scale).clamp(-clip, clip), contrast


def image(
    image: Tensor,
    *,
    working_size: int,
    multiple: int,
    dark_fraction: float,
    erode_px: int,
    clip: float,
) -> NetworkImage:
    """(H, W) or (H, W, 3) tensor of uint8, uint16 or float32 -> what the network sees."""
    gray = _resize(image, working_size)
    mask = field_of_view(gray, dark_fraction, erode_px)
    plane, contrast = normalise(gray, mask, clip)
    pad = (0, -gray.shape[1] % multiple, 0, -gray.shape[0] % multiple)
    scale = working_size / max(image.shape[:2])
    return NetworkImage(functional.pad(plane, pad), functional.pad(mask, pad).to(torch.uint8), gray, scale, contrast)
