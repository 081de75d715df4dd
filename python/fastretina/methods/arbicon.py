"""Registration by one network that sees both images: an affine map, looked at again, and a smooth field on top.

After document B (Dong, Nie & Wei 2022; ``networks/arbicon.py``). There are no key points and there is no RANSAC: the
network says what the map is. It was trained on moderate turns and scales, and starts from a few scales of MOVING here;
which map is the answer, and whether to trust it, is what the vessels say (the ridges' correlation, the quality room).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastretina import ops
from fastretina.config import Config
from fastretina.displacement import Rectangle
from fastretina.errors import InvalidInput
from fastretina.methods import WEIGHTS, keypoints
from fastretina.methods.keypoints import Features, core_transform, judged, stopwatch
from fastretina.networks import arbicon
from fastretina.networks.arbicon import FRAME_PX, Arbicon, ArbiconSize, Look
from fastretina.transform import Transform

STARTS = (1.0, 0.67, 1.5)  # scales of MOVING
AFFINE_STEPS = 4
CONTROLS = 8  # of the field, a side
REDUCTIONS = (1.0, 0.5, 0.25)  # of a field that folds
KINDS = ("auto", "affine", "dense")
MATCH_CELLS = 0.5  # a pair of cells is an inlier as far as this off, in cells


class Framed(NamedTuple):
    """An image in the network's frame."""

    planes: Tensor  # (1, 1, FRAME_PX, FRAME_PX)
    masks: Tensor
    look: Look
    frame_of_input: Transform  # px -> frame units


class Seen(keypoints.Seen):
    """One prepared image; its key points are the cells of the network that show something."""

    framed: Framed

    @property
    def heatmap(self) -> NDArray[np.float32]:  # type: ignore[override]
        """(h, w): where the network sees vessels, over the whole frame."""
        width, height = self.network_size
        left, top = (FRAME_PX - width) // 2, (FRAME_PX - height) // 2
        shown = torch.sigmoid(self.framed.look.vessels[0, 0]).numpy()
        return shown[top : top + height, left : left + width]


class Pipeline:
    """``transform``: "affine" ends after the affine stage, "dense" and "auto" go on."""

    def __init__(self, network: Arbicon, weights_hash: str, config: Config, threads: int) -> None:
        if config.transform not in KINDS:
            raise InvalidInput(f"transform: got {config.transform!r}; method 'arbicon' makes {', '.join(KINDS)}")
        self.network, self.threads, self.dense = network, threads, config.transform != "affine"
        self.weights_hash = weights_hash
        self.choices: dict[str, Any] = {"network": "arbicon", "engine": "torch", "precision": "f32"}
