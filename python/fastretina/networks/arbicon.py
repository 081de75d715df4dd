"""Registration by dense correlation: two images -> an affine map, and a smooth displacement of any point on top.

Source: Chen, Wang, Li & Fang, "Arbicon-Net: Arbitrary Continuous Geometric Transformation Networks for Image
Registration" (2019), as document B's registration network (Dong, Nie & Wei, "Deep Learning Based Medical Image
Registration", 2022, section 4.1, equation 1) uses it: 4-D correlation -> soft mutual matching -> 4-D convolutions
(Rocco et al., "Neighbourhood Consensus Networks", 2018) -> transformation code -> the displacement of a point from
(point, code). The affine stage before it is that of Rocco et al., "Convolutional neural network architecture for
geometric matching" (2017). What differs, and why:

* one locally normalised plane and the first levels of RetinaCraquelureNet instead of RGB and ResNet-101: small, blind
  to modality and polarity, and free to start from that network's weights;
* the affine stage is run more than once: MOVING is warped by what is known and looked at again;
* what lies outside the field of view correlates with nothing.

Points are in *frame units*: the frame of ``FRAME_PX`` pixels a side reaches from -1 to 1 between its outer edges.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import reduce
from itertools import pairwise
from typing import Any, NamedTuple

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from fastretina.errors import InvalidInput
from fastretina.networks.retina_craquelure import NetworkSize, RetinaCraquelureNet

__all__ = ["FRAME_PX", "SIZES", "Arbicon", "ArbiconSize", "Conv4d", "correlate", "mutual", "resample"]

FRAME_PX = 240
CELLS = FRAME_PX // 8  # of the trunk
TEMPERATURE = 0.07  # of cosines, where a cell chooses its partner
GAIN = 0.03  # of the affine stage's linear layer, which has thousands of inputs: Adam's first steps would overshoot
EPSILON = 1e-5  # of the soft mutual matching
LARGEST_TURN, LARGEST_SHIFT = 0.45, 1.0  # of one affine step, each entry: its determinant stays above 0


@dataclass(frozen=True)
class ArbiconSize:
    """``grid``: cells a side that are correlated; channels of the stages. The default ships, "full" is the paper's."""

    grid: int = 10
    dim: int = 128
    consensus: int = 10
    affine: int = 64
    code: int = 64

    def __post_init__(self) -> None:
        if self.grid < 5 or CELLS % self.grid:
            raise InvalidInput(f"grid: got {self.grid}; allowed: 5, 6, 10, 15, 30")

    def as_dict(self) -> dict[str, Any]:
        """Plain values for a file; ``ArbiconSize(**values)`` is the way back."""
        return asdict(self)


SIZES = {"small": ArbiconSize(), "full": ArbiconSize(grid=15, affine=128, code=256)}


class Look(NamedTuple):
    """What the trunk sees in frames (N, 1, FRAME_PX, FRAME_PX)."""

    cells: Tensor  # (N, D, G, G), of length 1, 0 outside the field of view
    vessels: Tensor  # (N, 1, FRAME_PX, FRAME_PX): logits


class Trunk(nn.Module):
    """The levels of RetinaCraquelureNet down to an eighth, one row a grid cell, and a small vessel head."""

    def __init__(self, size: ArbiconSize) -> None:
        super().__init__()
        levels = RetinaCraquelureNet(NetworkSize())
        self.level2, self.level4, self.level8 = levels.level2, levels.level4, levels.level8
        quarter, eighth = levels.size.quarter, levels.size.eighth
        stride = CELLS // size.grid
        self.cells = nn.Conv2d(eighth, size.dim, stride + 2, stride, 1)
        self.vessels = nn.Sequential(
            nn.Conv2d(quarter + eighth, quarter, 3, 1, 1), nn.ReLU(), nn.Conv2d(quarter, 16, 1)
        )

    def forward(self, planes: Tensor, masks: Tensor) -> Look:
        fine = self.level4(self.level2(planes))
        coarse = self.level8(fine)
        cells = self.cells(coarse)
        seen = functional.adaptive_avg_pool2d(masks, cells.shape[2:])
        up = functional.interpolate(coarse, scale_factor=2.0, mode="bilinear", align_corners=False)
        vessels = functional.pixel_shuffle(self.vessels(torch.cat([fine, up], 1)), 4)
        return Look(functional.normalize(cells.float(), dim=1) * seen, vessels.float())


def cell_centres(grid: int, device: torch.device | None = None) -> Tensor:
    """(G * G, 2) frame units, row by row."""
    axis = (torch.arange(grid, device=device) + 0.5) * (2 / grid) - 1
    return torch.stack(torch.meshgrid(axis, axis, indexing="xy"), -1).reshape(-1, 2)


def correlate(fixed: Tensor, moving: Tensor) -> Tensor:
    """Cells of two images (N, D, G, G), rows of length 1 -> their cosines (N, 1, G, G, G, G), FIXED's cells first."""
    return torch.einsum("ndij,ndkl->nijkl", fixed, moving)[:, None]


def mutual(correlation: Tensor) -> Tensor:
    """Soft mutual matching: a cosine counts as far as it is the best of both of its cells (Rocco et al. 2018)."""
    positive = functional.relu(correlation)
    of_moving = positive.amax((2, 3), keepdim=True)
    of_fixed = positive.amax((4, 5), keepdim=True)
    return positive * (positive / (of_moving + EPSILON)) * (positive / (of_fixed + EPSILON))


class Conv4d(nn.Module):
    """3 x 3 x 3 x 3 convolution of (N, C, a, b, c, d), zero padding.

    One 2-D convolution over (c, d) gives the nine kernels that belong to the neighbours in (a, b); they are summed.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.outputs = outputs
        self.kernels = nn.Conv2d(inputs, 9 * outputs, 3, padding=1, bias=False)
        nn.init.normal_(self.kernels.weight, std=(2 / (81 * inputs)) ** 0.5)

    def forward(self, x: Tensor) -> Tensor:
        n, c, a, b, h, w = x.shape
        planes = x.permute(0, 2, 3, 1, 4, 5).reshape(n * a * b, c, h, w)
        parts = self.kernels(planes).reshape(n, a, b, 9, self.outputs, h, w).unbind(3)
        shifts = [(1 - i // 3, 1 - i % 3) for i in range(9)]
        moved = [functional.pad(p, (0,) * 6 + (j, -j, i, -i)) for p, (i, j) in zip(parts, shifts, strict=True)]
        return reduce(torch.add, moved).permute(0, 3, 1, 2, 4, 5)


class Consensus(nn.Module):
    """Three 4-D convolutions, the same for (FIXED, MOVING) and (MOVING, FIXED), summed."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        widths = (1, channels, channels, 1)
        self.convs = nn.ModuleList(Conv4d(i, o) for i, o in pairwise(widths))
        self.norms = nn.ModuleList(nn.BatchNorm1d(o) for o in widths[1:])

    def forward(self, x: Tensor) -> Tensor:
        both = self._one_way(torch.cat([x, _swap(x)]))
        return both[: len(x)] + _swap(both[len(x) :])

    def _one_way(self, x: Tensor) -> Tensor:
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = conv(x)
            x = functional.relu(norm(x.flatten(2)).reshape(x.shape))
        return x


def _swap(x: Tensor) -> Tensor:
    return x.permute(0, 1, 4, 5, 2, 3)


class AffineStage(nn.Module):
    """Correlation -> affine step (N, 2, 3) in frame units, near the identity.

    Each cell of one image shows how likely each of the other's is its partner, how far that is away, and how sure. Half
    of what FIXED says less what MOVING says is the step, so that an image against itself gives the identity.
    """

    def __init__(self, size: ArbiconSize) -> None:
        super().__init__()
        self.convs = nn.Sequential(
            nn.Conv2d(size.grid**2 + 3, size.affine, 7, padding=2, bias=False), nn.BatchNorm2d(size.affine), nn.ReLU(),
            nn.Conv2d(size.affine, 64, 5, padding=2, bias=False), nn.BatchNorm2d(64), nn.ReLU(),
        )  # fmt: skip
        self.linear = nn.Linear(64 * (size.grid - 2) ** 2, 6)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, correlation: Tensor) -> Tensor:
        both = self._one_way(torch.cat([correlation, _swap(correlation)]))
        theta = (both[: len(correlation)] - both[len(correlation) :]) / 2
        bound = theta.new_tensor([LARGEST_TURN, LARGEST_TURN, LARGEST_SHIFT])
        return torch.eye(2, 3, device=theta.device) + bound * torch.tanh(theta / bound)

    def _one_way(self, correlation: Tensor) -> Tensor:
        grid = correlation.shape[2]
        cosines = correlation[:, 0].flatten(3).permute(0, 3, 1, 2)  # the other's cells are channels
        partner = torch.softmax(cosines.float() / TEMPERATURE, 1)
        centres = cell_centres(grid, correlation.device)
        away = torch.einsum("nmij,mc->ncij", partner, centres) - centres.T.reshape(1, 2, grid, grid)
        sure = partner.amax(1, keepdim=True)
        seen = self.convs(torch.cat([partner, away * sure, sure], 1))
        return GAIN * self.linear(seen.flatten(1)).float().reshape(-1, 2, 3)


class PointMlp(nn.Module):
    """(point, code) -> displacement, both in frame units: one smooth field a code (Softplus, not ReLU)."""

    def __init__(self, code: int) -> None:
        super().__init__()
        widths = (2 + code, 256, 256, 64)
        self.hidden = nn.ModuleList(nn.Linear(i, o) for i, o in pairwise(widths))
        self.norms = nn.ModuleList(nn.BatchNorm1d(o) for o in widths[1:])
        self.out = nn.Linear(64, 2)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, points: Tensor, code: Tensor) -> Tensor:
        n, count = points.shape[:2]
        x = torch.cat([points, code[:, None].expand(-1, count, -1)], 2).reshape(n * count, -1)
        for linear, norm in zip(self.hidden, self.norms, strict=True):
            x = functional.softplus(norm(linear(x).float()))
        return self.out(x).float().reshape(n, count, 2)


class Arbicon(nn.Module):
    """The stages; ``affine_step`` and ``code`` look at FIXED and at MOVING as it is warped so far."""

    def __init__(self, size: ArbiconSize | None = None) -> None:
        super().__init__()
        self.size = size = size or ArbiconSize()
        self.trunk = Trunk(size)
        self.affine = AffineStage(size)
        self.consensus = Consensus(size.consensus)
        self.encode = nn.Linear(size.grid**4, size.code)
        self.point = PointMlp(size.code)

    def look(self, planes: Tensor, masks: Tensor) -> Look:
        """Locally normalised planes and masks, each (N, 1, FRAME_PX, FRAME_PX), 0 outside the field of view."""
        for name, tensor in (("planes", planes), ("masks", masks)):
            if tensor.ndim != 4 or tensor.shape[1:] != (1, FRAME_PX, FRAME_PX):
                raise InvalidInput(f"{name}: got {tuple(tensor.shape)}; allowed: (N, 1, {FRAME_PX}, {FRAME_PX})")
        return self.trunk(planes, masks)

    def align(self, fixed: Look, planes: Tensor, masks: Tensor, start: Tensor, steps: int) -> list[Tensor]:
        """Affine maps (N, 2, 3) of MOVING (planes and masks as ``look`` takes them) -> FIXED: one a step.

        Each step looks at MOVING as the one before has warped it, the first as ``start`` does; gradients stay within a
        step.
        """
        found: list[Tensor] = []
        for _ in range(steps):
            known = (found[-1] if found else start).detach()
            step = self.affine_step(fixed, self.warped(planes, masks, known))
            found.append(compose(step, known))
        return found

    def warped(self, planes: Tensor, masks: Tensor, affine: Tensor) -> Look:
        """What is seen of MOVING under a map (N, 2, 3)."""
        seen = resample(torch.cat([planes, masks], 1), affine)
        return self.look(seen[:, :1], seen[:, 1:])

    def affine_step(self, fixed: Look, moving: Look) -> Tensor:
        """(N, 2, 3): warped MOVING -> FIXED, frame units."""
        return self.affine(correlate(fixed.cells, moving.cells))

    def code(self, fixed: Look, moving: Look) -> Tensor:
        """(N, C): what the map from warped MOVING to FIXED is, for ``displacement``."""
        matched = mutual(self.consensus(mutual(correlate(fixed.cells, moving.cells))))
        return self.encode(matched.flatten(1)).float()

    def displacement(self, points: Tensor, code: Tensor) -> Tensor:
        """(N, K, 2) of warped MOVING's points (N, K, 2): a point lies at ``point + displacement`` in FIXED."""
        return self.point(points, code)


def identity(count: int) -> Tensor:
    """(N, 2, 3)."""
    return torch.eye(2, 3).repeat(count, 1, 1)


def apply(affine: Tensor, points: Tensor) -> Tensor:
    """Maps (N, 2, 3) of points (N, K, 2)."""
    return points @ affine[:, :, :2].transpose(1, 2) + affine[:, None, :, 2]


def compose(outer: Tensor, inner: Tensor) -> Tensor:
    """First ``inner``, then ``outer``: (N, 2, 3) each."""
    linear = outer[:, :, :2] @ inner
    return torch.cat([linear[:, :, :2], linear[:, :, 2:] + outer[:, :, 2:]], 2)


def invert(affine: Tensor) -> Tensor:
    """Of maps (N, 2, 3) that are not singular."""
    linear = torch.linalg.inv(affine[:, :, :2])
    return torch.cat([linear, -linear @ affine[:, :, 2:]], 2)


def resample(images: Tensor, affine: Tensor) -> Tensor:
    """Images (N, C, FRAME_PX, FRAME_PX) seen under maps (N, 2, 3) of their points; 0 outside."""
    grid = functional.affine_grid(invert(affine), list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, align_corners=False)
