"""The rooms, one call each, on NumPy arrays.

``image -> network -> upsample -> nms -> describe -> match -> estimate -> refine -> warp -> quality``, and ``detect``
(upsample + nms fused). Every function runs the compiled core; ``threads`` (1 ... 1024, 0: one a usable core) never
changes a result. Threads may call at the same time, and so may a child of ``os.fork``: each has memory of its own.

An option that a room does not have, or of a wrong type, is InvalidInput, which names the nearest one.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fastretina import _core, engines
from fastretina.config import MAX_THREADS, nearest, usable_cores
from fastretina.displacement import Rectangle
from fastretina.errors import InvalidInput
from fastretina.transform import SINGLE_KINDS, Transform, is_deformation

_local = threading.local()  # .sessions and .engines of the calling thread
_of_parent: list[dict[str, Any]] = []
_MAX_ENGINES = 4  # kept a thread


def _threads(threads: int) -> int:
    if isinstance(threads, bool) or not hasattr(threads, "__index__") or not 0 <= int(threads) <= MAX_THREADS:
        raise InvalidInput(f"threads: got {threads!r}; allowed: 1 ... {MAX_THREADS}, or 0 for one a usable core")
    return int(threads) or usable_cores()


def _session(threads: int = 1) -> _core.Session:
    """The calling thread's session with that many threads; its scratch memory is kept."""
    count = _threads(threads)
    sessions = _local.__dict__.setdefault("sessions", {})
    if count not in sessions:
        sessions[count] = _core.Session(count)
    return sessions[count]


def _after_fork() -> None:
    """The parent's worker threads are not in the child: it starts with sessions and engines of its own."""
    _of_parent.append(dict(_local.__dict__))  # never destroyed: an engine would wait for threads that are not there
    _local.__dict__.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def _run(room: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """A room of the core. It refuses unknown options and wrong types by a TypeError that lists C++ types."""
    try:
        return room(*arguments, **options)
    except TypeError:
        raise InvalidInput(_wrong_option(room, options)) from None


_TYPES: dict[str, tuple[str, Callable[[Any], bool]]] = {  # as the core's signatures name them
    "SupportsInt": ("an integer", lambda value: hasattr(value, "__index__")),
    "SupportsFloat": ("a number", lambda value: hasattr(value, "__float__") or hasattr(value, "__index__")),
    "bool": ("True or False", lambda value: isinstance(value, bool)),
    "str": ("a string", lambda value: isinstance(value, str)),
}


def _wrong_option(room: Callable[..., Any], options: dict[str, Any]) -> str:
    """What is wrong with these options, by the signature that the core gives its functions: ``name: type = value``."""
    keywords = (room.__doc__ or "").partition("\n")[0].partition("*, ")[2]
    types = dict(re.findall(r"(\w+): (?:typing\.)?(\w+)", keywords))
    for name, value in options.items():
        if name not in types:
            return f"{name}: unknown option; {nearest(name, list(types))}"
        word, fits = _TYPES[types[name]]
        if not fits(value):
            return f"{name}: got {value!r}, expected {word}"
    missing = [name for name in re.findall(r"(\w+): [^=,]*[,)]", keywords) if name not in options]
    if missing:
        return f"{missing[0]}: missing; required: {', '.join(missing)}"
    return f"options: got {options}, of which one is too large for the core"


def _size(argument: str, size: tuple[int, int]) -> tuple[int, int]:
    """A checked (width, height)."""
    try:
        width, height = size
    except (TypeError, ValueError):
        raise InvalidInput(f"{argument}: got {size!r}, expected (width, height)") from None
    for side in (width, height):
        if not hasattr(side, "__index__") or not 0 < int(side) < 1 << 28:
            raise InvalidInput(f"{argument}: got {size!r}, expected (width, height), integers in 1 ... 2^28 - 1")
    return int(width), int(height)


class NetworkImage(NamedTuple):
    """An image as the network sees it."""

    plane: np.ndarray
    """(h, w) float32, locally normalised, 0 outside the field of view; padded to the network's multiple."""
    mask: np.ndarray
    """(h, w) uint8, 1 inside the field of view."""
    gray: np.ndarray
    """(content h, content w) float32 in [0, 1]: the resized intensities before normalisation."""
    scale: float
    """Network pixels per input pixel: x' = (x + 1/2) scale - 1/2."""
    contrast: float
    """Mean local deviation over the field of view, in intensities: near 0 for a frame without content."""
    input_size: tuple[int, int]
    """(width, height), input pixels."""
    content_size: tuple[int, int]
    """(width, height) of the part of the plane that shows the image."""


def image(image: np.ndarray, *, threads: int = 1, **options: Any) -> NetworkImage:
    """(H, W) or (H, W, 3) RGB, uint8, uint16 or float32 in [0, 1] -> a locally normalised plane and its field of view.

    The longer side becomes ``working_size``; the plane is padded with zeros at the right and at the bottom to
    ``multiple``. Of RGB the green channel is taken, the luma where green shows nothing. uint16 is divided by the least
    of 1023, 4095, 16383 and 65535 that holds its maximum. Other options: ``dark_fraction``, ``erode_px``, ``clip``; see
    csrc/image/image.h for what they mean. Defaults: ``_core.IMAGE_DEFAULTS``. Strided arrays are fine.

    Raises InvalidInput for another dtype or shape, NaN or infinity, float32 values outside [0, 1], a shorter side below
    64 px, an option out of range. A black frame is none of these: its contrast is 0.
    """
    return NetworkImage(**_run(_core.image, _session(threads), image, **options))


class NetworkOutput(NamedTuple):
    """What the network says of a plane, at stride 4: cell i is centred on pixel 4i + 1.5."""

    class_maps: np.ndarray
    """(2, H/4, W/4) float32: logits of "vessel" (a key point) and "background"."""
    descriptors: np.ndarray
    """(D, H/4, W/4) float32, not normalised."""

    @property
    def difference(self) -> np.ndarray:
        """(H/4, W/4) float32: what ``upsample`` and ``detect`` take."""
        return self.class_maps[0] - self.class_maps[1]


def _engine(weights: str | Path, engine: str, precision: str, device: str, threads: int) -> engines.Engine:
    """The calling thread's engine of these keywords: what a run returns is valid until the next one."""
    key = (weights, engine, precision, device, _threads(threads))
    kept = _local.__dict__.setdefault("engines", {})
    if key not in kept:
        if len(kept) == _MAX_ENGINES:
            kept.pop(next(iter(kept)))
        manifest = engines.load_manifest(weights)
        kept[key] = engines.create(engine, manifest, precision=precision, device=device, threads=key[-1])
    return kept[key]


def network(
    plane: np.ndarray,
    *,
    weights: str | Path = "default",
    engine: str = "auto",
    precision: str = "auto",
    device: str = "auto",
    threads: int = 1,
) -> NetworkOutput:
    """(H, W) float32 plane of ``image``, sides multiples of 8 -> class maps and dense descriptors.

    RetinaCraquelureNet (Sindel, Maier & Christlein 2022), see fastretina/networks/retina_craquelure.py. The engine is
    kept for the thread's next call with the same keywords. Raises InvalidInput for a wrong plane or name, EngineError
    where the engine is missing or cannot run here.
    """
    runner = _engine(weights, engine, precision, device, threads)
    if not (isinstance(plane, np.ndarray) and plane.dtype == np.float32 and plane.ndim == 2 and plane.size > 0):
        raise InvalidInput(f"plane: expected a (H, W) float32 array, got {getattr(plane, 'dtype', type(plane))}")
    if plane.shape[0] % runner.multiple or plane.shape[1] % runner.multiple:
        raise InvalidInput(
            f"plane: sides must be multiples of {runner.multiple}, got {plane.shape}; remedy: ops.image pads"
        )
    maps, descriptors = runner.run(np.ascontiguousarray(plane))
    return NetworkOutput(maps.copy(), descriptors.copy())


class Keypoints(NamedTuple):
    """Key points, best first: score descending, then row-major position ascending."""

    xy: np.ndarray
    """(n, 2) float32, pixels."""
    score: np.ndarray
    """(n,) float32."""


def upsample(difference: np.ndarray, *, threads: int = 1) -> np.ndarray:
    """Class-difference map (h, w) -> confidence map (4h, 4w), float32, bicubic.

    Half-pixel centres, a = -0.75, taps clamped at the edges: ``torch.nn.functional.interpolate(scale_factor=4,
    mode="bicubic", align_corners=False)`` up to rounding. Flipping the input flips the output bit for bit.

    Raises InvalidInput for another dtype or number of axes, an empty map, NaN or infinity.
    Source: Keys 1981, "Cubic convolution interpolation for digital image processing".
    """
    return _core.upsample(_session(threads), difference)


def nms(confidence: np.ndarray, mask: np.ndarray | None = None, *, threads: int = 1, **options: Any) -> Keypoints:
    """Confidence map (H, W) float32 -> the key points, in its pixels.

    A pixel is a key point if its score exceeds ``threshold``, ``mask`` ((H, W) uint8, 0 = no key point here) allows it,
    and it comes first (score descending, then row-major index ascending) in the window of ``radius`` pixels around it,
    2 radius + 1 on a side. Pixels outside the mask cannot become key points but still compete. The ``max_keypoints``
    best are kept. Defaults: ``_core.NMS_DEFAULTS``.

    Raises InvalidInput for a wrong dtype or shape, an empty map, NaN or infinity, radius outside 0 ... 255,
    max_keypoints < 1, threshold NaN.
    Source: window maxima as in DeTone et al. 2018 (SuperPoint), under a total order that decides ties.
    """
    return Keypoints(*_run(_core.nms, _session(threads), confidence, mask, **options))


def detect(difference: np.ndarray, mask: np.ndarray | None = None, *, threads: int = 1, **options: Any) -> Keypoints:
    """Class-difference map (h, w) float32 -> key points in pixels of the (4h, 4w) confidence map (never stored).

    Equal bit for bit to ``nms(upsample(difference), mask, ...)``; same options and errors. ``mask`` is (4h, 4w) uint8.
    """
    return Keypoints(*_run(_core.detect, _session(threads), difference, mask, **options))


def describe(map: np.ndarray, xy: np.ndarray, *, threads: int = 1) -> np.ndarray:
    """Dense descriptors (D, h, w) float32 and points (N, 2) float32 -> (N, D) float32 rows of length 1.

    Points are pixels of the (4h, 4w) image: cell i is centred on pixel 4i + 1.5; bilinear, clamped to the outermost
    cell centres. ``map`` may have any strides: pass an (h, w, D) map as ``map.transpose(2, 0, 1)``, it is not copied. A
    row of length below 1e-12 comes back as zeros.

    Raises InvalidInput for a wrong dtype or shape, an empty map, NaN or infinity among the points.
    """
    return _core.describe(_session(threads), map, xy)


class Warped(NamedTuple):
    """An image in the FIXED frame."""

    image: np.ndarray
    """(height, width) or (height, width, C), of the type of the moving image; 0 where not valid."""
    valid: np.ndarray
    """(height, width) bool: the source position lies inside the moving image."""


def warp(
    moving: np.ndarray, transform: Transform, size: tuple[int, int], *, interpolation: str = "linear", threads: int = 1
) -> Warped:
    """``moving`` (H, W) or (H, W, 1...4), uint8, uint16 or float32, resampled into a frame of ``size`` (width, height).

    ``transform`` maps MOVING -> FIXED: a :class:`fastretina.transform.Transform` of one kind, or dense @ one of the
    others. Every pixel is mapped back, exactly for matrices, by Newton's method for quadratics, to 1e-4 px for dense
    maps; it is valid where it lands within [-1/2, size - 1/2] on the side of a homography's pole, or of a quadratic's
    fold, that shows the moving centre. ``interpolation``: "nearest", "linear" or "cubic" (Keys, a = -0.75); taps
    outside repeat the border pixel. Integers are clamped to their range and rounded half up. Frames of any size (no
    32767-px limit); nothing but the result is allocated.

    Raises InvalidInput for another dtype or shape, a transform that cannot be inverted, an unknown interpolation.
    """
    if interpolation not in _INTERPOLATIONS:
        raise InvalidInput(f"interpolation: got {interpolation!r}, expected one of {', '.join(_INTERPOLATIONS)}")
    base, field = _base_and_field(transform)
    width, height = _size("size", size)
    order = _INTERPOLATIONS.index(interpolation)
    image, valid = _core.warp(_session(threads), moving, *base, field, height, width, interpolation=order)
    return Warped(image, valid.view(np.bool_))


def warp_points(points: np.ndarray, transform: Transform, *, inverse: bool = False) -> np.ndarray:
    """MOVING points (N, 2) float64 -> FIXED points (N, 2) float64, or back with ``inverse``.

    On a homography's pole, and where the inverse of a quadratic does not exist, the result is infinite or NaN.
    Raises InvalidInput for another dtype or shape, or a matrix that cannot be inverted.
    """
    kind, params = _kind_and_params(transform)
    if not inverse:
        return _core.transform_apply(kind, params, points)
    if transform.kind != "quadratic":
        back = _core.transform_invert(kind, params)
        if back is None:
            raise InvalidInput("transform: got a singular matrix, expected an invertible transform")
        return _core.transform_apply(*back, points)
    affine = np.array([params[1], params[2], params[0], params[7], params[8], params[6], 0, 0, 1, 0, 0, 0])
    start = _core.transform_invert(SINGLE_KINDS.index("affine"), affine)
    starts = points if start is None else _core.transform_apply(*start, points)
    return _core.transform_invert_points(kind, params, points, starts)


_INTERPOLATIONS = ("nearest", "linear", "cubic")  # the order of csrc/warp/warp.h


def _kind_and_params(transform: Transform) -> tuple[int, np.ndarray]:
    """How a transform enters the compiled core: the number of its kind, and 12 float64."""
    if getattr(transform, "kind", None) not in SINGLE_KINDS:
        got = getattr(transform, "kind", type(transform).__name__)
        raise InvalidInput(f"transform: got {got}, expected a Transform of kind {', '.join(SINGLE_KINDS)}")
    params = np.zeros(12)
    values = np.asarray(transform.params, np.float64).ravel()
    params[: values.size] = values
    return SINGLE_KINDS.index(transform.kind), params


def _base_and_field(transform: Transform) -> tuple[tuple[int, np.ndarray], tuple[np.ndarray, Rectangle] | None]:
    """``dense @ base`` as the core takes it: the base, and the field's control points and rectangle, or None."""
    if not isinstance(transform, Transform) or not is_deformation(transform):
        return _kind_and_params(transform), None
    dense, *base = (step.transform for step in transform.steps)
    assert dense.rectangle is not None  # it is dense
    return _kind_and_params(base[0] if base else Transform.identity()), (dense.params, dense.rectangle)


def _transform(kind: int, params: np.ndarray) -> Transform:
    """The way back."""
    name = SINGLE_KINDS[kind]
    return Transform(name, params.reshape(2, 6) if name == "quadratic" else params[:9].reshape(3, 3))


class Matches(NamedTuple):
    """Mutual nearest neighbours, best first: score descending, then index in the fixed set ascending."""

    fixed: np.ndarray
    """(m,) int32, row in the fixed set."""
    moving: np.ndarray
    """(m,) int32, row in the moving set."""
    score: np.ndarray
    """(m,) float32, cosine similarity."""


def match(fixed: np.ndarray, moving: np.ndarray, *, threads: int = 1, **options: Any) -> Matches:
    """Descriptors (N, D) and (M, D) float32, rows of norm 1 (or 0) -> their mutual nearest neighbours.

    Rows i and j match if j is the most similar moving row for i and i the most similar fixed row for j; among equally
    similar rows the lower index is first. Options (defaults: ``_core.MATCH_DEFAULTS``):

    * ``precision``: ``"f32"``; ``"bf16"``, rows rounded to bf16 and summed in f32; ``"i8"``, rows rounded to
      ``round(127 x)`` and summed exactly. The same bits on every machine.
    * ``min_similarity``: matches below it are dropped.
    * ``ratio``: below 1, Lowe's test in both directions: the distance ``sqrt(2 - 2 s)`` to the best must be below
      ``ratio`` times the distance to the second best (if there is one).

    Raises InvalidInput for a wrong dtype or shape, rows of another norm (NaN and infinity included), D = 0, another
    precision, min_similarity outside [-1, 1] or ratio outside (0, 1].
    Source of the ratio test: Lowe 2004, "Distinctive image features from scale-invariant keypoints", section 7.1.
    """
    return Matches(*_run(_core.match, _session(threads), fixed, moving, **options))


def match_guided(
    fixed: np.ndarray,
    moving: np.ndarray,
    fixed_points: np.ndarray,
    moving_points: np.ndarray,
    transform: Transform,
    *,
    threads: int = 1,
    **options: Any,
) -> Matches:
    """As ``match`` in f32, but only pairs compete whose points agree with ``transform`` (MOVING -> FIXED).

    ``fixed_points`` (N, 2) and ``moving_points`` (M, 2) float32, px. A pair competes if ``transform`` (no composite)
    maps its moving point to within ``radius_px`` of its fixed point; matches are mutual among those pairs. Matches
    below ``min_similarity`` are dropped. Defaults: ``_core.GUIDED_MATCH_DEFAULTS``.

    Raises InvalidInput as ``match``, and for other numbers of points, NaN or infinity in them, a composite transform,
    radius_px not positive.
    """
    points = fixed_points, moving_points, *_kind_and_params(transform)
    return Matches(*_run(_core.match_guided, _session(threads), fixed, moving, *points, **options))


class Estimate(NamedTuple):
    """A robust fit to point pairs. No transform is an answer, not an error."""

    transform: Transform | None
    """MOVING -> FIXED; None if none was found."""
    inlier: np.ndarray
    """(N,) bool, within the threshold."""
    iterations: int
    """Hypotheses drawn (``estimate``) or models fitted (``upgrade``)."""
    cost: float
    """Sum over all pairs of min(residual^2, threshold^2), px^2."""
    rms_px: float
    """Root mean squared residual of the inliers."""
    coverage: float
    """Share of the 8 x 8 cells over the FIXED points' bounding box that hold pairs, which also hold inliers."""


def _estimate(raw: tuple[Any, ...]) -> Estimate:
    kind_and_params, found, inlier, iterations, cost, rms_px, coverage = raw
    transform = _transform(*kind_and_params) if found else None
    return Estimate(transform, inlier.view(np.bool_), iterations, cost, rms_px, coverage)


def estimate(
    fixed_xy: np.ndarray,
    moving_xy: np.ndarray,
    weight: np.ndarray | None = None,
    *,
    threads: int = 1,
    **options: Any,
) -> Estimate:
    """Point pairs (N, 2) and (N, 2) float32, pixels -> the transform that explains most of them, by RANSAC.

    ``weight`` (N,) float32 >= 0: how much a pair's support counts. Options (defaults: ``_core.ESTIMATE_DEFAULTS``):

    * ``kind``: ``"similarity"``, ``"affine"``, ``"homography"`` or ``"quadratic"`` (12 parameters).
    * ``threshold_px``: pairs mapped to within it of their FIXED point are inliers.
    * ``confidence`` of having met a good sample, at which the search stops; ``max_iterations`` stops it at the latest.
    * ``seed``: the answer depends on the pairs, the options and the seed, never on ``threads``.
    * ``sorted``: pairs are ordered best first; samples come from the top first.
    * ``allow_mirror``: maps that reverse orientation are answers too.
    * ``min_scale``, ``max_scale``: of the map's local scale at the inliers' centroid.

    Raises InvalidInput for a wrong dtype or shape, more than 2^20 pairs, NaN or infinity, negative weights, an option
    out of range. Too few pairs, or none that agree: ``transform`` is None.
    Sources: Fischler & Bolles 1981 (RANSAC), Torr & Zisserman 2000 (MSAC), Chum, Matas & Kittler 2003 (local
    optimisation), Chum & Matas 2005 (PROSAC).
    """
    return _estimate(_run(_core.estimate, _session(threads), fixed_xy, moving_xy, weight, **options))


def upgrade(
    fixed_xy: np.ndarray,
    moving_xy: np.ndarray,
    transform: Transform,
    fixed_size: tuple[int, int],
    moving_size: tuple[int, int],
    weight: np.ndarray | None = None,
    *,
    threads: int = 1,
    **options: Any,
) -> Estimate:
    """Refits ``transform`` (MOVING -> FIXED, roughly right) and raises its kind where that explains clearly more.

    Point pairs as for ``estimate``; ``fixed_size`` and ``moving_size``: (width, height) of the frames, pixels. Affine,
    homography and quadratic are fitted in turn, with their bending terms held back by priors for retinal images. A
    higher kind is taken if it lowers the robust cost (noise units, plus BIC's price for parameters) by the share
    ``min_gain``, and only if its inliers cover enough of the frames' overlap, its predictions are certain all over the
    overlap, and it nowhere strays far from the simpler map. Options: ``max_kind``, ``threshold_px``, ``min_gain``
    (defaults: ``_core.UPGRADE_DEFAULTS``).

    Raises InvalidInput as ``estimate``, for an empty frame or a composite transform.
    Source of the priced robust cost: Torr 1998 (GRIC), Schwarz 1978 (BIC).
    """
    start = _kind_and_params(transform)
    sizes = _size("fixed_size", fixed_size), _size("moving_size", moving_size)
    return _estimate(_run(_core.upgrade, _session(threads), fixed_xy, moving_xy, weight, *start, *sizes, **options))


class Ridges(NamedTuple):
    """Vessel ridges of one image, same for dark and bright vessels.

    A level's pixel is four bytes, from the lowest: strength x 255, 128 + 127 x strength x (cos, sin) of the doubled
    direction across the line, and, at the finest level, 255 inside the field of view.
    """

    eighth: np.ndarray
    """(ceil h / 8, ceil w / 8) uint32"""
    quarter: np.ndarray
    half: np.ndarray
    full: np.ndarray
    """(h, w) uint32"""
    points: np.ndarray
    """(N, 2) float32: x, y where refine looks, a lattice over the field of view."""


def ridges(plane: np.ndarray, mask: np.ndarray | None = None, *, threads: int = 1, **options: Any) -> Ridges:
    """Ridge map of a locally normalised ``plane`` (h, w) float32; 0 outside ``mask`` (h, w) uint8, None: everywhere.

    Options (defaults are the core's): ``sigma_px`` of the Hessian, 0.5 ... 10; ``saturation``: strength becomes a half
    at saturation x its mean; ``rim_px``: no ridges nearer to the edge of the mask; ``max_points``.
    Raises InvalidInput for another dtype or shape, NaN, or an option out of range.
    Source: Lindeberg 1998, Edge detection and ridge detection with automatic scale selection.
    """
    return Ridges(*_run(_core.ridges, _session(threads), plane, mask, **options))


class Refinement(NamedTuple):
    """What refine found."""

    transform: Transform
    """MOVING -> FIXED, plane pixels; the start where nothing scored higher."""
    score_before: float
    """Ridge correlation of the start, in [-1, 1]."""
    score_after: float
    """Ridge correlation of the result, at least score_before."""
    gain_nats: float
    """Log-likelihood that the result gains over the start: how clearly the ridges ask for it."""
    shift_px: float
    """How far the points of the overlap moved, root mean square."""
    iterations: int
    refused: bool
    """A bound was hit, or the overlap was too small: the transform is the start."""


def refine(
    fixed: Ridges, moving: Ridges, start: Transform, *, kind: str = "identity", threads: int = 1, **options: Any
) -> Refinement:
    """Maximises the correlation of the ridges over the transform, coarse to fine, from ``start`` (MOVING -> FIXED).

    ``kind``: of the result: "similarity", "affine", "homography" or "quadratic"; the start's where that is higher
    ("identity": always the start's). Options (defaults are the core's): ``max_iterations`` a level, ``epsilon_px``,
    ``max_shift_px`` of the overlap and ``max_frame_shift_px`` of the frame's corners (beyond: refused), ``bend_px`` and
    ``samples_per_point`` (strength of the prior on terms that bend), ``min_points``; ``first_level``: 0 starts at the
    coarsest level, 3 at the finest.
    Raises InvalidInput for an unknown kind, maps that ridges() did not make, or an option out of range.
    Source: Evangelidis & Psarakis 2008, Parametric image alignment using enhanced correlation coefficient maximization.
    """
    if kind not in SINGLE_KINDS:
        raise InvalidInput(f"kind: got {kind!r}, expected one of {', '.join(SINGLE_KINDS)}")
    maps = _ridge_maps("fixed", fixed), _ridge_maps("moving", moving)
    number = SINGLE_KINDS.index(kind)
    raw = _run(_core.refine, _session(threads), *maps, *_kind_and_params(start), kind=number, **options)
    found, *rest = raw
    return Refinement(_transform(*found), *rest)


class FieldRefinement(NamedTuple):
    """What refine_field found."""

    field: Transform | None
    """A dense map of FIXED onto itself, plane pixels: ``field @ start`` is the result. None: none is supported."""
    gain_nats: float
    """Log-likelihood that held-out lattice points gained, as far as they were asked."""
    score_before: float
    """Correlation over the lattice points without a field, and with it. 0 where the held-out points said no."""
    score_after: float
    iterations: int


def refine_field(
    fixed: Ridges, moving: Ridges, start: Transform, *, threads: int = 1, **options: Any
) -> FieldRefinement:
    """A smooth displacement of FIXED on top of ``start`` (MOVING -> FIXED, as ``refine`` leaves it), where supported.

    The field is a cubic B-spline with ``cells`` grid steps along the longer side of FIXED. It is fitted to one half of
    a chessboard of points and judged on the other, both ways; it must gain ``min_gain_nats`` there. Further options
    (defaults are the core's): ``max_iterations`` a level, ``epsilon_px``; ``bend_px`` and ``shift_px``, prior
    deviations of second differences and displacements; ``samples_per_point``, ``min_points``; the bounds
    ``min_displacement_px`` (root mean square), ``max_displacement_px`` and ``min_jacobian``.
    Raises InvalidInput for maps that ridges() did not make, a composite or dense start, or an option out of range.
    Source: Rueckert et al. 1999, Nonrigid registration using free-form deformations.
    """
    maps = _ridge_maps("fixed", fixed), _ridge_maps("moving", moving)
    field, *rest = _run(_core.refine_field, _session(threads), *maps, *_kind_and_params(start), **options)
    return FieldRefinement(None if field is None else Transform("dense", *field), *rest)


def _ridge_maps(argument: str, ridges: Ridges) -> tuple[np.ndarray, ...]:
    if not isinstance(ridges, tuple) or len(ridges) != len(Ridges._fields):
        raise InvalidInput(f"{argument}: got {type(ridges).__name__}, expected what ops.ridges returns")
    return tuple(ridges)


def ridge_correlation(fixed: Ridges, moving: Ridges, transform: Transform, *, threads: int = 1) -> tuple[float, int]:
    """(correlation in [-1, 1] of the ridges over the overlap under ``transform``, moving pixels in the overlap).

    Strength and direction both count, on every second pixel. 0 where there is no overlap or no structure.
    Raises InvalidInput for maps that ridges() did not make, or a composite transform.
    """
    maps = _ridge_maps("fixed", fixed), _ridge_maps("moving", moving)
    return _core.ridge_correlation(_session(threads), *maps, *_kind_and_params(transform))


def quality(
    transform: Transform | None, fixed_size: tuple[int, int], moving_size: tuple[int, int], **measured: Any
) -> dict[str, Any]:
    """Status, confidence and plausibility of a candidate; sizes are (width, height) at network scale.

    ``measured``, all required: ``contrast_fixed``, ``contrast_moving``, ``keypoints_fixed``, ``keypoints_moving``,
    ``matches``, ``inliers``, ``inlier_rms_px``, ``coverage``, ``inlier_similarity``, ``ridge_correlation``,
    ``peak_to_sidelobe``, ``overlap_px``, ``attempts``. Options (defaults are the core's): ``min_contrast``,
    ``min_keypoints``, ``min_inliers``, ``min_scale``, ``max_scale``, ``max_anisotropy``, ``min_overlap``,
    ``min_confidence``, ``max_central_anisotropy``.

    Raises InvalidInput for a number that is missing, not finite or out of range, a size that is none, a composite.

    Returns ``status`` ("ok", "no_content", "too_few_matches", "implausible" or "low_agreement"; the first that holds,
    see csrc/quality/quality.h), ``confidence``, ``scale``, ``rotation_deg``, ``anisotropy``, ``mirrored``, ``overlap``,
    ``pole`` and ``fold``.
    """
    raw, field = (None, None) if transform is None else _base_and_field(transform)
    sizes = _size("fixed_size", fixed_size), _size("moving_size", moving_size)
    return _run(_core.quality, raw, field, *sizes, **measured)
