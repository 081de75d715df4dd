"""Point lists as CSV: ``x,y`` in pixels, an optional header, further columns carried along unchanged."""

from __future__ import annotations

import csv
import io
import os
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fastretina.errors import InvalidInput


@dataclass(frozen=True)
class PointTable:
    """The rows of a CSV file, and which two of its columns are the point."""

    header: list[str] | None
    rows: list[list[str]]
    columns: tuple[int, int]
    points: NDArray[np.float64]  # (N, 2)

    def with_points(self, points: NDArray[np.float64]) -> bytes:
        """The same table as CSV, with other points. Numbers are written so that they read back exactly."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        if self.header:
            writer.writerow(self.header)
        for row, point in zip(self.rows, points, strict=True):
            changed = list(row)
            for column, value in zip(self.columns, point, strict=True):
                changed[column] = repr(float(value))
            writer.writerow(changed)
        return out.getvalue().encode()


def read_points(path: str | os.PathLike[str]) -> PointTable:
    """Read points: columns named ``x`` and ``y`` if there is a header with these names, else the first two."""
    name = os.fspath(path)
    try:
        with open(name, encoding="utf-8-sig", newline="") as file:
            rows = [[cell.strip() for cell in row] for row in csv.reader(file) if any(cell.strip() for cell in row)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InvalidInput(f"{name}: cannot be read as CSV ({getattr(error, 'strerror', None) or error})") from error
    if not rows:
        raise InvalidInput(f"{name}: no points; each line needs x,y")
    header = None if _is_number(rows[0][0]) else rows[0]
    columns = (0, 1)
    if header:
        lower = [cell.lower() for cell in header]
        if "x" in lower and "y" in lower:
            columns = (lower.index("x"), lower.index("y"))
        rows = rows[1:]
    points = np.zeros((len(rows), 2))
    for i, row in enumerate(rows):
        try:
            points[i] = [float(row[c]) for c in columns]
        except (IndexError, ValueError) as error:
            raise InvalidInput(f"{name}: row {i + 1} of the points is no x,y: {','.join(row)!r}") from error
    if not np.isfinite(points).all():
        raise InvalidInput(f"{name}: NaN or infinity among the points; remove these rows")
    return PointTable(header, rows, columns, points)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
