"""detect against what people use: upsample x4 (bicubic), local maxima within 4 px, the 4000 best, sorted.

One thread, CPU time, one process. Peers: OpenCV (resize, dilate, compare, then a partial sort in NumPy) and torch
(interpolate, max_pool2d, compare, topk). `same` says whether a peer finds the same positions in the same order.

    python benchmarks/bench_detect.py [--repeat N] [--difference FILE.npy] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch
from fastretina import ops
from harness import measure, table
from torch.nn import functional

RADIUS, TOP = 4, 4000
OPTIONS = {"radius": RADIUS, "max_keypoints": TOP, "threshold": 0.0}  # as the peers below have them


def network_like(side: int, seed: int = 0) -> np.ndarray:
    """A class-difference map as a detection head gives it: background well below 0, one bump a vessel crossing."""
    rng = np.random.default_rng(seed)
    peaks = np.zeros((side, side), np.float32)
    count = side * side // 16
    peaks[rng.integers(0, side, count), rng.integers(0, side, count)] = rng.uniform(3, 14, count)
    return cv2.GaussianBlur(peaks, (0, 0), 0.9) * 4 - 3 + rng.normal(0, 0.3, (side, side)).astype(np.float32)


def noise(side: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(side, side)).astype(np.float32)


def opencv_nms(confidence: np.ndarray) -> np.ndarray:
    highest = cv2.dilate(confidence, np.ones((2 * RADIUS + 1, 2 * RADIUS + 1), np.uint8))
    index = cv2.findNonZero(cv2.compare(confidence, highest, cv2.CMP_EQ)).reshape(-1, 2)
    score = confidence[index[:, 1], index[:, 0]]
    index, score = index[score > 0], score[score > 0]
    if len(score) > TOP:
        best = np.argpartition(-score, TOP)[:TOP]
        index, score = index[best], score[best]
    return index[np.argsort(-score)]


def opencv(difference: np.ndarray) -> np.ndarray:
    return opencv_nms(cv2.resize(difference, None, fx=4, fy=4, interpolation=cv2.INTER_CUBIC))


def torch_nms(confidence: torch.Tensor) -> torch.Tensor:
    highest = functional.max_pool2d(confidence, 2 * RADIUS + 1, 1, RADIUS)
    y, x = torch.nonzero(((confidence == highest) & (confidence > 0))[0, 0], as_tuple=True)
    score = confidence[0, 0, y, x]
    best = torch.topk(score, min(TOP, len(score))).indices
    return torch.stack([x[best], y[best]], dim=1)


def torch_chain(difference: np.ndarray) -> torch.Tensor:
    source = torch.from_numpy(difference)[None, None]
    return torch_nms(functional.interpolate(source, scale_factor=4, mode="bicubic"))


def cases(difference: np.ndarray) -> dict[str, dict[str, Callable]]:
    """{room: {who: function}}; ours is called "fastretina"."""
    confidence = ops.upsample(difference)
    tensor = torch.from_numpy(confidence)[None, None]
    source = torch.from_numpy(difference)[None, None]
    return {
        "upsample": {
            "fastretina": lambda: ops.upsample(difference),
            "opencv": lambda: cv2.resize(difference, None, fx=4, fy=4, interpolation=cv2.INTER_CUBIC),
            "torch": lambda: functional.interpolate(source, scale_factor=4, mode="bicubic"),
        },
        "nms": {
            "fastretina": lambda: ops.nms(confidence, **OPTIONS).xy,
            "opencv": lambda: opencv_nms(confidence),
            "torch": lambda: torch_nms(tensor),
        },
        "detect": {
            "fastretina": lambda: ops.detect(difference, **OPTIONS).xy,
            "opencv": lambda: opencv(difference),
            "torch": lambda: torch_chain(difference),
        },
    }


def same(room: str, ours: np.ndarray, theirs: np.ndarray) -> str:
    theirs = np.asarray(theirs).squeeze() if room == "upsample" else np.asarray(theirs)
    if room == "upsample":
        return f"max |d| {np.abs(ours - theirs).max():.1e}"
    if np.array_equal(ours, theirs):
        return "yes"
    shared = len({tuple(p) for p in ours.tolist()} & {tuple(p) for p in theirs.tolist()})
    return f"{shared} of {len(ours)} points" + (", ties in another order" if shared == len(ours) == len(theirs) else "")


def rows(name: str, difference: np.ndarray, rooms: list[str], repeat: int) -> list[dict]:
    out = []
    for room, functions in cases(difference).items():
        if room not in rooms:
            continue
        times = measure(functions, repeat)
        ours = times["fastretina"]
        for who, t in times.items():
            out.append(
                {
                    "room": room,
                    "map": f"{name} {4 * difference.shape[1]}x{4 * difference.shape[0]}",
                    "who": who,
                    "min_ms": t["min"],
                    "median_ms": t["median"],
                    "ratio_min": t["min"] / ours["min"],
                    "ratio_median": t["median"] / ours["median"],
                    "same": same(room, functions["fastretina"](), functions[who]()),
                }
            )
    return out


def main(rooms: tuple[str, ...] = ("detect",)) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=50)
    parser.add_argument("--difference", type=Path, help="a float32 (h, w) map to use instead of the synthetic ones")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    maps = [(name, make(side)) for side in (192, 384) for name, make in (("network", network_like), ("noise", noise))]
    if options.difference:
        maps = [(options.difference.stem, np.load(options.difference))]
    found = [row for name, difference in maps for row in rows(name, difference, list(rooms), options.repeat)]
    print(table(found))
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
