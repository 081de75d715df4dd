"""The values that a registration takes and gives."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastretina.transform import Transform

PIXEL_CONVENTION = "(x, y), pixel centres at integers"
OK = "ok"

# What has no part in the answer: the same input gives the same transform.json whatever these are.
_NOT_RECORDED = ("threads",)


def _no_points(columns: int) -> NDArray[np.float64]:
    return np.zeros((0, columns))


@dataclass(frozen=True, eq=False, kw_only=True)
class Registration:
    """What a registration found, and whether to trust it. Lengths in full-resolution pixels, ``(x, y)``.

    A refusal is data: ``ok`` is False, ``status`` says why, and ``transform`` is then the best candidate, or None.
    """

    status: str  # "ok", or why it was refused: "no_content", "too_few_matches", "implausible", "low_agreement" ...
    confidence: float  # calibrated probability that the mean error is below 5 px of a 640-px frame; also when refused
    transform: Transform | None  # MOVING (x, y) -> FIXED (x, y)
    fixed_size: tuple[int, int]  # (width, height)
    moving_size: tuple[int, int]
    choices: Mapping[str, Any] = field(default_factory=dict)  # what every "auto" became: engine, precision, model ...
    # (M, 4): x_fixed, y_fixed, x_moving, y_moving
    matches: NDArray[np.float64] = field(default_factory=lambda: _no_points(4))
    match_scores: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))  # (M,) cosine similarity
    inliers: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, dtype=bool))  # (M,) explained by transform
    timings_ms: Mapping[str, float] = field(default_factory=dict)  # one entry a room, and "total"
    quality: Mapping[str, float] = field(default_factory=dict)  # the numbers behind status and confidence
    keypoints_fixed: NDArray[np.float64] = field(default_factory=lambda: _no_points(2))  # (K, 2)
    keypoints_moving: NDArray[np.float64] = field(default_factory=lambda: _no_points(2))
    heatmap_fixed: NDArray[np.float32] | None = None  # (h, w) detector confidence over the whole frame, any scale
    heatmap_moving: NDArray[np.float32] | None = None
    weights_hash: str = ""  # SHA-256 of the network's weights; of two networks, joined by "+"

    def __post_init__(self) -> None:
        m = len(self.matches)
        if self.matches.shape != (m, 4) or self.match_scores.shape != (m,) or self.inliers.shape != (m,):
            shapes = (self.matches.shape, self.match_scores.shape, self.inliers.shape)
            raise ValueError(f"matches, match_scores and inliers must be (M, 4), (M,) and (M,), got {shapes}")
        if self.ok and self.transform is None:
            raise ValueError("a registration with status 'ok' needs a transform")
        for name in ("choices", "timings_ms", "quality"):
            object.__setattr__(self, name, MappingProxyType(dict(getattr(self, name))))
        for name in ("matches", "match_scores", "inliers", "keypoints_fixed", "keypoints_moving"):
            view = getattr(self, name).view()
            view.setflags(write=False)
            object.__setattr__(self, name, view)

    @property
    def ok(self) -> bool:
        """True if the transform can be used; False if the registration was refused."""
        return self.status == OK

    def __bool__(self) -> bool:
        return self.ok

    def __repr__(self) -> str:
        kind = None if self.transform is None else self.transform.model
        inliers = f"{int(self.inliers.sum())}/{len(self.matches)} inliers"
        return f"Registration({self.status!r}, confidence={self.confidence:.3f}, transform={kind}, {inliers})"

    def warp(self, moving: Any, interpolation: str = "linear") -> tuple[Any, Any]:
        """Resample MOVING into the FIXED frame: ``(image, valid mask)``, the image of the type of ``moving``.

        ``interpolation``: "nearest" (for labels), "linear" or "cubic". Also of a refused registration, if it has a
        candidate. An array in a GPU's memory (CUDA's array interface, DLPack) gives arrays there, as ``ops.warp`` does.
        Raises InvalidInput if there is no transform, or ``moving`` has another size than the one registered.
        """
        from fastretina.errors import InvalidInput
        from fastretina.resample import resample

        if self.transform is None:
            raise InvalidInput(f"warp: the registration was refused ({self.status}) and has no transform")
        there = not isinstance(moving, np.ndarray) and _in_device_memory(moving)
        if not (there or isinstance(moving, np.ndarray)):
            raise InvalidInput(f"moving: got {type(moving).__name__}, expected a NumPy array (H, W) or (H, W, C)")
        size = (moving.shape[1], moving.shape[0]) if len(moving.shape) >= 2 else None
        if size != self.moving_size:
            raise InvalidInput(f"moving: got size {size}; the registered image was {self.moving_size} (width, height)")
        if there:
            from fastretina import ops

            return ops.warp(moving, self.transform, self.fixed_size, interpolation=interpolation)
        return resample(moving, self.transform, self.fixed_size, interpolation)

    def expected_error(self, points: ArrayLike | None = None) -> NDArray[Any]:
        """How far the transform is expected to be off: at every pixel of FIXED, or at MOVING ``points`` (N, 2), px.

        Returns (height, width) float32, or (N,) float64; px of FIXED, NaN where MOVING shows nothing. A mean: at one
        place the error may well be twice as large, and of a registration that is wrong as a whole it says nothing
        (``confidence`` does). Raises InvalidInput if there is no transform, and for points of another shape.
        """
        from fastretina.errors import InvalidInput
        from fastretina.uncertainty import error_at, error_map

        if self.transform is None:
            raise InvalidInput(f"expected_error: the registration was refused ({self.status}) and has no transform")
        if points is None:
            return error_map(self)
        xy = np.asarray(points, np.float64)
        if xy.ndim != 2 or xy.shape[1] != 2:
            raise InvalidInput(f"points: got shape {xy.shape}; allowed: (N, 2)")
        return error_at(self, xy)

    def inverse_consistency(self, back: Registration) -> float:
        """How far this registration and ``back``, of the same images with their roles exchanged, disagree, px of FIXED.

        ``back``: of ``register(moving, fixed)``. The mean distance of FIXED points from where ``back`` and then this
        transform take them, over a lattice of FIXED of which MOVING shows something; infinite where it shows nothing.
        It needs no truth. Small says little: an alignment that chance has found is found from either side. Large says
        that one of the two is wrong (docs/TRAINING.md, "Confidence").
        Raises InvalidInput if one of them has no transform, or ``back`` is of images of other sizes.
        Source: Christensen & Johnson 2001, Consistent image registration.
        """
        from fastretina.errors import InvalidInput
        from fastretina.uncertainty import inverse_consistency

        for name, one in (("inverse_consistency", self), ("back", back)):
            if one.transform is None:
                raise InvalidInput(f"{name}: the registration was refused ({one.status}) and has no transform")
        sizes = (back.moving_size, back.fixed_size)
        if sizes != (self.fixed_size, self.moving_size):
            want = f"{self.moving_size} and {self.fixed_size}, as register(moving, fixed) gives"
            raise InvalidInput(
                f"back: got FIXED and MOVING of {back.fixed_size} and {back.moving_size}; expected {want}"
            )
        return inverse_consistency(self, back)

    def to_dict(self) -> dict[str, Any]:
        """The content of ``transform.json``: no time, no path; ``transform`` is None when refused."""
        from fastretina import __version__

        return {
            "choices": {k: plain(v) for k, v in self.choices.items() if k not in _NOT_RECORDED},
            "confidence": float(self.confidence),
            "engine": plain(self.choices.get("engine")),
            "fixed_size": list(self.fixed_size),
            "moving_size": list(self.moving_size),
            "pixel_convention": PIXEL_CONVENTION,
            "precision": plain(self.choices.get("precision")),
            "status": self.status,
            "transform": self.transform.to_dict() if self.ok and self.transform is not None else None,
            "version": __version__,
            "weights_hash": self.weights_hash,
        }

    def to_json(self) -> str:
        """``transform.json`` as text: the same input and seed give the same bytes, on any number of threads."""
        return json.dumps(self.to_dict(), indent=2, sort_keys=True, allow_nan=False) + "\n"


@dataclass(frozen=True, eq=False)
class Prepared:
    """The features of one image, as ``Registrar.prepare`` made them. Opaque: give it back to that registrar."""

    size: tuple[int, int]  # (width, height) of the image
    owner: object = field(repr=False)  # the registrar that made it and alone can read it
    payload: Any = field(repr=False)


def _in_device_memory(image: Any) -> bool:
    try:
        from fastretina.ops._device import on_device
    except ImportError:  # no compiled core
        return False
    return on_device("moving", image)


def plain(value: Any) -> Any:
    """NumPy scalars and tuples as what JSON knows; infinities and NaN (of ratios without a denominator) as None."""
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [plain(v) for v in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
