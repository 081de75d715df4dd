"""SuperGlue as ``matches`` of ``keypoints.Pipeline``: key points matched by what surrounds them in both images.

After Zhao & Guan (document C): threshold 0.2, an affine map by RANSAC. Pruning is theirs, too, and off unless asked for
(docs/METHODS.md says what it does).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fastretina.config import Config
from fastretina.errors import EngineError
from fastretina.methods import WEIGHTS
from fastretina.methods.keypoints import Describes, Features, Indices, Pipeline
from fastretina.networks.superglue import Points, SuperGlue, SuperGlueSize, mutual, normalised
from fastretina.networks.weight_files import load_weights
from fastretina.torch_path.threads import torch_threads

THRESHOLD = 0.2  # of document C
KEYPOINTS = 512  # of SuperPoint: not many more than the training showed


@dataclass(frozen=True)
class FrontEnd:
    """Whose key points and descriptors are matched."""

    build: Callable[[Config, int], Describes]
    dims: int  # of a descriptor
    view_px: tuple[int, int]  # range of the longer side of training views


def _retina(config: Config, threads: int) -> Describes:
    from fastretina.methods.retina_points import RetinaPoints

    return RetinaPoints(config, threads)


def _superpoint(config: Config, threads: int) -> Describes:
    from fastretina.methods.superpoint import SuperPointFeatures

    return SuperPointFeatures(replace(config, max_keypoints=config.max_keypoints or KEYPOINTS), threads)


FRONT_ENDS = {
    "retina": FrontEnd(_retina, 128, (480, 640)),
    "superpoint": FrontEnd(_superpoint, 128, (480, 640)),
}


def pipeline(front_end: str, config: Config, threads: int, translate: tuple[str, ...] = ()) -> Pipeline:
    """The method of a front end, with the weights that ship for it; both networks are named in the result.

    Raises EngineError for weights that were trained on the features of another network.
    """
    describe, path = FRONT_ENDS[front_end].build(config, threads), WEIGHTS / f"superglue_{front_end}.safetensors"
    matcher = Matcher(path, threads)
    if matcher.facts["front_end"]["weights_hash"] != describe.weights_hash:
        raise EngineError(f"weights: {path} was trained on other {front_end} weights; remedy: reinstall the package")
    made = Pipeline(describe, config, threads, matches=matcher, translate=translate)
    made.choices = made.choices | {"network": f"{describe.choices['network']}+superglue"}
    made.weights_hash = f"{made.weights_hash}+{matcher.weights_hash}"
    return made


class Matcher:
    """A trained network. ``weights``: a file of ``networks/weight_files``."""

    def __init__(self, weights: Path, threads: int = 1) -> None:
        self.network, self.facts, self.weights_hash = load_weights(_network, weights)
        self.threads = threads

    def __call__(
        self, fixed: Features, moving: Features, fixed_size: tuple[int, int], moving_size: tuple[int, int]
    ) -> Indices:
        with torch_threads(self.threads), torch.inference_mode():
            found = self.network(points_of(fixed, fixed_size), points_of(moving, moving_size))
            row, column, probability = (part.numpy() for part in mutual(found[0], THRESHOLD))
        return row.astype(np.int32), column.astype(np.int32), probability.astype(np.float32)


def _network(facts: dict[str, Any]) -> SuperGlue:
    return SuperGlue(SuperGlueSize.from_dict(facts["size"]))


def points_of(features: Features, size: tuple[int, int]) -> Points:
    """Features of one image of (width, height) as the network takes them."""

    def batch(array: NDArray[np.float32]) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(array))[None]

    return Points(normalised(batch(features.xy), size), batch(features.rows), batch(features.score))
