"""Pairs on the device: our rooms and engine on one stream without a look from the host, and the same steps in torch."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from fastretina import Registrar
from fastretina.device_pairs import Kind, Slot
from fastretina.transform import SINGLE_KINDS, Transform
from gpu_peers import torch_describe, torch_detect, torch_match, torch_normalise, torch_similarity
from gpu_rooms import Rooms
from torch import Tensor

DRAWS = 2000
THRESHOLD = -6.0  # of the class difference: the room's default


def photographs(side: int, pairs: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """(pairs, side, side) uint8 twice, and the 2 x 3 matrix that maps MOVING to FIXED: dark lines, seen twice."""
    generator = torch.Generator().manual_seed(5)
    turn = torch.tensor([[0.9962, -0.0872], [0.0872, 0.9962]])
    shift = torch.tensor([14.0, -9.0])
    y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    grid = torch.stack([x, y], 2).float()
    seen = [torch.stack([_tree(p, side, k, generator) for k in range(pairs)]) for p in (grid, grid @ turn.T + shift)]
    truth = torch.cat([turn, shift[:, None]], 1)
    return seen[0].to(device), seen[1].to(device), truth


def _tree(points: Tensor, side: int, seed: int, noise: torch.Generator) -> Tensor:
    """Gray 0.7 with dark wavy lines, as a camera sees it whose pixels show `points`."""
    generator = torch.Generator().manual_seed(100 + seed)
    gray = torch.full(points.shape[:2], 0.7)
    for _ in range(24):
        angle, offset, phase, wave = (
            torch.rand(4, generator=generator) * torch.tensor([3.14, side, 6.28, 40.0])
        ).tolist()
        direction = torch.tensor([torch.cos(torch.tensor(angle)), torch.sin(torch.tensor(angle))])
        along, across = points @ direction, points @ torch.tensor([-direction[1], direction[0]])
        bend = across + 14 * torch.sin(along / (25 + wave) + phase) - (offset - side / 2)
        gray -= 0.25 * torch.exp(-(bend**2) / 5)
    gray = gray + 0.01 * torch.randn(points.shape[:2], generator=noise)
    return (gray.clamp(0.05, 1) * 255).to(torch.uint8)


class OurPairs:
    """Image to quality for some pairs on the device, as Registrar does it: a graph and a stream each."""

    def __init__(self, rooms: Rooms, engine: Any, fixed: Tensor, moving: Tensor, top: int) -> None:
        kind = Kind(tuple(fixed.shape[1:]), fixed.dtype)
        self.side = int(fixed.shape[2])
        self.slots = [
            Slot(engine, lambda f, m: rooms.pair(f, m, top, engine.multiple, engine.dims), (kind, kind)) for _ in fixed
        ]
        for slot, *images in zip(self.slots, fixed, moving, strict=True):
            slot.start(images)
        self.found = [slot.finish() for slot in self.slots]

    def run(self) -> None:
        """All of them, the images where they lie; on the current stream they are one thing."""
        current = torch.cuda.current_stream()
        for slot in self.slots:
            slot.stream.wait_stream(current)
            slot.replay()
        for slot in self.slots:
            current.wait_stream(slot.stream)

    def error_px(self, i: int, truth: Tensor) -> float:
        """The largest error at a corner; infinite where nothing was found."""
        found = self.found[i]
        if not found["found"]:
            return float("inf")
        name = SINGLE_KINDS[found["kind"]]
        params = np.array(found["params"])
        params = params.reshape(2, 6) if name == "quadratic" else params[:9].reshape(3, 3)
        return corner_error(Transform(name, params), truth, self.side)


class HostPairs:
    """The same pipeline on a CPU, ladder and all: for the dry run."""

    def __init__(self, fixed: Tensor, moving: Tensor, top: int) -> None:
        self.side = int(fixed.shape[2])
        self.registrar = Registrar(engine="torch", device="cpu", working_size=self.side, max_keypoints=top, threads=1)
        self.pairs = [(f.numpy(), m.numpy()) for f, m in zip(fixed, moving, strict=True)]
        self.run()

    def run(self) -> None:
        """All of them."""
        self.found = list(self.registrar.register_many(self.pairs))

    def error_px(self, i: int, truth: Tensor) -> float:
        """As that of OurPairs."""
        transform = self.found[i].transform
        return float("inf") if transform is None else corner_error(transform, truth, self.side)


def corner_error(transform: Transform, truth: Tensor, side: int) -> float:
    """The largest distance between where both put a corner, px."""
    last = side - 1.0
    corners = np.array([[0.0, 0], [last, 0], [0, last], [last, last]])
    matrix = truth.double().numpy()
    return float(np.linalg.norm(transform(corners) - (corners @ matrix[:, :2].T + matrix[:, 2]), axis=1).max())


class EagerPair:
    """The same steps in torch, bf16, one after the other."""

    def __init__(self, network: torch.nn.Module, top: int) -> None:
        self.network, self.top = network, top

    def features(self, gray: Tensor) -> tuple[Tensor, Tensor]:
        plane = torch_normalise(gray[None, None].float() / 255)
        maps, dense = self.network(plane.bfloat16())
        xy, score = torch_detect((maps[:, :1] - maps[:, 1:]).float(), self.top)
        xy = xy[0][score[0] > THRESHOLD]
        return xy, torch_describe(dense, xy)

    def register(self, fixed: Tensor, moving: Tensor) -> Tensor:
        (xy_fixed, rows_fixed), (xy_moving, rows_moving) = self.features(fixed), self.features(moving)
        pairs = torch_match(rows_fixed, rows_moving)
        pairs = pairs[pairs[:, 1] >= 0]
        return torch_similarity(xy_fixed[pairs[:, 0]], xy_moving[pairs[:, 1]], DRAWS)
