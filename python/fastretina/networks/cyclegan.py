"""CycleGAN: the look of one modality for the other, learned from images that are no pairs.

Source: Zhu, Park, Isola, Efros, "Unpaired Image-to-Image Translation using Cycle-Consistent Adversarial Networks"
(ICCV 2017), section 4 and appendix 7.2.  Generators are the residual ones of Johnson et al. (2016), discriminators the
70 x 70 PatchGAN of Isola et al. (2017), both small.  What differs, and why:

* one locally normalised plane in and out (a "look"): gain and shading need not be translated;
* down by even 4x4 kernels, up by doubling pixels and a 3x3 convolution: nothing moves by half a pixel, and there is no
  chequerboard of transposed convolutions;
* instance normalisation without learned scale, as in the authors' code.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from fastretina.errors import InvalidInput

__all__ = ["LIMIT", "PAD_MULTIPLE", "Discriminator", "Generator", "GeneratorSize"]

PAD_MULTIPLE = 4
"""Height and width of a generator's input have to be multiples of this."""
LIMIT = 3.0
"""What a generator sees is a normalised plane divided by this, clipped: so many local deviations are -1 and 1."""


@dataclass(frozen=True)
class GeneratorSize:
    """Channels at full resolution (twice as many a halving) and residual blocks at a quarter of it."""

    channels: int = 16
    blocks: int = 4

    def as_dict(self) -> dict[str, Any]:
        """Plain values for a weight file."""
        return asdict(self)


def _conv(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Sequential:
    """Convolution, instance normalisation; keeps ``H`` (odd kernel) or halves it (4x4, stride 2)."""
    conv = nn.Conv2d(inputs, outputs, kernel, stride, (kernel - 1) // 2, bias=False)
    return nn.Sequential(conv, nn.InstanceNorm2d(outputs))


class Block(nn.Module):
    """x + IN(conv3(ReLU(IN(conv3(x)))))."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first, self.second = _conv(channels, channels, 3), _conv(channels, channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(functional.relu(self.first(x)))


class Generator(nn.Module):
    """``(N, 1, H, W)`` in [-1, 1], sides multiples of :data:`PAD_MULTIPLE` → the same, in the other modality's look."""

    def __init__(self, size: GeneratorSize | None = None) -> None:
        super().__init__()
        self.size = size = size or GeneratorSize()
        n = size.channels
        self.down = nn.Sequential(
            _conv(1, n, 7), nn.ReLU(), _conv(n, 2 * n, 4, 2), nn.ReLU(), _conv(2 * n, 4 * n, 4, 2), nn.ReLU()
        )
        self.blocks = nn.Sequential(*(Block(4 * n) for _ in range(size.blocks)))
        ups = (nn.Sequential(nn.Upsample(scale_factor=2), _conv(2 * m, m, 3), nn.ReLU()) for m in (2 * n, n))
        self.up = nn.Sequential(*ups, nn.Conv2d(n, 1, 7, padding=3))
        _initialise(self)

    def forward(self, plane: Tensor) -> Tensor:
        height, width = plane.shape[-2:]
        if plane.ndim != 4 or plane.shape[1] != 1 or height % PAD_MULTIPLE or width % PAD_MULTIPLE:
            raise InvalidInput(
                f"plane: got {tuple(plane.shape)}, expected (N, 1, H, W), sides multiples of {PAD_MULTIPLE}"
            )
        return torch.tanh(self.up(self.blocks(self.down(plane))))


class Discriminator(nn.Module):
    """``(N, 1, H, W)`` → ``(N, 1, H/8 - 2, W/8 - 2)``: about 1 where a patch of 70 x 70 px looks real, 0 where not."""

    def __init__(self, channels: int = 32) -> None:
        super().__init__()
        widths = (1, channels, 2 * channels, 4 * channels, 4 * channels)
        layers: list[nn.Module] = []
        for i, (inputs, outputs) in enumerate(pairwise(widths)):
            layers.append(nn.Conv2d(inputs, outputs, 4, 1 if i == 3 else 2, 1, bias=i == 0))
            layers += [nn.InstanceNorm2d(outputs)] * (i > 0) + [nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*layers, nn.Conv2d(widths[-1], 1, 4, padding=1))
        _initialise(self)

    def forward(self, plane: Tensor) -> Tensor:
        return self.layers(plane)


def _initialise(network: nn.Module) -> None:
    """Normal weights of deviation 0.02 (appendix 7.1)."""
    for part in network.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.normal_(part.weight, 0.0, 0.02)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
