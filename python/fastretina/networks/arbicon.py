"""Registration by dense correlation: two images -> an affine map, and a smooth displacement of any point on top.

Source: Chen, Wang, Li & Fang, "Arbicon-Net: Arbitrary Continuous Geometric Transformation Networks for Image
Registration" (2019), as document B's registration network (Dong, Nie & Wei, "Deep Learning Based Medical Image
Registration", 2022, section 4.1, equation 1) uses it: 4-D correlation -> soft mutual matching -> 4-D convolutions
(Rocco et al., "Neighbourhood Consensus Networks", 2018) -> transformation code -> the displacement of a point from
(point, code), after an affine stage. What differs, and why:

* RetinaCraquelureNet, finished, instead of RGB and ResNet-101: small, blind to modality and polarity; it is not trained
  any further;
* its cells are 4 px wide, the correlation's 24 or 36: a pair of those has the largest cosine of what is in them, and
  remembers where that was (like the pooling with relocalisation of Rocco et al. 2018), since the mean of a cell's
  descriptors describes nothing;
* the affine stage is a least-squares fit to what the 4-D convolutions leave of the correlation, repeated with the
  weights that its residuals give: the regression of Rocco et al. (2017) asks for far more training than a CPU affords.
  It is run more than once: MOVING is warped by what is known and looked at again.

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
from fastretina.networks.retina_craquelure import STRIDE, RetinaCraquelureNet

__all__ = ["FRAME_PX", "SIZES", "Arbicon", "ArbiconSize", "Conv4d", "Correlation", "Look", "correlate", "mutual"]

FRAME_PX = 360
FINE = FRAME_PX // STRIDE  # cells of the trunk, a side
BLOCK = 3  # cells, a side, of which FIXED shows the strongest; MOVING shows all, so that one fits it
EPSILON = 1e-5  # of the soft mutual matching
TRUST = 0.25  # power of the vessel probability by which a cell counts
REACHES = (9.0, 0.5, 0.25, 0.12, 0.06)  # frame units: how near a match has to be, one round of a fit after another
NEAR = (0.06, 0.03, 0.03)  # the same where the map is nearly known
CODED = 0.12  # frame units: beyond about this, what is still to be corrected is not in the code
MOST = 6.0  # by which one fit may change areas
DAMPING = 1e-3  # of the fit towards the identity, as a share of all weight


@dataclass(frozen=True)
class ArbiconSize:
    """``grid``: cells a side that are correlated; channels of the stages. The default ships, "full" is the paper's."""

    grid: int = 10
    consensus: int = 10
    code: int = 64

    def __post_init__(self) -> None:
        if self.grid < 5 or FINE // BLOCK % self.grid:
            raise InvalidInput(f"grid: got {self.grid}; allowed: 5, 6, 10, 15, 30")

    def as_dict(self) -> dict[str, Any]:
        """Plain values for a file; ``ArbiconSize(**values)`` is the way back."""
        return asdict(self)


SIZES = {"small": ArbiconSize(), "full": ArbiconSize(grid=15, code=256)}


class Look(NamedTuple):
    """What the trunk sees in frames (N, 1, FRAME_PX, FRAME_PX)."""

    rows: Tensor  # (N, D, FINE, FINE), of length 1
    trust: Tensor  # (N, FINE, FINE): probability of a vessel point, 0 outside the field of view
    vessels: Tensor  # (N, 1, FRAME_PX, FRAME_PX): logits


class Correlation(NamedTuple):
    """Of the grid's cells, FIXED's first: the largest cosine in each pair of cells, and between which places."""

    cosines: Tensor  # (N, 1, G, G, G, G)
    fixed: Tensor  # (N, G, G, G, G, 2) frame units
    moving: Tensor  # likewise


class Trunk(nn.Module):
    """RetinaCraquelureNet, never in training mode, and a small vessel head."""

    def __init__(self) -> None:
        super().__init__()
        self.levels = RetinaCraquelureNet().requires_grad_(False)
        features = self.levels.size.dim + 2
        self.vessels = nn.Sequential(
            nn.Conv2d(features, 32, 3, 1, 1), nn.ReLU(), nn.Conv2d(32, STRIDE**2, 1), nn.PixelShuffle(STRIDE)
        )

    def train(self, mode: bool = True) -> Trunk:
        super().train(mode)
        self.levels.eval()
        return self

    def forward(self, planes: Tensor, masks: Tensor) -> Look:
        with torch.no_grad():
            classes, described = self.levels(planes)
        seen = functional.avg_pool2d(masks, STRIDE)[:, 0] > 0.5
        trust = torch.sigmoid((classes[:, 0] - classes[:, 1]).float()) * seen
        vessels = self.vessels(torch.cat([described, classes], 1))
        return Look(functional.normalize(described.float(), dim=1), trust, vessels.float())


def cell_centres(cells: int, device: torch.device | None = None) -> Tensor:
    """(C * C, 2) frame units, row by row."""
    axis = (torch.arange(cells, device=device) + 0.5) * (2 / cells) - 1
    return torch.stack(torch.meshgrid(axis, axis, indexing="xy"), -1).reshape(-1, 2)


def correlate(fixed: Look, moving: Look, grid: int) -> Correlation:
    """Cosines weighed by the trust in both cells: equation 1 of document B, pooled to ``grid`` cells a side."""
    n, fine = len(fixed.rows), fixed.trust.shape[1]
    f, f_xy = (_by_cell(x, grid) for x in _strongest(_weighed(fixed), fixed.trust))  # (N, G², places, D or 2)
    m = _by_cell(_weighed(moving), grid)
    m_xy = _by_cell(cell_centres(fine).T.reshape(1, 2, fine, fine), grid)[0]
    every = torch.bmm(f.flatten(1, 2), m.flatten(1, 2).transpose(1, 2)).float()
    best, m_at = every.reshape(n, grid**2, f.shape[2], grid**2, -1).max(4)
    best, f_at = best.max(2)  # (N, G², G²)
    m_at = m_at.gather(2, f_at[:, :, None])[:, :, 0]
    cell, image = torch.arange(grid**2), torch.arange(n)[:, None, None]
    shape = (n, *(grid,) * 4)
    return Correlation(
        best.reshape(n, 1, *shape[1:]),
        f_xy[image, cell[:, None], f_at].reshape(*shape, 2),
        m_xy[cell, m_at].reshape(*shape, 2),
    )


def _weighed(look: Look) -> Tensor:
    return look.rows * look.trust[:, None] ** TRUST


def _strongest(rows: Tensor, trust: Tensor) -> tuple[Tensor, Tensor]:
    """The row and the place of the most trusted cell of each block: (N, D or 2, FINE / BLOCK, FINE / BLOCK)."""
    at = functional.max_pool2d(trust[:, None], BLOCK, return_indices=True)[1]  # into the flattened plane
    places = cell_centres(trust.shape[1]).T.expand(len(rows), -1, -1)
    return tuple(x.flatten(2).gather(2, at.flatten(2).expand(-1, x.shape[1], -1)).unflatten(2, at.shape[2:])
                 for x in (rows, places.unflatten(2, trust.shape[1:])))  # fmt: skip


def _by_cell(x: Tensor, grid: int) -> Tensor:
    """(N, D, H, H) -> (N, G², (H / G)², D)."""
    n, d, side, _ = x.shape
    k = side // grid
    return x.reshape(n, d, grid, k, grid, k).permute(0, 2, 4, 3, 5, 1).reshape(n, grid**2, k * k, d)


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


class Agreed(NamedTuple):
    """A correlation, and what the 4-D convolutions leave of it."""

    weight: Tensor  # (N, G, G, G, G)
    fixed: Tensor  # (N, G, G, G, G, 2)
    moving: Tensor

    def lists(self) -> tuple[Tensor, Tensor, Tensor]:
        """(N, G⁴), (N, G⁴, 2), (N, G⁴, 2)."""
        return self.weight.flatten(1), self.fixed.flatten(1, 4), self.moving.flatten(1, 4)


class Arbicon(nn.Module):
    """The stages; all but ``look`` compare FIXED with MOVING as it is warped so far."""

    def __init__(self, size: ArbiconSize | None = None) -> None:
        super().__init__()
        self.size = size = size or ArbiconSize()
        self.trunk = Trunk()
        self.consensus = Consensus(size.consensus)
        self.encode = nn.Linear(size.grid**4 + 3 * size.grid**2, size.code)
        self.point = PointMlp(size.code)

    def look(self, planes: Tensor, masks: Tensor) -> Look:
        """Locally normalised planes and masks, each (N, 1, FRAME_PX, FRAME_PX), 0 outside the field of view."""
        for name, tensor in (("planes", planes), ("masks", masks)):
            if tensor.ndim != 4 or tensor.shape[1:] != (1, FRAME_PX, FRAME_PX):
                raise InvalidInput(f"{name}: got {tuple(tensor.shape)}; allowed: (N, 1, {FRAME_PX}, {FRAME_PX})")
        return self.trunk(planes, masks)

    def warped(self, planes: Tensor, masks: Tensor, affine: Tensor) -> Look:
        """What is seen of MOVING under a map (N, 2, 3)."""
        seen = resample(torch.cat([planes, masks], 1), affine)
        return self.look(seen[:, :1], seen[:, 1:])

    def agreed(self, fixed: Look, moving: Look) -> Agreed:
        """The weight of each pair of cells, by what its neighbours say."""
        found = correlate(fixed, moving, self.size.grid)
        weight = mutual(self.consensus(mutual(found.cosines)))
        return Agreed(weight[:, 0].float() * (found.cosines[:, 0] > 0), found.fixed, found.moving)

    def code(self, agreed: Agreed) -> Tensor:
        """(N, C): what the map from warped MOVING to FIXED is, for ``displacement``."""
        weight, away = agreed.weight, agreed.fixed - agreed.moving
        near = (weight * softly(away.square().sum(5), CODED))[..., None]
        mass = near.sum((1, 2))  # over FIXED's cells: (N, G, G, 1)
        mean = (near * away).sum((1, 2)) / (mass + EPSILON)
        told = torch.cat([mean * (2 / CODED), mass / (mass + 1)], 3)
        total = weight.flatten(1).amax(1, keepdim=True) + EPSILON
        return self.encode(torch.cat([weight.flatten(1) / total, told.flatten(1)], 1)).float()

    def displacement(self, points: Tensor, code: Tensor) -> Tensor:
        """(N, K, 2) of warped MOVING's points (N, K, 2): a point lies at ``point + displacement`` in FIXED."""
        return self.point(points, code)


def softly(square: Tensor, reach: float) -> Tensor:
    """Weight of a squared residual: 1/4 at ``reach`` (Geman & McClure)."""
    return (reach**2 / (reach**2 + square)) ** 2


def fit(weight: Tensor, fixed: Tensor, moving: Tensor, reaches: tuple[float, ...] = REACHES) -> tuple[Tensor, Tensor]:
    """Affine maps (N, 2, 3) of MOVING's points (N, M, 2) to FIXED's by iterated least squares, from the identity on;
    how much weight (N,) agrees with them. Gradients reach ``weight`` through the last round. The identity, and nothing
    that agrees, for a map that changes areas by more than ``MOST``; the identity where there is no weight.
    """
    affine = identity(len(weight))
    x = torch.cat([moving, torch.ones_like(moving[..., :1])], 2)
    for reach in reaches:
        with torch.no_grad():
            kept = softly((apply(affine, moving) - fixed).square().sum(2), reach)
        affine = _least_squares(weight * kept, x, fixed - moving)
    determinant = torch.linalg.det(affine[:, :, :2])
    sane = (determinant > 1 / MOST) & (determinant < MOST)
    return torch.where(sane[:, None, None], affine, identity(len(weight))), (weight * kept).sum(1) * sane


def _least_squares(weight: Tensor, x: Tensor, away: Tensor) -> Tensor:
    weighed = (x * weight[..., None]).transpose(1, 2)
    damping = DAMPING * weight.sum(1)[:, None, None] + 1e-9
    normal = weighed @ x + damping * torch.eye(3, device=x.device)
    step = torch.linalg.solve(normal, weighed @ away).transpose(1, 2)
    return step + torch.eye(2, 3, device=x.device)


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
