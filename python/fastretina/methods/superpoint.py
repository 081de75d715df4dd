"""SuperPoint as a description for ``keypoints.Pipeline``: one forward pass of the network on the CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray

from fastretina import ops
from fastretina.config import Config
from fastretina.methods import WEIGHTS
from fastretina.methods.keypoints import Features, in_image
from fastretina.networks.retina_craquelure import sample_descriptors
from fastretina.networks.superpoint import CELL_PX, SuperPoint, SuperPointSize, heatmap
from fastretina.networks.weight_files import load_weights
from fastretina.torch_path.threads import torch_threads

WORKING_SIZE_PX = 640
KEYPOINTS = 1024
RADIUS_PX, THRESHOLD = 4, 0.005


class SuperPointFeatures:
    """``Describes`` of ``keypoints``: ``Features`` with ``score``, the detector's probability in [0, 1].

    ``rows`` have the ``dim`` of the network (``self.network.size.dim``). The training turned the polarity of half the
    views, so that an image and its negative give nearly the same.
    """

    def __init__(self, config: Config, threads: int, weights: Path = WEIGHTS / "superpoint.safetensors") -> None:
        self.network, self.facts, self.weights_hash = load_weights(network_of, weights)
        self.size = config.working_size or WORKING_SIZE_PX
        self.count = config.max_keypoints or KEYPOINTS
        self.threads = threads
        self.choices: dict[str, Any] = {"network": "superpoint", "engine": "torch", "precision": "f32"}

    def __call__(self, image: NDArray[Any], inverted: bool) -> Features:
        seen = ops.image(image, working_size=self.size, multiple=CELL_PX, threads=self.threads)
        plane = torch.from_numpy(-seen.plane if inverted else seen.plane)[None, None]
        with torch_threads(self.threads), torch.inference_mode():
            logits, dense = self.network(plane)
            found = ops.nms(
                heatmap(logits)[0].numpy(), seen.mask, radius=RADIUS_PX, threshold=THRESHOLD,
                max_keypoints=self.count, threads=self.threads,
            )  # fmt: skip
            first = torch.zeros(len(found.xy), dtype=torch.long)
            rows = sample_descriptors(dense, torch.from_numpy(found.xy), first, CELL_PX)
        xy = in_image(found.xy, seen.scale)
        return Features(xy, rows.numpy(), found.score, self.size)


def network_of(facts: dict[str, Any]) -> SuperPoint:
    """The network that the facts of a weight file describe."""
    return SuperPoint(SuperPointSize.from_dict(facts["size"]))
