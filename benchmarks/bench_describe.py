"""Room describe against torch's grid_sample + normalize and NumPy, CPU time, one thread."""

from __future__ import annotations

import argparse

import numpy as np
import torch
import torch.nn.functional as functional
from fastretina import ops
from fastretina.torch_path.describe import describe as twin
from harness import measure, publish


def with_grid_sample(dense: torch.Tensor, xy: torch.Tensor) -> torch.Tensor:
    """Cell i is centred on pixel 4i + 1.5: with align_corners=False that is (x + 1/2) / (4 w) of the way."""
    _, height, width = dense.shape
    size = torch.tensor([4 * width, 4 * height], dtype=torch.float32)
    grid = (2 * xy + 1) / size - 1
    rows = functional.grid_sample(dense[None], grid[None, None], padding_mode="border", align_corners=False)[0, :, 0].T
    return functional.normalize(rows, dim=1)


def cases(repeat: int) -> list[dict]:
    rows = []
    for dims, side, count in [(64, 160, 2000), (128, 160, 2000), (128, 192, 4000), (256, 192, 4000)]:
        random = np.random.default_rng(0)
        planar = random.standard_normal((dims, side, side)).astype(np.float32)
        interleaved = np.ascontiguousarray(planar.transpose(1, 2, 0)).transpose(2, 0, 1)
        xy = random.uniform(0, 4 * side, (count, 2)).astype(np.float32)
        t_planar, t_xy = torch.from_numpy(planar), torch.from_numpy(xy)
        t_interleaved = torch.from_numpy(interleaved)
        functions = {
            "fastretina (D, h, w)": lambda: ops.describe(planar, xy),  # noqa: B023
            "fastretina (h, w, D)": lambda: ops.describe(interleaved, xy),  # noqa: B023
            "grid_sample (D, h, w)": lambda: with_grid_sample(t_planar, t_xy),  # noqa: B023
            "grid_sample (h, w, D)": lambda: with_grid_sample(t_interleaved, t_xy),  # noqa: B023
            "indexing in torch (h, w, D)": lambda: twin(t_interleaved, t_xy),  # noqa: B023
        }
        times = measure(functions, repeat)
        ours = ops.describe(planar, xy)
        for name, t in times.items():
            ratio = t["median"] / times["fastretina (h, w, D)"]["median"]
            result = np.asarray(functions[name]())
            rows.append({"case": f"{dims}x{side}x{side}, {count}", "candidate": name, **t, "ratio": ratio,
                         "max difference": float(np.abs(result - ours).max())})  # fmt: skip
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json")
    parser.add_argument("--repeat", type=int, default=20)
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows = cases(args.repeat)
    publish(rows, args.json)


if __name__ == "__main__":
    main()
