"""The value that a registration returns: a map from MOVING pixels to FIXED pixels, in pure NumPy.

Pixel convention: ``(x, y)``, pixel centres at integers. The compiled core has the same arithmetic in
``csrc/core/transform.h``; both keep the quadratic's coefficients in the order ``1, x, y, x^2, x y, y^2``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from fastretina import displacement
from fastretina.errors import InvalidInput
from fastretina.transform_checks import checked_field, checked_floats, checked_params, checked_points
from fastretina.transform_math import (
    MATRIX_KINDS,
    Floats,
    apply_step,
    inverse_2x2,
    solve_quadratic,
    special_kind,
    step_jacobian,
    substitution,
)

SINGLE_KINDS = (*MATRIX_KINDS, "quadratic")  # the order of csrc/core/types.h
MADE_KINDS = (*SINGLE_KINDS, "dense")  # those that the constructor makes
KINDS = (*MADE_KINDS, "composite")
DIRECTION = "moving_to_fixed"


class Part(NamedTuple):
    """One step of a composite: a map, or (only for kinds that have no closed inverse: quadratic, dense) its inverse."""

    transform: Transform
    inverted: bool = False


class Transform:
    """An immutable map ``MOVING (x, y) -> FIXED (x, y)``.

    * ``kind``: ``identity``, ``similarity``, ``affine``, ``homography``, ``quadratic``, ``dense`` or ``composite``.
    * ``params``: float64, read-only. Matrix kinds: (3, 3). Quadratic: (2, 6), one row a coordinate, so that
      ``x' = p0 + p1 x + p2 y + p3 x^2 + p4 x y + p5 y^2``. Dense: (rows, columns, 2), so that ``x' = x + d(x)`` with
      d the cubic B-spline of these control displacements (px). Composite: (0,), see ``parts``.
    * ``rectangle``: of a dense map, (x0, y0, x1, y1), px: where its corner control points lie. d fades to 0 within two
      grid steps outside of it. None for the other kinds.
    * ``parts``: of a composite, the steps, outermost first.

    ``t(points)`` maps points, ``t.inverse`` is the map back, ``a @ b`` is "first b, then a". A homography is kept with
    its last entry 1 wherever that entry is not negligible, so that equal maps compare equal.
    """

    __slots__ = ("_kind", "_params", "_parts", "_rectangle")
    _kind: str
    _params: Floats
    _rectangle: displacement.Rectangle | None
    _parts: tuple[Part, ...]

    def __init__(self, kind: str, params: ArrayLike, rectangle: ArrayLike | None = None) -> None:
        if kind not in MADE_KINDS:
            allowed = ", ".join(MADE_KINDS)
            raise InvalidInput(f"kind: got {kind!r}; allowed: {allowed} (a composite is made by a @ b)")
        if kind == "dense":
            _fill(self, kind, *checked_field(params, rectangle))
            return
        if rectangle is not None:
            raise InvalidInput(f"rectangle: got {rectangle!r}; only a dense transform has one, not a {kind}")
        _fill(self, kind, checked_params(kind, params))

    # -- making one ---------------------------------------------------------------------------------------------

    @classmethod
    def identity(cls) -> Transform:
        """The map that leaves every point where it is."""
        return cls("identity", np.eye(3))

    @classmethod
    def from_matrix(cls, matrix: ArrayLike, kind: str | None = None) -> Transform:
        """A (2, 3) or (3, 3) matrix as a transform; ``kind`` defaults to the most special kind that holds it."""
        m = checked_floats("matrix", matrix)
        if m.shape == (2, 3):
            m = np.vstack([m, [0.0, 0.0, 1.0]])
        if m.shape != (3, 3):
            raise InvalidInput(f"matrix: got shape {m.shape}; allowed: (2, 3) or (3, 3)")
        if m[2, 0] == 0 and m[2, 1] == 0 and m[2, 2] != 0:
            m = m / m[2, 2]
        return cls(kind or special_kind(m), m)

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Transform:
        """Inverse of :meth:`to_dict`; also takes the whole content of a ``transform.json``."""
        if not isinstance(value, Mapping):
            raise InvalidInput(f"transform: got {type(value).__name__}; allowed: an object with kind and parameters")
        if "transform" in value:
            if value["transform"] is None:
                raise InvalidInput(f"transform: null, the registration was refused (status {value.get('status')!r})")
            return cls.from_dict(value["transform"])
        if value.get("direction", DIRECTION) != DIRECTION:
            raise InvalidInput(f"direction: got {value['direction']!r}; allowed: {DIRECTION!r}")
        if value.get("kind") == "composite":
            return _composite_from(value.get("parts"))
        for name in ("kind", "parameters"):
            if name not in value:
                raise InvalidInput(f"transform: {name!r} is missing; it needs kind and parameters")
        return cls(value["kind"], value["parameters"], value.get("rectangle"))

    @classmethod
    def from_json(cls, text: str | bytes) -> Transform:
        """Inverse of :meth:`to_json`, exact to the last bit; also reads the text of a ``transform.json``."""
        try:
            value = json.loads(text)
        except ValueError as error:  # bad JSON and bad UTF-8
            raise InvalidInput(f"transform: not JSON ({error})") from error
        return cls.from_dict(value)

    # -- reading it -----------------------------------------------------------------------------------------------

    @property
    def kind(self) -> str:
        return self._kind

    @property
    def params(self) -> Floats:
        return self._params

    @property
    def rectangle(self) -> displacement.Rectangle | None:
        return self._rectangle

    @property
    def parts(self) -> tuple[Part, ...]:
        return self._parts

    @property
    def steps(self) -> tuple[Part, ...]:
        """``parts`` of a composite, else the transform itself as the only step."""
        return self._parts or (Part(self),)

    @property
    def model(self) -> str:
        """The kinds of the steps, outermost first, such as "dense @ homography"; the kind where there is one step."""
        return " @ ".join(f"{p.transform.kind}{'^-1' if p.inverted else ''}" for p in self.steps)

    def to_dict(self) -> dict[str, Any]:
        """Plain Python values: ``kind``, ``direction``, ``parameters`` (composite: ``parts``), dense: ``rectangle``."""
        if self._kind == "composite":
            parts = [p.transform.to_dict() | ({"inverted": True} if p.inverted else {}) for p in self._parts]
            return {"kind": "composite", "direction": DIRECTION, "parts": parts}
        rectangle = {"rectangle": list(self._rectangle)} if self._rectangle is not None else {}
        return {"kind": self._kind, "direction": DIRECTION, "parameters": self._params.tolist()} | rectangle

    def to_json(self) -> str:
        """Text that :meth:`from_json` turns back into an equal transform, bit for bit."""
        return json.dumps(self.to_dict(), sort_keys=True, allow_nan=False)

    def __repr__(self) -> str:
        if self._kind == "composite":
            return f"Transform({self.model})"
        if self._rectangle is not None:
            rows, columns = self._params.shape[:2]
            return f"Transform('dense', {rows} x {columns} control points, {self._rectangle})"
        return f"Transform({self._kind!r}, {np.array2string(self._params, separator=', ')})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Transform):
            return NotImplemented
        return self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def _key(self) -> tuple[Any, ...]:
        return self._kind, self._params.shape, self._params.tobytes(), self._rectangle, self._parts

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a Transform is immutable (tried to set {name!r})")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"a Transform is immutable (tried to delete {name!r})")

    def __reduce__(self) -> tuple[Any, ...]:
        return (Transform.from_dict, (self.to_dict(),))

    # -- using it -------------------------------------------------------------------------------------------------

    def __call__(self, points: ArrayLike) -> Floats:
        """MOVING points (N, 2), or one point (2,), px -> FIXED points of the same shape, float64.

        A point on a homography's pole, or one that an inverse found point by point never reaches, is NaN or infinite.
        Raises InvalidInput for another shape, and for NaN or infinity among the points.
        """
        xy, single = checked_points(points)
        mapped = _apply(self, xy)
        return mapped[0] if single else mapped

    def jacobian(self, points: ArrayLike) -> Floats:
        """``d(x', y') / d(x, y)`` at each of the MOVING points (N, 2), px: (N, 2, 2), or (2, 2) for one point (2,).

        No unit (FIXED px per MOVING px). NaN or infinite where the map is. Raises InvalidInput as calling it does.
        """
        xy, single = checked_points(points)
        with np.errstate(all="ignore"):
            j = _jacobian(self, xy)
        return j[0] if single else j

    @property
    def inverse(self) -> Transform:
        """The map FIXED -> MOVING. Matrix kinds keep their kind; the others are inverted by Newton, point by point."""
        return _chain(tuple(_flip(p) for p in reversed(self.steps)))

    def __matmul__(self, other: Transform) -> Transform:
        """``(a @ b)(p) == a(b(p))``: exact where the product is of a kind we have, else a composite of its parts."""
        if not isinstance(other, Transform):
            return NotImplemented
        return _chain(self.steps + other.steps)


def is_deformation(transform: Transform) -> bool:
    """Whether it is a dense map, alone or after one matrix or quadratic: what a registration with a field returns."""
    kinds = [step.transform.kind for step in transform.steps]
    plain = not any(step.inverted for step in transform.steps)
    return plain and kinds[0] == "dense" and (kinds[1:] == [] or (len(kinds) == 2 and kinds[1] in SINGLE_KINDS))


# -- construction and validation ----------------------------------------------------------------------------------


def _fill(
    transform: Transform,
    kind: str,
    params: Floats,
    rectangle: displacement.Rectangle | None = None,
    parts: tuple[Part, ...] = (),
) -> Transform:
    params.setflags(write=False)
    object.__setattr__(transform, "_kind", kind)
    object.__setattr__(transform, "_params", params)
    object.__setattr__(transform, "_rectangle", rectangle)
    object.__setattr__(transform, "_parts", parts)
    return transform


def _composite(parts: tuple[Part, ...]) -> Transform:
    return _fill(Transform.__new__(Transform), "composite", np.zeros(0), None, parts)


def _composite_from(parts: object) -> Transform:
    if not isinstance(parts, list) or not parts:
        raise InvalidInput("parts: a composite needs a non-empty list of transforms")
    transforms = [Transform.from_dict(p) for p in parts]
    inverted = [bool(p.get("inverted", False)) for p in parts]
    return _chain(
        tuple(step for t, i in zip(transforms, inverted, strict=True) for step in (t.inverse if i else t).steps)
    )


# -- arithmetic ---------------------------------------------------------------------------------------------------


def _flip(part: Part) -> Part:
    if part.inverted:
        return Part(part.transform)
    if part.transform.kind in MATRIX_KINDS:
        return Part(_inverse_matrix(part.transform))
    return Part(part.transform, True)


def _chain(parts: tuple[Part, ...]) -> Transform:
    """The shortest chain of steps with this meaning: neighbours are multiplied wherever that is exact."""
    steps: list[Part] = []
    for part in parts:
        while steps and (product := _product(steps[-1], part)) is not None:
            steps.pop()
            part = product
        steps.append(part)
    steps = [s for s in steps if s.transform.kind != "identity"] or steps[:1]
    return steps[0].transform if len(steps) == 1 and not steps[0].inverted else _composite(tuple(steps))


def _product(outer: Part, inner: Part) -> Part | None:
    a, b = outer.transform, inner.transform
    if outer.inverted != inner.inverted and a == b:
        return Part(Transform.identity())
    if outer.inverted or inner.inverted:
        if a.kind == "identity":
            return inner
        return outer if b.kind == "identity" else None
    if a.kind in MATRIX_KINDS and b.kind in MATRIX_KINDS:
        kind = max(a.kind, b.kind, key=MATRIX_KINDS.index)
        return Part(_matrix(kind, a.params @ b.params))
    if a.kind in MATRIX_KINDS[:3] and b.kind == "quadratic":
        product = a.params[:2, :2] @ b.params
        product[:, 0] += a.params[:2, 2]
        return Part(Transform("quadratic", product))
    if a.kind == "quadratic" and b.kind in MATRIX_KINDS[:3]:
        return Part(Transform("quadratic", a.params @ substitution(b.params)))
    return None


def _matrix(kind: str, m: Floats) -> Transform:
    if kind != "homography":
        m[2] = 0.0, 0.0, 1.0
    return Transform(kind, m)


def _inverse_matrix(t: Transform) -> Transform:
    if t.kind == "identity":
        return t
    try:
        m: Floats = np.linalg.inv(t.params).astype(np.float64)
    except np.linalg.LinAlgError:
        m = np.full((3, 3), np.nan)
    if not np.isfinite(m).all():
        raise InvalidInput(f"inverse: the {t.kind} {t.params.tolist()} is singular and has none")
    return _matrix(t.kind, m)


def _apply(t: Transform, xy: Floats) -> Floats:
    with np.errstate(all="ignore"):
        for transform, inverted in reversed(t.steps):
            xy = _backward(transform, xy) if inverted else _forward(transform, xy)
    return xy


def _forward(step: Transform, xy: Floats) -> Floats:
    if step.rectangle is not None:
        return xy + displacement.displacement(step.params, step.rectangle, xy)
    return apply_step(step.kind, step.params, xy)


def _backward(step: Transform, xy: Floats) -> Floats:
    if step.rectangle is not None:
        return displacement.solve(step.params, step.rectangle, xy)
    return solve_quadratic(step.params, xy)


def _slope(step: Transform, xy: Floats) -> Floats:
    if step.rectangle is not None:
        return np.asarray(np.eye(2) + displacement.gradient(step.params, step.rectangle, xy))
    return step_jacobian(step.kind, step.params, xy)


def _jacobian(t: Transform, xy: Floats) -> Floats:
    total: Floats = np.broadcast_to(np.eye(2), (len(xy), 2, 2))
    for transform, inverted in reversed(t.steps):
        if inverted:
            xy = _backward(transform, xy)
            j = inverse_2x2(_slope(transform, xy))
        else:
            j = _slope(transform, xy)
            xy = _forward(transform, xy)
        total = j @ total
    return total
