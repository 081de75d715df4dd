"""GLAMPoints as a description for ``keypoints.Pipeline``: the heat map of a U-Net, upright root-SIFT at its peaks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from fastretina import ops
from fastretina.config import Config
from fastretina.methods import WEIGHTS, rootsift
from fastretina.methods.keypoints import Features, in_image
from fastretina.methods.vessels import heat_map
from fastretina.networks.unet import UNet
from fastretina.networks.weight_files import load_weights

WEIGHTS_FILE = WEIGHTS / "glampoints.safetensors"
WORKING_SIZE_PX = 768
KEYPOINTS = 2000
RADIUS_PX = 10


class GlamPoints:
    """Truong et al., "GLAMpoints: Greedily Learned Accurate Match Points" (ICCV 2019)."""

    def __init__(self, config: Config, threads: int, weights: Path = WEIGHTS_FILE) -> None:
        import cv2

        self.network, self.facts, self.weights_hash = load_weights(UNet.of, weights)
        self.size = config.working_size or WORKING_SIZE_PX
        self.count = config.max_keypoints or KEYPOINTS
        self.threads = threads
        self.choices: dict[str, Any] = {"network": "glampoints", "engine": "torch", "precision": "f32"}
        self._sift = cv2.SIFT_create()

    def __call__(self, image: NDArray[Any], inverted: bool) -> Features:
        seen = ops.image(image, working_size=self.size, multiple=self.network.multiple, threads=self.threads)
        plane = -seen.plane if inverted else seen.plane
        heat = heat_map(self.network, plane, self.threads)
        found = ops.nms(
            heat, seen.mask, radius=RADIUS_PX, threshold=0.0, max_keypoints=self.count, threads=self.threads
        )
        xy = in_image(found.xy, seen.scale)
        return Features(xy, rootsift.describe(self._sift, plane, found.xy), found.score, self.size)
