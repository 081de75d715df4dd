"""A pair end to end: ours at each precision beside the same pipeline of torch, kornia and OpenCV, and beside SIFT.

    python benchmarks/bench_pipeline.py [--fixed A.png --moving B.png] [--repeat 9] [--json FILE]

Without images a synthetic two-modality pair is used. One thread, CPU time, candidates interleaved in one process.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import cv2
import fastretina
import numpy as np
import torch
import torch.nn.functional as functional
from fastretina import _core
from fastretina.registrar import native_options
from fastretina.synth import synthetic_pair
from fastretina.training.normalise import field_of_view, normalise, plane_of, resize_longer
from harness import measure, table
from kornia.feature import match_mnn
from kornia.geometry.subpix import nms2d

KEYPOINTS, RADIUS_PX, SIZE_PX = 4000, 4, 768


class TorchPipeline:
    """The pipeline as people build it today: torch f32 + kornia + cv2, with our network."""

    def __init__(self) -> None:
        self.network = fastretina.engines.load_manifest("default").torch_network().eval()

    def features(self, image: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        plane = resize_longer(plane_of(image), SIZE_PX)
        mask = torch.from_numpy(field_of_view(plane))[None, None]
        maps, dense = self.network(normalise(torch.from_numpy(plane)[None, None], mask))
        heat = functional.interpolate(maps[:, :1] - maps[:, 1:], scale_factor=4, mode="bicubic")
        peaks = torch.where(nms2d(heat, (2 * RADIUS_PX + 1,) * 2) > 0, heat * mask, torch.zeros(()))
        index = peaks.flatten().topk(KEYPOINTS).indices
        xy = torch.stack([index % heat.shape[3], index // heat.shape[3]], 1).float()
        grid = (2 * xy + 1) / torch.tensor([heat.shape[3], heat.shape[2]]) - 1
        rows = functional.grid_sample(dense, grid[None, None], align_corners=False)[0, :, 0].T
        return xy, functional.normalize(rows, dim=1)

    @torch.inference_mode()
    def register(self, fixed: np.ndarray, moving: np.ndarray) -> np.ndarray:
        (xy_f, d_f), (xy_m, d_m) = self.features(fixed), self.features(moving)
        _, pairs = match_mnn(d_f, d_m)
        return cv2.findHomography(xy_m[pairs[:, 1]].numpy(), xy_f[pairs[:, 0]].numpy(), cv2.USAC_ACCURATE, 5.0)[0]


class SiftPipeline:
    """OpenCV SIFT (4000) + BFMatcher (L2, cross check) + USAC_ACCURATE."""

    def __init__(self) -> None:
        self.sift, self.matcher = cv2.SIFT_create(KEYPOINTS), cv2.BFMatcher(cv2.NORM_L2, crossCheck=True)
        self.counts: tuple[int, int] = (0, 0)

    def register(self, fixed: np.ndarray, moving: np.ndarray) -> np.ndarray | None:
        (k_f, d_f), (k_m, d_m) = (self.sift.detectAndCompute(image, None) for image in (fixed, moving))
        self.counts = (len(k_f), len(k_m))
        pairs = self.matcher.match(d_m, d_f)
        source = np.float32([k_m[p.queryIdx].pt for p in pairs])
        target = np.float32([k_f[p.trainIdx].pt for p in pairs])
        return cv2.findHomography(source, target, cv2.USAC_ACCURATE, 5.0)[0]


def full_setting(precision: str):
    """Ours at 768 px with 4000 key points, one attempt."""
    registrar = fastretina.Registrar(threads=1, precision=precision, engine="openvino")
    options = native_options(registrar.config)
    options.features.image.working_size = SIZE_PX
    options.features.detect.max_keypoints = KEYPOINTS
    options.features.detect.threshold = -1e9  # all 4000, as the peers take them
    options.ladder.max_rungs = 1
    options.match.precision = getattr(_core.Precision, precision)
    pipeline = _core.Pipeline(registrar.engine, options, 1)
    return lambda a, b: pipeline.register(pipeline.prepare(a), pipeline.prepare(b))


def green_768(path: str | None, image: np.ndarray | None) -> np.ndarray:
    if path is not None:
        image = cv2.imread(path)  # BGR: green stays in the middle
    plane = image if image.ndim == 2 else image[..., 1]
    return cv2.resize(np.ascontiguousarray(plane), (SIZE_PX, SIZE_PX), interpolation=cv2.INTER_AREA)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fixed")
    parser.add_argument("--moving")
    parser.add_argument("--repeat", type=int, default=9)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    pair = synthetic_pair(seed=1) if args.fixed is None else None
    fixed = green_768(args.fixed, None if pair is None else pair.fixed)
    moving = green_768(args.moving, None if pair is None else pair.moving)

    peer, sift, default = TorchPipeline(), SiftPipeline(), fastretina.Registrar(threads=1)
    candidates = {"torch f32 + kornia + cv2, 768 px": lambda: peer.register(fixed, moving)}
    for precision in ("f32", "bf16", "int8"):
        ours = full_setting(precision)
        candidates[f"fastretina {precision}, 768 px, 4000 points"] = lambda ours=ours: ours(fixed, moving)
    candidates["OpenCV SIFT (4000) + BFMatcher + USAC_ACCURATE"] = lambda: sift.register(fixed, moving)
    candidates["fastretina, default setting"] = lambda: default.register(fixed, moving)
    times = measure(candidates, repeat=args.repeat)
    peers = {name.split(",")[0].split(" (")[0]: name for name in times if not name.startswith("fastretina")}
    rows = [
        {
            "who": who,
            **{f"{k}_ms": v for k, v in t.items()},
            **{f"faster than {peer}": times[name]["min"] / t["min"] for peer, name in peers.items()},
        }
        for who, t in times.items()
    ]
    print(table(rows))
    counts = [len(default.prepare(image).payload.keypoints) for image in (fixed, moving)]
    print(f"SIFT key points: {sift.counts}; ours (default): {counts}")
    result = default.register(fixed, moving)
    print(f"default setting: {result}, {dict(result.timings_ms)}")
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
