"""U-Net: one plane -> one map of logits at full resolution; it segments vessels and finds GLAMPoints.

Source: Ronneberger et al., "U-Net: Convolutional Networks for Biomedical Image Segmentation" (MICCAI 2015), with batch
normalisation and padded convolutions as Truong et al., "GLAMpoints: Greedily Learned Accurate Match Points" (ICCV
2019), use it.

Halving is a 2x2 maximum and doubling a 2x2 transposed convolution, both centred: cell ``i`` of a level covers the
pixels ``2 i`` and ``2 i + 1`` of the next finer one, so that no level shifts the map.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from fastretina.errors import InvalidInput

__all__ = ["GLAMPOINTS", "VESSELS", "UNet"]

VESSELS = (16, 32, 64, 128)
"""Channels of the levels, finest first: 483 153 parameters."""
GLAMPOINTS = (8, 16, 32, 64, 128)
"""487 145 parameters, as in the paper's code."""


def _double(inputs: int, outputs: int) -> nn.Sequential:
    """Twice: 3x3 convolution, batch normalisation, ReLU."""
    layers: list[nn.Module] = []
    for channels in (inputs, outputs):
        layers += [nn.Conv2d(channels, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


class UNet(nn.Module):
    """``forward``: ``(N, 1, H, W)`` float32, sides multiples of ``multiple`` -> logits ``(N, 1, H, W)``."""

    def __init__(self, channels: tuple[int, ...] = VESSELS) -> None:
        super().__init__()
        self.channels = tuple(channels)
        self.multiple = 2 ** (len(channels) - 1)
        self.down = nn.ModuleList(_double(a, b) for a, b in pairwise((1, *channels)))
        upwards = list(pairwise(reversed(channels)))
        self.enlarge = nn.ModuleList(nn.ConvTranspose2d(a, b, 2, stride=2) for a, b in upwards)
        self.up = nn.ModuleList(_double(2 * b, b) for _, b in upwards)
        self.head = nn.Conv2d(channels[0], 1, 1)

    @classmethod
    def of(cls, facts: dict[str, Any]) -> UNet:
        """The network of a weight file's facts."""
        return cls(tuple(facts["channels"]))

    def forward(self, plane: Tensor) -> Tensor:
        if plane.ndim != 4 or plane.shape[1] != 1 or 0 in plane.shape:
            raise InvalidInput(f"plane: expected a tensor (N, 1, H, W), got {tuple(plane.shape)}")
        if plane.shape[2] % self.multiple or plane.shape[3] % self.multiple:
            raise InvalidInput(
                f"plane: height and width must be multiples of {self.multiple}, got {tuple(plane.shape[2:])}; "
                "remedy: pad with zeros at the right and bottom"
            )
        levels = [self.down[0](plane)]
        for double in list(self.down)[1:]:
            levels.append(double(functional.max_pool2d(levels[-1], 2)))
        x = levels.pop()
        for enlarge, double in zip(self.enlarge, self.up, strict=True):
            x = double(torch.cat([levels.pop(), enlarge(x)], 1))
        return self.head(x)
