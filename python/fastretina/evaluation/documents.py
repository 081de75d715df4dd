"""The tables of the three documents this package grew from, made anew on other pairs: none repeats their numbers.

A: Sindel, Maier & Christlein, "A Keypoint Detection and Description Network Based on the Vessel Structure for
Multi-Modal Retinal Image Registration" (2022): colour photographs and angiograms; success by mean and by largest error,
repeatability, matching inlier ratio.
B: Dong, Nie & Wei, registration by CycleGAN, U-Net and Arbicon-Net (2022): colour photographs and OCT angiograms;
squared difference of the vessel maps after registration, and failures.
C: Zhao & Guan, "Learning-based Correspondences for Ophthalmic Image Registration": healthy eyes; diseased eyes, one
type of image; diseased eyes, two types; at one visit and at two.

Each table has a fixed synthetic suite, and the pairs of a folder that are of its modalities, if one is given.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastretina.config import nearest
from fastretina.errors import InvalidInput
from fastretina.evaluation.cases import Case
from fastretina.evaluation.pairs import load_pairs, pair_cases
from fastretina.evaluation.run import Row
from fastretina.evaluation.synthetic import Suite, suite_cases
from fastretina.evaluation.tables import summarise, table
from fastretina.types import Registration

CF, FA, OCTA = ("CF", "CF_gray"), ("FA", "FA/ICGA", "ICGA"), ("OCTA",)
COLOUR = (("CF", "CF"),)
CF_OCTA = (("CF", "OCTA"), ("OCTA", "CF"))
TYPES = tuple((a, b) for a in ("CF", "FA", "IR", "FAF", "OCTA") for b in ("CF", "FA", "IR", "FAF", "OCTA") if a != b)


@dataclass(frozen=True)
class Table:
    """A document's table. ``real``: the kind of a real pair of these modalities, None if it does not belong here."""

    methods: Mapping[str, Mapping[str, Any]]  # row -> keywords of Registrar
    suites: tuple[Suite, ...]
    real: Callable[[str, str], str | None]
    columns: tuple[str, ...]
    vessel_maps: bool = False  # whether the difference of the vessel maps is asked for


def _between(name: str, one: tuple[str, ...], other: tuple[str, ...]) -> Callable[[str, str], str | None]:
    def kind(fixed: str, moving: str) -> str | None:
        fits = (fixed in one and moving in other) or (fixed in other and moving in one)
        return f"real {name}" if fits else None

    return kind


def _type(name: str) -> str:
    return "CF" if name in CF else "FA" if name in FA else name


def _of_method(*names: str) -> dict[str, dict[str, Any]]:
    return {name: {"method": name} for name in names}


TABLES: dict[str, Table] = {
    "A": Table(
        _of_method("retina", "superpoint+mnn", "glampoints", "rootsift", "sift"),
        (Suite("synthetic CF-FA", modalities=(("CF", "FA"), ("FA", "CF"))),),
        _between("CF-FA", CF, FA),
        ("n", "ME<5", "max<10", "Rep", "MIR", "refused", "silent", "CPU ms"),
    ),
    "B": Table(
        {
            **_of_method("retina", "sift"),
            "sift, translated": {"method": "sift", "translate": "cf-octa"},
            **_of_method("superpoint+mnn"),
            "superpoint+mnn, translated": {"method": "superpoint+mnn", "translate": "cf-octa"},
            **_of_method("superpoint+superglue"),
            "superpoint+superglue, translated": {"method": "superpoint+superglue", "translate": "cf-octa"},
            **_of_method("arbicon"),
        },
        (
            Suite("synthetic CF-OCTA", modalities=CF_OCTA),
            Suite("synthetic CF-OCTA, one field", modalities=CF_OCTA, cropped=True),
        ),
        _between("CF-OCTA", CF, OCTA),
        ("n", "MSE", "RMSE", "failed", "refused", "silent", "median px", "CPU ms"),
        vessel_maps=True,
    ),
    "C": Table(
        {
            **_of_method("retina", "retina+superglue", "superpoint+superglue"),
            "superpoint+superglue, pruned": {"method": "superpoint+superglue", "prune": "on"},
            **_of_method("sift"),
        },
        (
            Suite("healthy", modalities=COLOUR, health="healthy"),
            Suite("diseased, one type", modalities=COLOUR, health="diseased"),
            Suite("diseased, one type, later", modalities=COLOUR, health="later"),
            Suite("diseased, two types", modalities=TYPES, health="diseased"),
            Suite("diseased, two types, later", modalities=TYPES, health="later"),
        ),
        lambda fixed, moving: "real, one type" if _type(fixed) == _type(moving) else "real, two types",
        ("n", "ME<5", "ME<10", "median px", "MIR", "refused", "silent", "CPU ms"),
    ),
}


def table_cases(name: str, pairs: str | os.PathLike[str] | None, count: int, seed: int = 0) -> Iterator[Case]:
    """The real pairs of a folder that belong to a table, then ``count`` of each of its synthetic suites."""
    asked = TABLES[name]
    for case in pair_cases(load_pairs(pairs)) if pairs is not None else ():
        if kind := asked.real(*case.modalities.split(">")):
            yield replace(case, kind=kind)
    yield from suite_cases(asked.suites, count, seed)


def table_markdown(name: str, rows: list[Row]) -> str:
    """The table: one line a method and kind of pairs."""
    summary = summarise(rows)
    kinds = dict.fromkeys(row["kind"] for row in rows)
    found = [(method, kind, numbers[kind]) for kind in kinds for method, numbers in summary.items()]
    return "\n".join(table(found, TABLES[name].columns)) + "\n"


class VesselDifference:
    """Mean squared difference of the vessel maps (probabilities) of FIXED and of warped MOVING, where both are seen; of
    accepted pairs. Needs PyTorch for the U-Net that makes the maps.
    """

    def __init__(self, maps: Callable[[NDArray[Any]], NDArray[np.float32]]) -> None:
        self._maps = maps
        self._kept: tuple[Case, NDArray[np.float32], NDArray[np.float32]] | None = None  # of the case in hand

    def __call__(self, method: str, case: Case, result: Registration) -> Row:
        if not result.ok:
            return {}
        if self._kept is None or self._kept[0] is not case:
            self._kept = (case, self._maps(case.fixed), self._maps(case.moving))
        _, fixed, moving = self._kept
        warped, valid = result.warp(moving)
        return {"mse": float(((fixed - warped)[valid] ** 2).mean())} if valid.any() else {}


class Gallery:
    """Overlays of some registered pairs of each kind, one picture a kind: a row a pair, a column a method."""

    def __init__(self, folder: str | os.PathLike[str], of_each: int = 4, side_px: int = 288) -> None:
        self.folder, self.of_each, self.side_px = Path(folder), of_each, side_px
        self.folder.mkdir(parents=True, exist_ok=True)  # now, and not when all is done: OSError if it cannot be
        self._tiles: dict[str, dict[str, dict[str, NDArray[np.uint8]]]] = {}  # kind -> pair -> method

    def __call__(self, method: str, case: Case, result: Registration) -> Row:
        of_kind = self._tiles.setdefault(case.kind, {})
        if case.id in of_kind or len(of_kind) < self.of_each:
            of_kind.setdefault(case.id, {})[method] = self._tile(method, case, result)
        return {}

    def write(self) -> list[Path]:
        """The pictures, ``<kind>.png``; returns their paths."""
        from fastretina.io import write_image

        paths = []
        for kind, of_kind in self._tiles.items():
            picture = np.concatenate([np.concatenate(list(tiles.values()), axis=1) for tiles in of_kind.values()])
            paths.append(self.folder / f"{kind.replace(',', '').replace(' ', '-').lower()}.png")
            write_image(paths[-1], picture)
        return paths

    def _tile(self, method: str, case: Case, result: Registration) -> NDArray[np.uint8]:
        import cv2

        from fastretina.report.panels import colour_overlay
        from fastretina.report.scene import scene

        seen = scene(case.fixed, case.moving, result, result.warp(case.moving) if result.ok else None, self.side_px)
        tile = np.zeros((self.side_px, self.side_px, 3), np.uint8)
        shown = colour_overlay(seen) if result.ok else seen.fixed // 3
        tile[: shown.shape[0], : shown.shape[1]] = shown
        label = method if result.ok else f"{method}: {result.status}"
        cv2.putText(tile, label, (4, 13), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (255, 255, 255), 1, cv2.LINE_AA)
        return tile


def measures(*found: Callable[[str, Case, Registration], Row]) -> Callable[[str, Case, Registration], Row]:
    """All of them in one."""

    def measure(method: str, case: Case, result: Registration) -> Row:
        row: Row = {}
        for each in found:
            row |= each(method, case, result)
        return row

    return measure


def check_table(name: str) -> str:
    """InvalidInput: there is no such table."""
    if name not in TABLES:
        raise InvalidInput(f"table: got {name!r}; {nearest(name, list(TABLES))}")
    return name
