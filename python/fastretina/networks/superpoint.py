"""SuperPoint: key points and descriptors of a whole image in one pass.

Source: DeTone, Malisiewicz, Rabinovich, "SuperPoint: Self-Supervised Interest Point Detection and Description" (CVPR
workshops 2018), section 3: a shared encoder of eight 3x3 convolutions with three poolings, a detector head that says of
each 8x8 cell which of its 64 pixels is a key point or that none is (65 classes), and a descriptor head. What differs:

* the input is the locally normalised plane of the ``image`` room in the place of gray values, so that shading and gain
  of a device mean nothing;
* about a quarter of the width, for one CPU core; the full resolution, which costs most, has the fewest channels.

Cell ``i`` is centred on input pixel ``8 i + 3.5``: every halving is an even pooling, so that mirrored images give
mirrored maps.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch.nn.functional as functional
from torch import Tensor, nn

from fastretina.errors import InvalidInput

__all__ = ["CELL_PX", "SIZES", "SuperPoint", "SuperPointSize", "heatmap"]

CELL_PX = 8
"""Pixels per output cell; height and width of the input have to be multiples of this."""


@dataclass(frozen=True)
class SuperPointSize:
    """Channels of the encoder at 1/1, 1/2, 1/4 and 1/8 of the resolution, of the heads, and of a descriptor."""

    levels: tuple[int, int, int, int] = (16, 32, 64, 96)
    head: int = 128
    dim: int = 128

    def as_dict(self) -> dict[str, Any]:
        """Plain values for a checkpoint."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> SuperPointSize:
        """The inverse of :meth:`as_dict` (a list becomes a tuple)."""
        one, two, three, four = values["levels"]
        return cls((one, two, three, four), values["head"], values["dim"])


SIZES = {"small": SuperPointSize(), "paper": SuperPointSize((64, 64, 128, 128), 256, 256)}
"""``small`` is shipped; ``paper`` has the widths of the publication."""


def _convs(inputs: int, outputs: int) -> nn.Sequential:
    """Convolution, batch normalisation, ReLU."""
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU())


class SuperPoint(nn.Module):
    """Normalised plane -> class logits and dense descriptors of 8x8 cells.

    ``forward``: ``(N, 1, H, W)`` float32, ``H`` and ``W`` multiples of :data:`CELL_PX` -> logits ``(N, 65, H/8, W/8)``
    (class ``8 v + u``: the key point is pixel ``(u, v)`` of the cell; class 64: there is none) and descriptors
    ``(N, D, H/8, W/8)``, not normalised (L2 follows the bilinear sampling). Raises ``InvalidInput`` for another shape.
    """

    def __init__(self, size: SuperPointSize | None = None) -> None:
        super().__init__()
        self.size = size = size or SuperPointSize()
        inputs = 1
        layers: list[nn.Module] = []
        for level, outputs in enumerate(size.levels):
            layers += [nn.MaxPool2d(2)] if level else []
            layers += [_convs(inputs, outputs), _convs(outputs, outputs)]
            inputs = outputs
        self.encode = nn.Sequential(*layers)
        self.detect = nn.Sequential(_convs(inputs, size.head), nn.Conv2d(size.head, CELL_PX**2 + 1, 1))
        self.describe = nn.Sequential(_convs(inputs, size.head), nn.Conv2d(size.head, size.dim, 1))

    def forward(self, plane: Tensor) -> tuple[Tensor, Tensor]:
        if plane.ndim != 4 or plane.shape[1] != 1:
            raise InvalidInput(f"plane: expected a tensor (N, 1, H, W), got {tuple(plane.shape)}")
        if plane.shape[2] % CELL_PX or plane.shape[3] % CELL_PX or 0 in plane.shape:
            raise InvalidInput(
                f"plane: height and width must be multiples of {CELL_PX}, got {tuple(plane.shape[2:])}; "
                "pad with zeros at the right and bottom"
            )
        cells = self.encode(plane)
        return self.detect(cells), self.describe(cells)


def heatmap(logits: Tensor) -> Tensor:
    """Logits ``(N, 65, h, w)`` -> probability ``(N, 8h, 8w)`` that a pixel is a key point; 1 or less a cell."""
    return functional.pixel_shuffle(logits.float().softmax(1)[:, :-1], CELL_PX)[:, 0]
