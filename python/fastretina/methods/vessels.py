"""Vessel probability maps of a U-Net: what methods by key points see instead of the image with ``input="vessels"``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fastretina import ops
from fastretina.methods import WEIGHTS
from fastretina.methods.keypoints import Describes, Features
from fastretina.networks.unet import UNet
from fastretina.networks.weight_files import load_weights
from fastretina.torch_path.threads import torch_threads

WEIGHTS_FILE = WEIGHTS / "vessels.safetensors"
ENLARGED, LARGEST_PX = 1.3, 1024  # how the network sees an image: the finest vessels of DRIVE are a pixel wide


class VesselMaps:
    """Segments the vessels of any modality and either polarity; the network is networks/unet.py."""

    def __init__(self, threads: int = 1, weights: Path = WEIGHTS_FILE) -> None:
        self.network, self.facts, self.weights_hash = load_weights(UNet.of, weights)
        self.threads = threads

    def __call__(self, image: NDArray[Any]) -> NDArray[np.float32]:
        """Image as ``Registrar`` takes it -> probability of a vessel (H, W) float32 in its own pixels; 0 outside the
        field of view. Raises InvalidInput.
        """
        import cv2

        size = min(round(ENLARGED * max(image.shape[:2])), LARGEST_PX)
        seen = ops.image(image, working_size=size, multiple=self.network.multiple, threads=self.threads)
        heat = heat_map(self.network, seen.plane, self.threads) * seen.mask
        width, height = seen.content_size
        found = heat[:height, :width]
        if found.shape != image.shape[:2]:
            how = cv2.INTER_AREA if size > max(image.shape[:2]) else cv2.INTER_LINEAR
            found = cv2.resize(found, (image.shape[1], image.shape[0]), interpolation=how)
        return np.ascontiguousarray(found, np.float32)


class OnVessels:
    """A description of the vessel map of an image. Maps have one polarity, so there is no negative to try."""

    def __init__(self, describe: Describes, threads: int) -> None:
        self.describe, self.maps = describe, VesselMaps(threads)
        self.choices: dict[str, Any] = {**describe.choices, "input": "vessels"}
        self.weights_hash = "+".join(h for h in (describe.weights_hash, self.maps.weights_hash) if h)

    def __call__(self, image: NDArray[Any], inverted: bool) -> Features:
        return self.describe(self.maps(image), False)


def heat_map(network: UNet, plane: NDArray[np.float32], threads: int) -> NDArray[np.float32]:
    """The network's sigmoid (H, W) of a locally normalised plane, its sides multiples of ``network.multiple``."""
    with torch_threads(threads), torch.inference_mode():
        return network(torch.from_numpy(plane)[None, None])[0, 0].sigmoid().numpy()
