"""RetinaCraquelureNet: keypoint detection and description on the vessel structure.

Source: Sindel, Maier, Christlein, "A Keypoint Detection and Description Network Based on the Vessel Structure for
Multi-Modal Retinal Image Registration" (BVM 2022), sections 2.1 and 2.3: a fully convolutional ResNet backbone with a
keypoint detection head (two classes, "vessel" and "background") and a description head, both at a quarter of the
input resolution.  What differs from the paper, and why:

* one locally normalised plane instead of RGB, so that one pass serves every modality and both polarities;
* about 0.4 M parameters: registration has to run on one CPU core in tens of milliseconds;
* a second backbone level at an eighth of the resolution gives the descriptors a wide view of the vessel tree at a
  quarter of the price.

Cell convention: output cell ``i`` is centred on input pixel ``4 i + 1.5``.  Every stride is an even 4x4 kernel with
padding 1 (cell ``i`` of a halving is centred on pixel ``2 i + 0.5``) and the way back up is bilinear with half-pixel
centres, so that a mirrored image gives the mirrored maps; a 3x3 stride-2 convolution would add half a cell of bias.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from fastretina.errors import InvalidInput

__all__ = ["PAD_MULTIPLE", "SIZES", "STRIDE", "NetworkSize", "RetinaCraquelureNet"]

STRIDE = 4
"""Pixels per output cell."""
PAD_MULTIPLE = 8
"""Height and width of the input have to be multiples of this (the context level works at an eighth)."""


@dataclass(frozen=True)
class NetworkSize:
    """Channels of the levels and dilations of the residual blocks; the default is the shipped network."""

    half: int = 16
    quarter: int = 32
    eighth: int = 64
    fused: int = 48
    dim: int = 128
    quarter_dilations: tuple[int, ...] = (1, 1)
    eighth_dilations: tuple[int, ...] = (1, 2, 1)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for a checkpoint."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> NetworkSize:
        """The inverse of :meth:`as_dict` (lists become tuples)."""
        tuples: dict[str, Any] = {k: tuple(v) if isinstance(v, (list, tuple)) else v for k, v in values.items()}
        return cls(**tuples)


SIZES = {
    "retina": NetworkSize(),
    "retina_fast": NetworkSize(half=8, quarter=24, eighth=48, fused=32, dim=64, quarter_dilations=(1,)),
}
"""The networks that are shipped, by name; ``retina_fast`` does 45 % of the work."""


def _conv(inputs: int, outputs: int, kernel: int, stride: int = 1, dilation: int = 1) -> nn.Sequential:
    """Convolution + batch normalisation; the padding keeps ``H`` (odd kernel) or halves it (4x4, stride 2)."""
    padding = 1 if kernel == 4 else dilation * (kernel // 2)
    conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, dilation, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs))


class ResidualBlock(nn.Module):
    """ReLU(x + BN(conv3(ReLU(BN(conv3(x)))))), both convolutions with the same dilation (He et al. 2016)."""

    def __init__(self, channels: int, dilation: int = 1) -> None:
        super().__init__()
        self.first = _conv(channels, channels, 3, dilation=dilation)
        self.second = _conv(channels, channels, 3, dilation=dilation)

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(x + self.second(functional.relu(self.first(x))))


class RetinaCraquelureNet(nn.Module):
    """Normalised plane → class maps and dense descriptors.

    ``forward``: ``(N, 1, H, W)`` float32, ``H`` and ``W`` multiples of :data:`PAD_MULTIPLE` →
    class maps ``(N, 2, H/4, W/4)`` (logits; channel 0 "vessel", channel 1 "background"; the confidence of a cell is
    their difference) and descriptors ``(N, D, H/4, W/4)``, not normalised (L2 follows the bilinear sampling).
    """

    def __init__(self, size: NetworkSize | None = None) -> None:
        super().__init__()
        self.size = size = size or NetworkSize()
        self.level2 = nn.Sequential(
            _conv(1, size.half, 4, stride=2), nn.ReLU(), _conv(size.half, size.half, 3), nn.ReLU()
        )
        self.level4 = nn.Sequential(
            _conv(size.half, size.quarter, 4, stride=2),
            nn.ReLU(),
            *(ResidualBlock(size.quarter, d) for d in size.quarter_dilations),
        )
        self.level8 = nn.Sequential(
            _conv(size.quarter, size.eighth, 4, stride=2),
            nn.ReLU(),
            *(ResidualBlock(size.eighth, d) for d in size.eighth_dilations),
        )
        self.lateral = _conv(size.quarter, size.fused, 1)
        self.top = _conv(size.eighth, size.fused, 1)
        self.fuse = ResidualBlock(size.fused)
        self.detect = nn.Sequential(_conv(size.fused, 16, 3), nn.ReLU(), nn.Conv2d(16, 2, 1))
        self.describe = nn.Sequential(_conv(size.fused, size.eighth, 3), nn.ReLU(), nn.Conv2d(size.eighth, size.dim, 1))

    def forward(self, plane: Tensor) -> tuple[Tensor, Tensor]:
        if not torch.jit.is_tracing():  # type: ignore[attr-defined]  # torch.jit names no exports
            self.check_input(plane)
        quarter = self.level4(self.level2(plane))
        eighth = self.top(self.level8(quarter))
        eighth = functional.interpolate(eighth, scale_factor=2.0, mode="bilinear", align_corners=False)
        fused = self.fuse(functional.relu(self.lateral(quarter) + eighth))
        return self.detect(fused), self.describe(fused)

    @staticmethod
    def check_input(plane: Tensor) -> None:
        """Raise ``InvalidInput`` for a plane the network cannot take (skipped while ``forward`` is traced)."""
        if plane.ndim != 4 or plane.shape[1] != 1:
            raise InvalidInput(f"plane: expected a tensor (N, 1, H, W), got {tuple(plane.shape)}")
        if plane.shape[2] % PAD_MULTIPLE or plane.shape[3] % PAD_MULTIPLE or 0 in plane.shape:
            raise InvalidInput(
                f"plane: height and width must be multiples of {PAD_MULTIPLE}, got {tuple(plane.shape[2:])}; "
                "pad with zeros at the right and bottom"
            )


def sample_descriptors(dense: Tensor, points_px: Tensor, image_index: Tensor, stride: int = STRIDE) -> Tensor:
    """Bilinear descriptors at sub-pixel points, L2-normalised: :func:`sample_maps`, then unit rows."""
    return functional.normalize(sample_maps(dense, points_px, image_index, stride), dim=1)


def sample_maps(dense: Tensor, points_px: Tensor, image_index: Tensor, stride: int = STRIDE) -> Tensor:
    """Dense maps at sub-pixel points, bilinear.

    ``dense`` ``(N, D, h, w)``, ``points_px`` ``(K, 2)`` in input pixels ``(x, y)``, ``image_index`` ``(K,)`` →
    ``(K, D)``.  Pixel ``x`` lies at cell ``(x + 0.5) / stride - 0.5``; outside the grid the edge is repeated.
    """
    height, width = dense.shape[2:]
    cell = (points_px.float() + 0.5) / stride - 0.5
    x = cell[:, 0].clamp(0, width - 1)
    y = cell[:, 1].clamp(0, height - 1)
    x0 = x.floor().long().clamp(max=max(width - 2, 0))
    y0 = y.floor().long().clamp(max=max(height - 2, 0))
    x1, y1 = (x0 + 1).clamp(max=width - 1), (y0 + 1).clamp(max=height - 1)
    fx, fy = (x - x0)[:, None], (y - y0)[:, None]
    rows = dense.permute(0, 2, 3, 1)
    top = rows[image_index, y0, x0].float() * (1 - fx) + rows[image_index, y0, x1].float() * fx
    bottom = rows[image_index, y1, x0].float() * (1 - fx) + rows[image_index, y1, x1].float() * fx
    return top * (1 - fy) + bottom * fy
