"""SuperGlue: which key points of two images show the same place, and which show none.

Source: Sarlin, DeTone, Malisiewicz, Rabinovich, "SuperGlue: Learning Feature Matching with Graph Neural Networks"
(CVPR 2020), section 3: a key point encoder (eq. 2), self and cross attention in turn (eqs. 3 to 5), a final projection,
scores (eq. 7), and an optimal assignment with a learned dustbin by Sinkhorn's iterations (eqs. 8, 9). What differs, and
why: layer instead of batch normalisation, since a batch is a few pairs; descriptors of any length enter through a
linear map; residual branches start at zero, so that training starts from the descriptors' own matches.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from fastretina.errors import InvalidInput

__all__ = ["Points", "SuperGlue", "SuperGlueSize", "mutual", "normalised", "sinkhorn"]

SIDE = 0.7  # of the longer side: half-width of the encoder's unit square
BLOCK = 10  # Sinkhorn iterations between two absorptions
START_DUSTBIN = 1.0


@dataclass(frozen=True)
class SuperGlueSize:
    """Sizes of the network; the defaults are what is shipped. The paper: width 256, 18 layers, encoder 32 ... 256."""

    dims: int = 128  # of a descriptor
    width: int = 128
    layers: int = 6  # self and cross in turn
    heads: int = 4
    encoder: tuple[int, ...] = (32, 64)
    iterations: int = 100  # Sinkhorn's

    def __post_init__(self) -> None:
        for name in ("dims", "width", "layers", "heads", "iterations"):
            if getattr(self, name) < 1:
                raise InvalidInput(f"{name}: got {getattr(self, name)}; allowed: 1, 2, 3 ...")
        if self.width % self.heads:
            raise InvalidInput(f"width: got {self.width}; allowed: multiples of heads ({self.heads})")

    def as_dict(self) -> dict[str, Any]:
        """Plain values for a weight file."""
        return asdict(self) | {"encoder": list(self.encoder)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> SuperGlueSize:
        """The inverse of :meth:`as_dict`."""
        return cls(**values | {"encoder": tuple(values["encoder"])})


class Points(NamedTuple):
    """Key points of ``B`` images, the same number of each."""

    xy: Tensor  # (B, K, 2), as ``normalised`` gives them
    rows: Tensor  # (B, K, D) of length 1
    score: Tensor  # (B, K) in [0, 1]


def normalised(xy: Tensor, size: tuple[int, int]) -> Tensor:
    """Pixels ``(..., 2)`` of an image of (width, height) -> centred, in units of 0.7 times the longer side."""
    centre = torch.tensor([(size[0] - 1) / 2, (size[1] - 1) / 2], dtype=xy.dtype)
    return (xy - centre) / (SIDE * max(size))


class Attention(nn.Module):
    """Multi-head attention and the residual update, ``x + MLP([x, message])`` (eqs. 3 to 5)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.merge = (nn.Linear(width, width) for _ in range(4))
        last = nn.Linear(2 * width, width)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.update = nn.Sequential(nn.Linear(2 * width, 2 * width), nn.LayerNorm(2 * width), nn.ReLU(), last)

    def forward(self, x: Tensor, source: Tensor) -> Tensor:
        query, key, value = (
            part.unflatten(2, (self.heads, -1)).transpose(1, 2)
            for part in (self.query(x), self.key(source), self.value(source))
        )
        message = functional.scaled_dot_product_attention(query, key, value)
        return x + self.update(torch.cat([x, self.merge(message.transpose(1, 2).flatten(2))], 2))


class SuperGlue(nn.Module):
    """Two sets of points -> the logarithm of their assignment.

    ``forward``: points of FIXED (B, M, ...) and MOVING (B, N, ...) -> (B, M + 1, N + 1) float32; the last row and
    column are the dustbins of points without a partner. Rows and columns but the last sum to 1 in probability.
    """

    def __init__(self, size: SuperGlueSize | None = None) -> None:
        super().__init__()
        self.size = size = size or SuperGlueSize()
        self.enter = nn.Linear(size.dims, size.width)
        widths = (3, *size.encoder)  # x, y and score
        hidden = [nn.Sequential(nn.Linear(a, b), nn.LayerNorm(b), nn.ReLU()) for a, b in pairwise(widths)]
        encoded = nn.Linear(widths[-1], size.width)
        self.encode = nn.Sequential(*hidden, encoded)
        self.layers = nn.ModuleList(Attention(size.width, size.heads) for _ in range(size.layers))
        self.leave = nn.Linear(size.width, size.width)
        self.dustbin = nn.Parameter(torch.tensor(START_DUSTBIN))
        # Descriptors of length 1 become vectors whose entries are about 1, and keep their angles.
        nn.init.orthogonal_(self.enter.weight, math.sqrt(size.width))
        nn.init.orthogonal_(self.leave.weight)
        nn.init.zeros_(encoded.weight)
        for layer in (self.enter, self.leave, encoded):
            nn.init.zeros_(layer.bias)

    def forward(self, fixed: Points, moving: Points) -> Tensor:
        self.check_input(fixed, moving)
        f, m = (self.enter(p.rows) + self.encode(torch.cat([p.xy, p.score[..., None]], 2)) for p in (fixed, moving))
        for number, layer in enumerate(self.layers):
            f, m = (layer(f, m), layer(m, f)) if number % 2 else (layer(f, f), layer(m, m))
        scores = self.leave(f) @ self.leave(m).transpose(1, 2) / math.sqrt(self.size.width)
        with torch.autocast(scores.device.type, enabled=False):
            return sinkhorn(scores.float(), self.dustbin.float(), self.size.iterations)

    def check_input(self, fixed: Points, moving: Points) -> None:
        """Raise ``InvalidInput`` for points that the network cannot take."""
        for name, points in (("fixed", fixed), ("moving", moving)):
            batch, count = points.score.shape if points.score.ndim == 2 else (0, 0)
            expected = (batch, count, 2), (batch, count, self.size.dims)
            if not count or (points.xy.shape, points.rows.shape) != expected:
                got = tuple(tuple(part.shape) for part in points)
                raise InvalidInput(
                    f"{name}: got xy, rows and score of {got}; expected (B, K, 2), (B, K, {self.size.dims}) and (B, K)"
                )


def sinkhorn(scores: Tensor, dustbin: Tensor, iterations: int) -> Tensor:
    """Scores (B, M, N) and the score of a dustbin -> log assignment (B, M + 1, N + 1).

    Every point has mass 1; a dustbin has as much as the other side has points. Scaling iterations whose factors are
    absorbed into potentials every few steps: those of the log domain, without an exponential in each (Schmitzer,
    "Stabilized Sparse Scaling Algorithms for Entropy Regularized Transport Problems", 2019, section 3.1). Gradients
    flow through the last of these blocks alone: where the iterations have settled, that is the whole gradient.
    """
    batch, rows, columns = scores.shape
    couplings = torch.cat([scores, dustbin.expand(batch, rows, 1)], 2)
    couplings = torch.cat([couplings, dustbin.expand(batch, 1, columns + 1)], 1)
    mass_of_rows = torch.cat([scores.new_ones(rows), scores.new_tensor([float(columns)])])[:, None]
    mass_of_columns = torch.cat([scores.new_ones(columns), scores.new_tensor([float(rows)])])[:, None]
    log_rows, log_columns = -couplings.detach().amax(2, keepdim=True), couplings.new_zeros(batch, columns + 1, 1)
    for done in range(0, iterations, BLOCK):
        with torch.set_grad_enabled(torch.is_grad_enabled() and done + BLOCK >= iterations):
            kernel = torch.exp(couplings + log_rows + log_columns.transpose(1, 2))
            transposed = kernel.transpose(1, 2)
            right = kernel.new_ones(batch, columns + 1, 1)
            for _ in range(min(BLOCK, iterations - done)):
                left = mass_of_rows / (kernel @ right)
                right = mass_of_columns / (transposed @ left)
            log_rows, log_columns = log_rows + left.log(), log_columns + right.log()
    return couplings + log_rows + log_columns.transpose(1, 2)


def mutual(log_assignment: Tensor, threshold: float) -> tuple[Tensor, Tensor, Tensor]:
    """Log assignment (M + 1, N + 1) -> rows, columns and probabilities of the matches, most probable first.

    A match is the largest entry of its row and of its column, dustbins aside, and more probable than ``threshold``.
    """
    inner = log_assignment[:-1, :-1]
    best, column = inner.max(1)
    back = inner.argmax(0)
    row = torch.arange(len(inner))
    probability = best.exp()
    good = (back[column] == row) & (probability > threshold)
    row, column, probability = row[good], column[good], probability[good]
    order = torch.argsort(probability, descending=True, stable=True)
    return row[order], column[order], probability[order]
