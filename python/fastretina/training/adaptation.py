"""Homographic adaptation: key points of real images from a detector that was trained on drawings.

Source: DeTone et al. 2018 (SuperPoint), section 5: the detector sees an image under many random homographies, its
responses are brought back and averaged; what it finds under all of them is a label. Of an eye with several planes
(modalities in one geometry) every homography sees another one, and half of them the negative, so that a label does not
depend on the device either (Achermann et al. 2020, "MultiPoint", average over spectra).
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from fastretina.networks.superpoint import CELL_PX, heatmap
from fastretina.torch_path.nms import nms
from fastretina.training import cache as cached
from fastretina.training.normalise import normalise, pad_to
from fastretina.training.sample import Sample

PX_PER_DEG = 12.0
"""Resolution of the adaptation, where a sample is finer: a 45-degree field on 540 px."""
EDGE_PX = 6  # near the border of the field of view a response is one to the border
RADIUS_PX = 4


def adapt_all(
    network: nn.Module, samples: list[Sample], cache: Path, *, homographies: int, points: int, seed: int
) -> list[np.ndarray]:
    """:func:`adapt` of every sample; kept in ``cache`` (.npz) as they are made, so that a killed run goes on there.
    Points of another network, other samples or options are made anew.
    """
    key = repr((homographies, points, seed, [sample.name for sample in samples], digest(network)))
    kept = cached.read(cache, key) or {}
    found = [kept[f"{i}"] for i in range(len(kept))]
    for i in range(len(found), len(samples)):
        found.append(adapt(network, samples[i], homographies, points, np.random.default_rng([seed, i])))
        if i % 50 == 49 or i == len(samples) - 1:
            cached.write(cache, key, {f"{j}": at for j, at in enumerate(found)})
    return found


def digest(network: nn.Module) -> str:
    """Of a network's weights."""
    found = hashlib.sha256()
    for name, value in network.state_dict().items():
        found.update(name.encode() + value.contiguous().numpy().tobytes())
    return found.hexdigest()


@torch.no_grad()
def adapt(network: nn.Module, sample: Sample, homographies: int, points: int, rng: np.random.Generator) -> np.ndarray:
    """Key points ``(K, 2)`` px of the sample, the ``points`` best, best first; ``network`` is in evaluation mode."""
    scale = min(1.0, PX_PER_DEG / sample.px_per_deg) if min(sample.mask.shape) > 620 else 1.0
    size = (round(sample.mask.shape[1] * scale), round(sample.mask.shape[0] * scale))
    mask = cv2.resize(sample.mask, size, interpolation=cv2.INTER_NEAREST).astype(np.float32)
    total, seen = np.zeros(mask.shape, np.float32), np.zeros(mask.shape, np.float32)
    for i in range(homographies):
        plane = cv2.resize(sample.planes[int(rng.integers(len(sample.planes)))], size, interpolation=cv2.INTER_AREA)
        there = random_homography(rng, size) if i else np.eye(3)
        back = np.linalg.inv(there)
        warped = cv2.warpPerspective(plane.astype(np.float32) / 255, there, size, flags=cv2.INTER_LINEAR)
        warped_mask = cv2.warpPerspective(mask, there, size, flags=cv2.INTER_NEAREST)
        response = respond(network, 1 - warped if rng.random() < 0.5 else warped, warped_mask)
        core = cv2.erode(warped_mask, np.ones((2 * EDGE_PX + 1,) * 2, np.uint8), borderValue=0)
        total += cv2.warpPerspective(response * core, back, size, flags=cv2.INTER_LINEAR)
        seen += cv2.warpPerspective(core, back, size, flags=cv2.INTER_LINEAR)
    mean = np.where(seen > 0.25 * homographies, total / np.maximum(seen, 1), 0)
    at, _ = nms(torch.from_numpy(mean), radius=RADIUS_PX, max_keypoints=points, threshold=0.0)
    ratio = np.array(sample.mask.shape[::-1]) / np.array(size)
    return ((at.numpy() + 0.5) * ratio - 0.5).astype(np.float32)


def respond(network: nn.Module, plane: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Plane ``(H, W)`` in [0, 1] and its field of view -> the detector's probability ``(H, W)``."""
    planes: Tensor = normalise(torch.from_numpy(plane)[None, None], torch.from_numpy(mask)[None, None])
    padded = pad_to(planes, CELL_PX).contiguous(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        logits, _ = network(padded)
    height, width = plane.shape
    return heatmap(logits)[0, :height, :width].numpy()


def random_homography(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    """``(3, 3)``: any turn, scale 0.7 to 1.4, a shift of up to a tenth of the frame and a slight perspective, about the
    middle of a frame ``(width, height)``."""
    width, height = size
    middle = np.array([(width - 1) / 2, (height - 1) / 2])
    angle, scale = rng.uniform(0, 2 * np.pi), np.exp(rng.uniform(np.log(0.7), np.log(1.4)))
    shift = rng.uniform(-0.1, 0.1, 2) * size
    cos, sin = scale * np.cos(angle), scale * np.sin(angle)
    tilt = rng.uniform(-0.15, 0.15, 2) / np.array(size)
    turned = np.array([[cos, -sin, 0], [sin, cos, 0], [*tilt, 1]])
    to_middle = np.array([[1, 0, -middle[0]], [0, 1, -middle[1]], [0, 0, 1]])
    back = np.array([[1, 0, middle[0] + shift[0]], [0, 1, middle[1] + shift[1]], [0, 0, 1]])
    return back @ turned @ to_middle
