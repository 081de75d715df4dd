"""One modality shown in the look of another, before key points are described: CycleGAN of document B.

Both images of a pair become looks (locally normalised planes, gray outside the field of view); one of them is
translated. Which one shows the modality that is translated is not asked for: both are tried, and the more confident
registration is the answer.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fastretina import ops
from fastretina.methods import WEIGHTS
from fastretina.methods.keypoints import Attempts, Look
from fastretina.networks.cyclegan import LIMIT, PAD_MULTIPLE, Generator, GeneratorSize
from fastretina.networks.weight_files import load_weights
from fastretina.torch_path.threads import torch_threads

_OCTA, _FA = "cyclegan_cf_octa.safetensors", "cyclegan_cf_fa.safetensors"
WEIGHT_FILES = {"cf-octa": _OCTA, "octa-cf": _OCTA, "cf-fa": _FA, "fa-cf": _FA}


class Translator:
    """The generator of a translation, by its name."""

    def __init__(self, name: str, threads: int = 1) -> None:
        networks, facts, self.weights_hash = load_weights(generators, WEIGHTS / WEIGHT_FILES[name])
        self.network = networks[name]
        self.working_size, self.threads = int(facts["working_size"]), threads

    def look(self, image: NDArray[Any]) -> tuple[NDArray[np.uint8], float]:
        """The image's own look, the longer side ``working_size``, and its size relative to the image."""
        plane, scale, _ = self._seen(image)
        return _gray(plane), scale

    def translated(self, image: NDArray[Any]) -> tuple[NDArray[np.uint8], float]:
        """The same in the look of the other modality."""
        plane, scale, mask = self._seen(image)
        height, width = plane.shape
        padded = np.pad(plane, ((0, -height % PAD_MULTIPLE), (0, -width % PAD_MULTIPLE)))
        with torch_threads(self.threads), torch.inference_mode():
            found = self.network(torch.from_numpy(padded)[None, None])[0, 0].numpy()
        return _gray(found[:height, :width] * mask), scale

    def _seen(self, image: NDArray[Any]) -> tuple[NDArray[np.float32], float, NDArray[np.uint8]]:
        """Plane in [-1, 1] without padding, its scale, its field of view."""
        seen = ops.image(image, working_size=self.working_size, threads=self.threads)
        height, width = seen.gray.shape
        plane = np.clip(seen.plane[:height, :width] / np.float32(LIMIT), -1, 1)
        return plane.astype(np.float32), seen.scale, seen.mask[:height, :width]


class Translations:
    """Several of them as attempts of one pipeline: the image that is translated is FIXED, then MOVING."""

    def __init__(self, names: tuple[str, ...], threads: int) -> None:
        translators = [Translator(name, threads) for name in names]
        self.weights_hash = "+".join(t.weights_hash for t in translators)
        looks = [(Look(t.translated), Look(t.look)) for t in translators]
        self.attempts: Attempts = tuple(pair for a, b in looks for pair in ((a, b), (b, a)))


def generators(facts: dict[str, Any]) -> torch.nn.ModuleDict:
    """What a weight file holds: a generator each translation."""
    return torch.nn.ModuleDict({name: Generator(GeneratorSize(**facts["size"])) for name in facts["translations"]})


def _gray(plane: NDArray[np.float32]) -> NDArray[np.uint8]:
    """[-1, 1] as 0 ... 255; 0, which is the local mean and what lies outside the field of view, as 128."""
    return np.rint(127.5 * plane + 127.5).astype(np.uint8)
