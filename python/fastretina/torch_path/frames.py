"""The callers' px and network px of a pair, there and back. The twin of Frames in csrc/candidate.h."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastretina.torch_path.image_features import Features
from fastretina.transform import SINGLE_KINDS as KINDS
from fastretina.transform import Transform
from fastretina.transform_layout import kind_and_params, transform_of

MOST = 4.0  # times


def to_input(features: Features, xy: Tensor) -> NDArray[np.float32]:
    """Network px -> the caller's px."""
    return features.network_of_input.inverse(xy.double().numpy()).astype(np.float32)


def to_network(transform: tuple[int, NDArray[np.float64]], fixed: Features, moving: Features) -> tuple[str, Tensor]:
    """The callers' px on both sides -> network px on both sides."""
    network = fixed.network_of_input @ transform_of(*transform) @ moving.network_of_input.inverse
    number, params = kind_and_params(network)
    return KINDS[number], torch.from_numpy(params)


def to_input_transform(kind: str, params: Tensor, fixed: Features, moving: Features) -> tuple[int, NDArray[np.float64]]:
    """Network px on both sides -> the callers' px on both sides, in the layout of csrc/core/types.h."""
    network = transform_of(KINDS.index(kind), params.numpy())
    return kind_and_params(fixed.network_of_input.inverse @ network @ moving.network_of_input)


def magnification(best: dict[str, Any], fixed: Features, moving: Features) -> float:
    """Px of FIXED to a px of MOVING, as both were seen, amid what the estimate explains; within a quarter and four."""
    inlier = best["inlier"].astype(bool)
    if not inlier.any():
        return 1.0
    kind, params = to_network(best["transform"], fixed, moving)
    middle = moving.network_of_input(best["moving_xy"][inlier].astype(np.float64).mean(0))
    area = abs(float(np.linalg.det(transform_of(KINDS.index(kind), params.numpy()).jacobian(middle))))
    return min(max(math.sqrt(area), 1 / MOST), MOST) if math.isfinite(area) else 1.0


def shifted(kind: str, params: Tensor, dx: float, dy: float) -> Tensor:
    """A transform followed by a shift."""
    shift = Transform.from_matrix([[1, 0, dx], [0, 1, dy]])
    moved = shift @ transform_of(KINDS.index(kind), params.numpy())
    return torch.from_numpy(kind_and_params(moved)[1])
