"""An engine beside torch f32: how far its outputs, its key points and its registrations are from the reference's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastretina.errors import EngineError

SAME_POINT_PX = 1.0  # of a key point found again
PAIR_SIZE_PX = 640


@dataclass(frozen=True)
class Bounds:
    """What an engine of a precision has to keep. The first two are errors, relative by root mean squares."""

    class_difference: float
    descriptors: float
    recall: float  # share of the reference's key points that are found again, after NMS
    registration_px: float  # mean error beyond the reference's own, against the truth


# Measured: four networks, three synthetic pairs each, the worst image, times about two. f16 by ONNX Runtime: 3e-4,
# 6e-4, .996; bf16 by torch: 5e-3, 1e-2, .960; int8 by OpenVINO: 4e-2, 4e-2, .935, with TensorRT's symmetric scales by
# ONNX Runtime: 5e-2, 4e-2, .885. f32 differs in the order of its sums alone: 8e-7.
BOUNDS = {
    "f32": Bounds(1e-5, 1e-5, 0.999, 0.05),
    "f16": Bounds(2e-3, 2e-3, 0.99, 0.5),
    "bf16": Bounds(1e-2, 2e-2, 0.94, 0.5),
    "int8": Bounds(8e-2, 8e-2, 0.86, 0.5),
}


@dataclass(frozen=True)
class Verification:
    """What was measured. ``registration_px``: the engine's mean error minus the reference's; None: it was refused."""

    engine: str
    precision: str
    class_difference: float
    descriptors: float
    recall: float
    registration_px: float | None
    bounds: Bounds

    def rows(self) -> list[tuple[str, str, str, bool]]:
        """(what, measured, bound, kept) for a reader."""
        low, moved = self.bounds, self.registration_px
        errors = (("class-difference error", "class_difference"), ("descriptor error", "descriptors"))
        rows = [
            (
                text,
                f"{getattr(self, name):.2e}",
                f"<= {getattr(low, name):g}",
                getattr(self, name) <= getattr(low, name),
            )
            for text, name in errors
        ]
        rows.append(("key-point recall", f"{self.recall:.4f}", f">= {low.recall:g}", self.recall >= low.recall))
        text = "refused" if moved is None else f"{moved:+.3f} px"
        kept = moved is not None and moved <= low.registration_px
        return [*rows, ("registration error beyond torch f32's", text, f"<= {low.registration_px:g} px", kept)]

    @property
    def ok(self) -> bool:
        """Whether every bound is kept. NaN keeps none."""
        return all(kept for *_, kept in self.rows())


def verify(weights: str, engine: str, precision: str, device: str, threads: int = 1, seed: int = 0) -> Verification:
    """Run both on the two images of a synthetic pair, then register it with both.

    Raises EngineError where the engine, or torch f32, cannot run here, or the reference itself refuses the pair.
    """
    import fastretina
    from fastretina.synth import synthetic_pair

    pair = synthetic_pair(seed, size=(PAIR_SIZE_PX, PAIR_SIZE_PX))
    common = {"weights": weights, "threads": threads}
    tested = fastretina.Registrar(engine=engine, precision=precision, device=device, **common)
    reference = fastretina.Registrar(engine="torch", precision="f32", device="cpu", **common)
    seen = [compare(reference.engine, tested.engine, image) for image in (pair.fixed, pair.moving)]
    wanted, got = (registrar.register(pair.fixed, pair.moving) for registrar in (reference, tested))
    if not wanted.ok or wanted.transform is None:
        raise EngineError(f"seed: torch f32 refuses the synthetic pair {seed} ({wanted.status}); remedy: another one")
    beyond = None
    if got.ok and got.transform is not None:
        beyond = pair.mean_error(got.transform) - pair.mean_error(wanted.transform)
    worst = np.max([row[:2] for row in seen], axis=0)
    found, points = np.sum([row[2:] for row in seen], axis=0)
    chosen = tested.engine.precision
    return Verification(
        tested.engine.name, chosen, float(worst[0]), float(worst[1]), float(found / points), beyond, BOUNDS[chosen]
    )


def compare(reference: Any, tested: Any, image: NDArray[Any]) -> tuple[float, float, int, int]:
    """Two relative errors, key points found again, key points of the reference."""
    from fastretina import ops

    seen = ops.image(image, multiple=tested.multiple)
    outputs = [tuple(map.copy() for map in engine.run(seen.plane)) for engine in (reference, tested)]
    (maps, dense), (tested_maps, tested_dense) = outputs
    differences = [m[0] - m[1] for m in (maps, tested_maps)]
    points, again = (ops.detect(difference, seen.mask).xy for difference in differences)
    return (_relative(*differences), _relative(dense, tested_dense), _found(points, again), len(points))


def _relative(expected: NDArray[np.float32], got: NDArray[np.float32]) -> float:
    return float(np.sqrt(np.square(got - expected).mean() / np.square(expected).mean()))


def _found(points: NDArray[Any], again: NDArray[Any]) -> int:
    if not len(again):
        return 0
    distance = np.abs(points[:, None].astype(np.float64) - again[None]).max(axis=2)
    return int((distance.min(axis=1) <= SAME_POINT_PX).sum())
