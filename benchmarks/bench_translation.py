"""How exactly does a translation (CycleGAN) keep the vessels where they are? Held-out single images of a data folder.

The ridges of an image's look and of its translation are compared block by block: where a block of the one fits best in
the other, within 6 px and to a fraction of a pixel. A displacement holds what the measurement itself is off by, too.
Lengths are px of the working size of the translation.

usage: python benchmarks/bench_translation.py --data DATA [--count N] [--threads N]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
from fastretina import ops
from fastretina.io import read_image
from fastretina.methods.translation import WEIGHT_FILES, Translator
from fastretina.training.data import HELD_OUT_EVERY
from fastretina.training.sets import image_files
from numpy.typing import NDArray

BLOCK_PX, STEP_PX, REACH_PX = 96, 48, 6
MIN_PEAK = 0.3  # a block with a lower correlation shows too little that both share
MODALITIES = {"cf": "CF", "octa": "OCTA", "fa": "FA"}


def held_out(folder: Path, modality: str, count: int) -> list[Path]:
    """Images that no translation was trained on, of all sets alike."""
    sets: dict[str, list[Path]] = {}
    for kind, path in image_files(folder):
        if kind.modality == modality:
            sets.setdefault(kind.name, []).append(path)
    rows = [paths[HELD_OUT_EVERY - 1 :: HELD_OUT_EVERY] for paths in sets.values()]
    longest = max(map(len, rows), default=0)
    return [row[i] for i in range(longest) for row in rows if i < len(row)][:count]


def ridges(look: NDArray[np.uint8], mask: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Their strength, 0 ... 255."""
    return (ops.ridges((look.astype(np.float32) - 128) / 32, mask).full & 255).astype(np.float32)


def displacements(one: NDArray[np.float32], other: NDArray[np.float32]) -> tuple[NDArray[np.float64], int]:
    """``(N, 2)`` of the blocks of ``one`` that are found in ``other``, and how many blocks were looked for."""
    found, asked = [], 0
    height, width = one.shape
    for y in range(REACH_PX, height - BLOCK_PX - REACH_PX + 1, STEP_PX):
        for x in range(REACH_PX, width - BLOCK_PX - REACH_PX + 1, STEP_PX):
            block = one[y : y + BLOCK_PX, x : x + BLOCK_PX]
            if np.count_nonzero(block) < block.size // 2:
                continue  # mostly outside the field of view
            asked += 1
            around = other[y - REACH_PX : y + BLOCK_PX + REACH_PX, x - REACH_PX : x + BLOCK_PX + REACH_PX]
            fit = cv2.matchTemplate(around, block, cv2.TM_CCOEFF_NORMED)
            v, u = np.unravel_index(np.argmax(fit), fit.shape)
            inside = 0 < u < fit.shape[1] - 1 and 0 < v < fit.shape[0] - 1
            if inside and fit[v, u] >= MIN_PEAK:
                found.append((u + vertex(fit[v, u - 1 : u + 2]), v + vertex(fit[v - 1 : v + 2, u])))
    return np.array(found, np.float64).reshape(-1, 2) - REACH_PX, asked


def vertex(values: NDArray[np.float32]) -> float:
    """Of the parabola through three values, relative to the middle one."""
    left, middle, right = map(float, values)
    curvature = left - 2 * middle + right
    return 0.5 * (left - right) / curvature if curvature < 0 else 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="training data folder")
    parser.add_argument("--count", type=int, default=12, help="images of each translation")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    print("| translation | images | blocks found | mean x, y px | median, 90 % px | ridge correlation |")
    print("|---|---|---|---|---|---|")
    for name in WEIGHT_FILES:
        translator = Translator(name, args.threads)
        moved, asked, correlations = [], 0, []
        images = held_out(args.data, MODALITIES[name.split("-")[0]], args.count)
        for image in map(read_image, images):
            seen = ops.image(image, working_size=translator.working_size)
            (look, _), (shown, _) = translator.look(image), translator.translated(image)
            mask = np.ascontiguousarray(seen.mask[: look.shape[0], : look.shape[1]])
            one, other = ridges(look, mask), ridges(shown, mask)
            offsets, of_image = displacements(one, other)
            moved.append(offsets)
            asked += of_image
            correlations.append(np.corrcoef(one[mask > 0], other[mask > 0])[0, 1])
        every = np.concatenate(moved)
        length, (x, y) = np.hypot(*every.T), every.mean(0)
        print(
            f"| {name} | {len(images)} | {len(every)} of {asked} | {x:+.2f}, {y:+.2f} "
            f"| {np.median(length):.2f}, {np.percentile(length, 90):.2f} | {np.mean(correlations):.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
