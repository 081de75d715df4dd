"""What is slow to make before the first step of a run, kept beside it as one ``.npz`` with a key of its making."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np


def write(path: Path, key: str, arrays: dict[str, Any]) -> None:
    """Write arrays by name; the file is complete at every moment."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".partial.npz")
    np.savez(temporary, **arrays, key=np.array(key))
    temporary.replace(path)


def read(path: Path, key: str) -> dict[str, np.ndarray] | None:
    """The arrays of ``write``; None if there is no file, or one of another key."""
    if not path.is_file():
        return None
    with np.load(path) as file:
        if str(file["key"]) != key:
            return None
        return {name: file[name] for name in file.files if name != "key"}
