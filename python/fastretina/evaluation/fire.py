"""The protocol of FIRE, the Fundus Image Registration data set (Hernandez-Matas et al. 2017), on a local folder.

The folder is as FIRE ships it: ``Images/<pair>_1.jpg`` and ``Images/<pair>_2.jpg``, and ``Ground Truth/
control_points_<pair>_1_2.txt`` with a line ``x1 y1 x2 y2`` a control point, px. A pair's first letter is its category:
S (large overlap), P (small overlap), A (changes between visits). FIXED is image 1 and MOVING image 2, as in published
evaluations; these leave P37 out, whose control points are wrong, so that 71, 48 and 14 pairs remain. The error of a
pair is the mean distance of its control points, px of a 2912-px frame; a category's score is the mean, over the
thresholds 1 ... 25 px, of the share of its pairs with a smaller error; the data set's is the mean of the categories'.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from fastretina.errors import InvalidInput
from fastretina.evaluation.cases import Case, Target
from fastretina.io import read_image

CATEGORIES = ("S", "P", "A")
FRAME_PX = 2912.0  # the side of FIRE's images
EXCLUDED = {"P37": "its control points do not belong to its images"}

_NAME = re.compile(r"control_points_([SPA]\d+)_1_2\.txt")
_SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp")


def fire_pairs(folder: str | os.PathLike[str]) -> list[str]:
    """The names of the pairs in the folder, category by category, without the excluded. InvalidInput if none is."""
    points = Path(folder) / "Ground Truth"
    if not points.is_dir():
        raise InvalidInput(f"{points}: no such folder; FIRE's folder holds 'Images' and 'Ground Truth'")
    names = [m[1] for m in (_NAME.fullmatch(file.name) for file in points.iterdir()) if m and m[1] not in EXCLUDED]
    if not names:
        raise InvalidInput(f"{points}: got no control_points_<pair>_1_2.txt with a pair such as S01, P02 or A03")
    return sorted(names, key=lambda name: (CATEGORIES.index(name[0]), int(name[1:])))


def fire_cases(folder: str | os.PathLike[str]) -> Iterator[Case]:
    """Each pair of the folder, its category being the kind."""
    for name in fire_pairs(folder):
        fixed_xy, moving_xy = _control_points(Path(folder) / "Ground Truth" / f"control_points_{name}_1_2.txt")
        fixed, moving = (read_image(_image(Path(folder) / "Images", f"{name}_{i}")) for i in (1, 2))
        yield Case(name, name[0], "CF>CF", fixed, moving, Target(moving_xy, fixed_xy), FRAME_PX)


def _control_points(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Of FIXED and MOVING, (N, 2) each."""
    try:
        table = np.array([[float(v) for v in line.split()] for line in path.read_text().splitlines() if line.strip()])
    except (OSError, ValueError) as error:
        raise InvalidInput(f"{path}: cannot be read as control points ({error})") from error
    if table.ndim != 2 or table.shape[1] != 4 or not np.isfinite(table).all():
        raise InvalidInput(f"{path}: got an array of shape {table.shape}; allowed: lines of x1 y1 x2 y2")
    return table[:, :2], table[:, 2:]


def _image(folder: Path, stem: str) -> Path:
    found = [folder / f"{stem}{suffix}" for suffix in _SUFFIXES if (folder / f"{stem}{suffix}").is_file()]
    if not found:
        raise InvalidInput(f"{folder / stem}.jpg: no such file; FIRE's Images holds two a pair")
    return found[0]
