"""Room image against OpenCV + NumPy and PyTorch (the training code's definition), CPU time, one thread."""

from __future__ import annotations

import argparse

import cv2
import numpy as np
import torch
from fastretina import _core, ops
from fastretina.training.normalise import network_input
from harness import measure, publish


def photograph(size: int, channels: int) -> np.ndarray:
    random = np.random.default_rng(0)
    texture = cv2.resize(
        random.random((size // 8, size // 8), dtype=np.float32), (size, size), interpolation=cv2.INTER_CUBIC
    )
    y, x = np.mgrid[:size, :size]
    inside = np.hypot(x - size / 2, y - size / 2) < 0.47 * size
    gray = np.where(
        inside, 60 + 120 * texture + random.integers(0, 9, (size, size)), random.integers(0, 4, (size, size))
    )
    gray = np.clip(gray, 0, 255).astype(np.uint8)
    return gray if channels == 1 else np.repeat(gray[..., None], 3, -1)


def cases(repeat: int) -> list[dict]:
    rows = []
    options = {k: _core.IMAGE_DEFAULTS[k] for k in ("working_size", "multiple")}
    for size, channels in [(768, 1), (768, 3), (3000, 3)]:
        image = photograph(size, channels)
        functions = {
            "fastretina": lambda image=image: ops.image(image),
            "opencv + torch": lambda image=image: network_input(image, **options),
        }
        times = measure(functions, repeat)
        plane = network_input(image, **options)[0][0, 0].numpy()
        difference = float(np.abs(ops.image(image).plane - plane).max())
        for name, t in times.items():
            ratio = t["median"] / times["fastretina"]["median"]
            rows.append({"input": f"{size}x{size}x{channels} u8", "candidate": name, **t, "ratio": ratio,
                         "max difference": difference if name != "fastretina" else 0.0})  # fmt: skip
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json")
    parser.add_argument("--repeat", type=int, default=20)
    args = parser.parse_args()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    rows = cases(args.repeat)
    publish(rows, args.json)


if __name__ == "__main__":
    main()
