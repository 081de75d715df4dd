"""Frames of a live stream of one synthetic eye, for cpp_stream: motion, blinks and blur.

make_frames.py OUT [--frames 40] [--seed 0]

Writes OUT/frame_0000.pgm (the reference) ... and OUT/truth.jsonl, a line a frame: its name, what happened ("motion",
"blink" or "blur") and the true transform FRAME -> reference.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from fastretina import Transform
from fastretina.resample import resample
from fastretina.synth import synthetic_pair
from numpy.typing import NDArray

SIZE = (640, 480)  # (width, height) px
BLINK, BLUR = 7, 11  # every so many frames; both last one frame
BLUR_SIGMA_PX = 20.0  # far out of focus: vessels are at most 8 px wide
NOISE = 3.0  # gray levels


def eye_motion(rng: np.random.Generator) -> Transform:
    """How a frame lies in the reference: jitter of a few percent of the field, and a little turn of the head."""
    angle, scale = math.radians(rng.uniform(-3, 3)), rng.uniform(0.98, 1.02)
    c, s = scale * math.cos(angle), scale * math.sin(angle)
    cx, cy = (SIZE[0] - 1) / 2, (SIZE[1] - 1) / 2
    dx, dy = rng.uniform(-25, 25, 2)
    return Transform("similarity", [[c, -s, cx - c * cx + s * cy + dx], [s, c, cy - s * cx - c * cy + dy], [0, 0, 1]])


def frames(count: int, seed: int) -> Iterator[tuple[str, Transform, NDArray[np.uint8]]]:
    """What happened, where the frame lies, and its pixels; the first one is the reference."""
    rng = np.random.default_rng(seed)
    eye = synthetic_pair(seed=seed, size=(800, 800), modalities=("IR", "IR"), difficulty="easy").fixed
    into_eye = Transform.from_matrix([[1, 0, (800 - SIZE[0]) / 2], [0, 1, (800 - SIZE[1]) / 2]])
    for i in range(count):
        motion = eye_motion(rng) if i > 0 else Transform.identity()
        event = "motion" if i == 0 or (i % BLINK and i % BLUR) else "blink" if i % BLINK == 0 else "blur"
        frame, _ = resample(eye, (into_eye @ motion).inverse, SIZE)
        if event == "blink":
            frame = np.full_like(frame, 6)  # the lid
        if event == "blur":
            frame = cv2.GaussianBlur(frame, (0, 0), BLUR_SIGMA_PX)
        noisy = frame + rng.normal(0, NOISE if event == "motion" else 1, frame.shape)
        yield event, motion, np.clip(np.round(noisy), 0, 255).astype(np.uint8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--frames", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    lines = []
    for i, (event, transform, pixels) in enumerate(frames(arguments.frames, arguments.seed)):
        name = f"frame_{i:04d}.pgm"
        header = f"P5 {pixels.shape[1]} {pixels.shape[0]} 255\n".encode()
        (arguments.out / name).write_bytes(header + pixels.tobytes())
        lines.append(json.dumps({"frame": name, "event": event, "transform": transform.to_dict()}))
    (arguments.out / "truth.jsonl").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
