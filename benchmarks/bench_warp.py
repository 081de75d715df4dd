"""Room warp against cv2.warpPerspective and torch's grid_sample (grid included), CPU time, one thread."""

from __future__ import annotations

import argparse

import cv2
import numpy as np
import torch
import torch.nn.functional as functional
from fastretina import ops
from fastretina.transform import Transform
from harness import measure, publish

CV2 = {"nearest": cv2.INTER_NEAREST, "linear": cv2.INTER_LINEAR, "cubic": cv2.INTER_CUBIC}
HOMOGRAPHY = Transform.from_matrix([[1.02, 0.1, -5.2], [-0.1, 0.97, 6.1], [1e-5, -2e-5, 1]])
QUADRATIC = Transform("quadratic", [[2, 1.02, 0.05, 8e-6, -5e-6, 2e-6], [-3, -0.03, 0.98, 3e-6, 8e-6, -9e-6]])


def with_grid_sample(moving: torch.Tensor, matrix: np.ndarray, mode: str) -> torch.Tensor:
    height, width = moving.shape[:2]
    planes = moving.reshape(height, width, -1).permute(2, 0, 1)[None].float()
    y, x = torch.meshgrid(torch.arange(height).float(), torch.arange(width).float(), indexing="ij")
    a = torch.from_numpy(np.linalg.inv(matrix)).float()
    u, v, w = (a[r, 0] * x + a[r, 1] * y + a[r, 2] for r in range(3))
    grid = torch.stack([(2 * u / w + 1) / width - 1, (2 * v / w + 1) / height - 1], -1)[None]
    mode = {"linear": "bilinear", "cubic": "bicubic"}.get(mode, mode)
    return functional.grid_sample(planes, grid, mode=mode, padding_mode="border", align_corners=False)[0]


def case(dtype: type, size: int, channels: int, interpolation: str, transform: Transform, repeat: int) -> list[dict]:
    random = np.random.default_rng(0)
    shape = (size, size) if channels == 1 else (size, size, channels)
    moving = cv2.GaussianBlur(random.random(shape, dtype=np.float32), (0, 0), 2)
    if dtype != np.float32:
        moving = (moving * np.iinfo(dtype).max).astype(dtype)
    functions = {"fastretina": lambda: ops.warp(moving, transform, (size, size), interpolation=interpolation).image}
    if transform.kind == "homography":
        matrix = np.asarray(transform.params)
        if size < 32767:
            functions["opencv"] = lambda: cv2.warpPerspective(moving, matrix, (size, size), flags=CV2[interpolation])
        if size < 6000:
            tensor = torch.from_numpy(moving.astype(np.int32) if dtype == np.uint16 else moving)
            functions["torch grid_sample"] = lambda: with_grid_sample(tensor, matrix, interpolation)
    times = measure(functions, repeat)
    name = f"{np.dtype(dtype).name} {size}x{size}x{channels} {interpolation} {transform.kind}"
    base = times["fastretina"]["median"]
    return [{"case": name, "candidate": c, **t, "ratio": t["median"] / base} for c, t in times.items()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--large", action="store_true", help="also 12000 x 12000 px")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    rows = []
    for dtype, channels, interpolation, transform in [
        (np.uint8, 1, "nearest", HOMOGRAPHY),
        (np.uint8, 1, "linear", HOMOGRAPHY),
        (np.uint8, 1, "cubic", HOMOGRAPHY),
        (np.uint8, 3, "linear", HOMOGRAPHY),
        (np.uint8, 3, "linear", QUADRATIC),
        (np.uint16, 1, "linear", HOMOGRAPHY),
        (np.float32, 1, "linear", HOMOGRAPHY),
        (np.float32, 3, "linear", HOMOGRAPHY),
    ]:
        rows += case(dtype, 2912, channels, interpolation, transform, args.repeat)
    if args.large:
        rows += case(np.uint8, 12000, 3, "linear", HOMOGRAPHY, 2)
    publish(rows, args.json)


if __name__ == "__main__":
    main()
