"""Loss curves of a run as a picture."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from fastretina.io import write_image

PANEL_PX = 300


def draw_curves(log: Path, picture: Path, columns: Sequence[str], height: int = 260) -> None:
    """Draw ``log.csv`` as one panel for each of ``columns`` over the minutes of the run (with OpenCV)."""
    shown = [name for name in columns if name != "rate"]
    with log.open(newline="") as file:
        rows = list(csv.DictReader(file))
    canvas = np.full((height, PANEL_PX * len(shown), 3), 255, np.uint8)
    for i, column in enumerate(shown):
        left, right, top, bottom = i * PANEL_PX + 50, (i + 1) * PANEL_PX - 15, 35, height - 40
        cv2.rectangle(canvas, (left, top), (right, bottom), (200, 200, 200), 1)
        _text(canvas, column, (left, top - 10))
        if len(rows) < 2:
            continue
        x = np.array([float(r["minutes"]) for r in rows])
        y = np.array([float(r[column]) for r in rows])
        low, high = float(y.min()), float(np.quantile(y, 0.995))
        span = max(high - low, 1e-9)
        px = left + (x - x[0]) / max(x[-1] - x[0], 1e-9) * (right - left)
        py = bottom - np.clip((y - low) / span, 0, 1) * (bottom - top)
        line = np.stack([px, py], 1).round().astype(np.int32)
        cv2.polylines(canvas, [line], False, (20, 90, 170), 1, cv2.LINE_AA)
        _text(canvas, f"{high:.3g}", (left - 46, top + 8))
        _text(canvas, f"{low:.3g}", (left - 46, bottom))
        _text(canvas, f"{x[0]:.0f} - {x[-1]:.1f} min", (left, bottom + 20))
    write_image(picture, canvas)


def _text(canvas: np.ndarray, text: str, at: tuple[int, int]) -> None:
    cv2.putText(canvas, text, at, cv2.FONT_HERSHEY_SIMPLEX, 0.42, (40, 40, 40), 1, cv2.LINE_AA)
