"""How a Transform enters the compiled core, and the way back."""

from __future__ import annotations

import numpy as np

from fastretina.displacement import Rectangle
from fastretina.errors import InvalidInput
from fastretina.transform import SINGLE_KINDS, Transform, is_deformation


def kind_and_params(transform: Transform) -> tuple[int, np.ndarray]:
    """How a transform enters the compiled core: the number of its kind, and 12 float64."""
    if getattr(transform, "kind", None) not in SINGLE_KINDS:
        got = getattr(transform, "kind", type(transform).__name__)
        raise InvalidInput(f"transform: got {got}, expected a Transform of kind {', '.join(SINGLE_KINDS)}")
    params = np.zeros(12)
    values = np.asarray(transform.params, np.float64).ravel()
    params[: values.size] = values
    return SINGLE_KINDS.index(transform.kind), params


def base_and_field(transform: Transform) -> tuple[tuple[int, np.ndarray], tuple[np.ndarray, Rectangle] | None]:
    """``dense @ base`` as the core takes it: the base, and the field's control points and rectangle, or None."""
    if not isinstance(transform, Transform) or not is_deformation(transform):
        return kind_and_params(transform), None
    dense, *base = (step.transform for step in transform.steps)
    assert dense.rectangle is not None  # it is dense
    return kind_and_params(base[0] if base else Transform.identity()), (dense.params, dense.rectangle)


def transform_of(kind: int, params: np.ndarray) -> Transform:
    """The way back."""
    name = SINGLE_KINDS[kind]
    return Transform(name, params.reshape(2, 6) if name == "quadratic" else params[:9].reshape(3, 3))
