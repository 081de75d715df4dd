"""Signs of disease, drawn for one eye."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from fastretina.synth.tree import VesselTree

HEALTHY = 0.4  # share of eyes
STAYS = 0.6  # chance that a lesion is still there at a later visit


class Lesion(NamedTuple):
    """An ellipse in eye units; ``leak`` is the radius of its late glow in fluorescein (0: none)."""

    kind: str  # drusen, exudate, blood, aneurysm, scar or atrophy
    centre: tuple[float, float]
    radii: tuple[float, float]
    angle_deg: float
    strength: float
    softness: float
    leak: float = 0.0


class _Kind(NamedTuple):
    name: str
    chance: float  # that a diseased eye has it
    number: tuple[int, int]
    radius: tuple[float, float]
    spread: float  # about a middle near the fovea; 0: anywhere outside the macula
    softness: float
    leak: float  # chance


KINDS = (
    _Kind("drusen", 0.45, (15, 120), (0.003, 0.016), 0.22, 0.003, 0.0),
    _Kind("exudate", 0.35, (8, 70), (0.004, 0.014), 0.14, 0.0015, 0.0),
    _Kind("blood", 0.40, (3, 30), (0.006, 0.035), 0.5, 0.003, 0.05),
    _Kind("aneurysm", 0.50, (10, 60), (0.0025, 0.005), 0.38, 0.001, 0.25),
    _Kind("scar", 0.18, (40, 220), (0.010, 0.020), 0.0, 0.003, 0.0),
    _Kind("atrophy", 0.15, (1, 4), (0.03, 0.14), 0.15, 0.004, 0.0),
)


def lesions_of(tree: VesselTree, rng: np.random.Generator, diseased: bool | None = None) -> tuple[Lesion, ...]:
    """The lesions of one eye: none of a healthy one, else some kinds. ``diseased``: None draws which it is."""
    drawn = rng.random() >= HEALTHY
    if not (drawn if diseased is None else diseased):
        return ()
    found = _drawn(tree, rng)
    while diseased and not found:
        found = _drawn(tree, rng)
    return tuple(found)


def later(lesions: tuple[Lesion, ...], tree: VesselTree, rng: np.random.Generator) -> tuple[Lesion, ...]:
    """The lesions at a later visit: some have gone, the others changed in size and strength, new ones came."""
    kept = [lesion for lesion in lesions if rng.random() < STAYS]
    new = [lesion for lesion in _drawn(tree, rng) if rng.random() < 1 - STAYS]
    return (*(_changed(lesion, rng) for lesion in kept), *new)


def _changed(lesion: Lesion, rng: np.random.Generator) -> Lesion:
    size = math.exp(rng.normal(0, 0.2))
    strength = float(np.clip(lesion.strength * math.exp(rng.normal(0, 0.3)), 0.2, 1.0))
    return lesion._replace(radii=(lesion.radii[0] * size, lesion.radii[1] * size), strength=strength)


def _drawn(tree: VesselTree, rng: np.random.Generator) -> list[Lesion]:
    found: list[Lesion] = []
    for kind in KINDS:
        if rng.random() > kind.chance:
            continue
        middle = rng.normal(0, 0.15, 2)
        for _ in range(int(math.exp(rng.uniform(math.log(kind.number[0]), math.log(kind.number[1]))))):
            x, y = _place(kind, middle, rng)
            if math.hypot(x - tree.disc[0], y - tree.disc[1]) < 1.4 * tree.disc_radius:
                continue
            radius = float(np.exp(rng.uniform(np.log(kind.radius[0]), np.log(kind.radius[1]))))
            flat = rng.uniform(0.35, 1.0) if kind.name == "blood" else rng.uniform(0.75, 1.0)
            found.append(
                Lesion(
                    kind=kind.name,
                    centre=(x, y),
                    radii=(radius, radius * flat),
                    angle_deg=math.degrees(math.atan2(y - tree.disc[1], x - tree.disc[0])),
                    strength=rng.uniform(0.4, 1.0),
                    softness=kind.softness,
                    leak=rng.uniform(0.01, 0.05) if rng.random() < kind.leak else 0.0,
                )
            )
    return found


def _place(kind: _Kind, middle: np.ndarray, rng: np.random.Generator) -> tuple[float, float]:
    if kind.spread > 0:
        x, y = rng.normal(middle, kind.spread)
        return float(x), float(y)
    angle, radius = rng.uniform(0, 2 * math.pi), rng.uniform(0.55, 1.7)  # laser spares the macula
    return radius * math.cos(angle), radius * math.sin(angle)
