"""Key points and descriptors of RetinaCraquelureNet for ``keypoints.Pipeline``: the default method's front end alone.

Features do not depend on polarity, so ``inverted`` changes nothing.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastretina import engines, ops
from fastretina.config import Config
from fastretina.methods.keypoints import Features, in_image

WORKING_SIZE_PX = 480
KEYPOINTS = 512


class RetinaPoints:
    """The network of a weight set, at f32: what a matcher was trained on may not depend on the machine."""

    def __init__(self, config: Config, threads: int = 1) -> None:
        manifest = engines.load_manifest(config.weights)
        self.size = config.working_size or WORKING_SIZE_PX
        self.count = config.max_keypoints or KEYPOINTS
        self.threads = threads
        self._engine = engines.create("auto", manifest, precision="f32", device="cpu", threads=threads)
        self.choices: dict[str, Any] = {"network": manifest.name, "engine": self._engine.name, "precision": "f32"}
        self.weights_hash = manifest.weights_hash

    def __call__(self, image: NDArray[Any], inverted: bool) -> Features:
        seen = ops.image(image, working_size=self.size, multiple=self._engine.multiple, threads=self.threads)
        maps, descriptors = self._engine.run(seen.plane)
        found = ops.detect(maps[0] - maps[1], seen.mask, max_keypoints=self.count, threads=self.threads)
        rows = ops.describe(descriptors, found.xy, threads=self.threads)
        xy = in_image(found.xy, seen.scale)
        vessel = 1 / (1 + np.exp(-found.score))  # of the two classes
        return Features(xy, rows, vessel.astype(np.float32), self.size)
