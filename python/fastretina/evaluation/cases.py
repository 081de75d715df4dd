"""What an evaluation registers: images, and what is known of the truth about them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastretina.transform import Transform
from fastretina.transform_math import Floats

FRAME_PX = 640.0  # errors are given in px of a frame whose longer FIXED side has this length, unless a protocol differs


def _none() -> Floats:
    return np.zeros((0, 2))


@dataclass(frozen=True)
class Target:
    """Where points of MOVING belong in FIXED; px of the images."""

    moving: Floats  # (N, 2)
    fixed: Floats
    truth: Transform | None = None  # None if only points are known
    landmarks_moving: Floats = field(default_factory=_none)  # (L, 2) clicked by hand, if there are any
    landmarks_fixed: Floats = field(default_factory=_none)


@dataclass(frozen=True)
class Case:
    """One pair to register."""

    id: str
    kind: str  # what a table has a row for: a perturbation, a category, a geometry
    modalities: str  # of FIXED and MOVING, such as "CF>FA"
    fixed: NDArray[Any]
    moving: NDArray[Any]
    target: Target | None  # None: the images show different eyes, and no transform is right
    frame_px: float = FRAME_PX
    bounds: Mapping[str, Callable[[Floats], Floats]] = field(default_factory=dict)  # the best map of a model, by name
