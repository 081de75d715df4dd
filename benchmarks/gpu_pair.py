"""Pairs on the device: our rooms and engine on one stream without a look from the host, and the same steps in torch."""

from __future__ import annotations

from typing import Any

import torch
from gpu_peers import RADIUS, torch_describe, torch_detect, torch_match, torch_normalise, torch_similarity
from gpu_rooms import Pairs, Points, Rooms
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


class OurPair:
    """Image to estimate for some pairs. Buffers are made once; `run` only enqueues, so that it can be captured."""

    def __init__(self, rooms: Rooms, engine: Any, fixed: Tensor, moving: Tensor, top: int) -> None:
        self.rooms, self.engine, self.images = rooms, engine, torch.cat([fixed, moving])
        device, count = fixed.device, len(fixed)
        self.planes = torch.zeros(2 * count, 1, *fixed.shape[1:], device=device)
        self.masks = torch.zeros_like(self.images)
        self.contrast = torch.zeros(2 * count, 1, device=device)
        self.points = [Points.empty(top, device) for _ in range(2 * count)]
        self.rows = torch.zeros(2 * count, top, engine.dims, device=device)
        self.matches = [Pairs.empty(top, device) for _ in range(count)]
        self.found = [torch.zeros(rooms.estimate_size(), dtype=torch.uint8, device=device) for _ in range(count)]

    def run(self) -> None:
        rooms = self.rooms
        for gray, plane, mask, contrast in zip(self.images, self.planes[:, 0], self.masks, self.contrast, strict=True):
            rooms.image(gray, plane, mask, contrast)
        maps, dense = self.engine.run_on_device(self.planes)
        difference, dense = (maps[:, 0] - maps[:, 1]).contiguous(), dense.contiguous()
        for i, points in enumerate(self.points):
            rooms.detect(difference[i], self.masks[i], RADIUS, THRESHOLD, points)
            rooms.describe(dense[i], points, self.rows[i])
        count = len(self.matches)
        for i, (matches, found) in enumerate(zip(self.matches, self.found, strict=True)):
            a, b = self.points[i], self.points[count + i]
            rooms.match(self.rows[i], a.count, self.rows[count + i], b.count, "bf16", matches)
            top = len(a.score) - 1  # rows past the count are whatever was there
            fixed, moving = a.xy[matches.fixed.clamp(0, top).long()], b.xy[matches.moving.clamp(0, top).long()]
            rooms.estimate(fixed, moving, matches.count, "similarity", DRAWS, found)

    def error_px(self, i: int, truth: Tensor) -> float:
        """The largest error at a corner; infinite where nothing was found."""
        params, found, *_ = self.rooms.read_estimate(self.found[i])
        side = self.images.shape[2] - 1.0
        corners = torch.tensor([[0.0, 0, 1], [side, 0, 1], [0, side, 1], [side, side, 1]], dtype=torch.float64)
        got = torch.tensor(params[:6], dtype=torch.float64).reshape(2, 3)
        return float((corners @ (got - truth.double()).T).norm(dim=1).max()) if found else float("inf")


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
