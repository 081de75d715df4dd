"""``Registrar``: heavy work once, then pair after pair."""

from __future__ import annotations

import importlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastretina import engines, methods
from fastretina.config import Config, usable_cores
from fastretina.errors import EngineError, InvalidInput
from fastretina.transform import Transform
from fastretina.transform_layout import transform_of
from fastretina.types import Prepared, Registration

if TYPE_CHECKING:
    from fastretina import _core

Image = NDArray[Any]


class Registrar:
    """Registers pairs of retinal images. Keywords as in :class:`fastretina.config.Config`; an unknown one is an error.

    Building it loads and compiles the network; ``register`` then runs the rooms. Threads may share one: their calls run
    one after the other (a registrar each runs them side by side). Not across ``os.fork``: a child builds its own.
    """

    def __init__(self, **keywords: Any) -> None:
        self.config = config = Config.from_keywords(**keywords)
        self.threads = int(config.threads or usable_cores())
        # The core has one scratch memory and one result a pipeline, and runs without the GIL. A lock of Python's:
        # waiting for it lets go of the GIL, which the network of the thread inside may need.
        self._lock = threading.RLock()
        self.backend = _choose_backend(config.backend)
        self.engine: Any = None  # of other methods than retina
        self._device_pairs: Any = None  # pairs on a GPU
        self._ahead = 0  # pairs that register_many queues before it waits for the first of them
        if config.method == "retina":
            self._build_retina()
        elif self.backend != "native":
            raise EngineError(f"method: {config.method!r} needs the compiled core, which is missing; remedy: reinstall")
        else:
            self._pipeline: Any = methods.build(config, self.threads)
            self._facts: dict[str, Any] = self._pipeline.choices
            self._weights_hash: str = self._pipeline.weights_hash

    def _build_retina(self) -> None:
        """The method that has engines to choose from, and its rooms compiled."""
        config = self.config
        self.manifest = manifest = engines.load_manifest(config.weights)
        self.engine = engines.create(
            config.engine, manifest, precision=config.precision, device=config.device, threads=self.threads
        )
        if self.backend == "native":
            from fastretina import _core

            options = native_options(config, manifest)
            self._pipeline = _core.Pipeline(self.engine, options, self.threads)
            if _pairs_run_on(self.engine) and _core.HAS_CUDA:
                from fastretina import device_pairs

                facts = options, self.engine.multiple, self.engine.dims
                make = lambda fixed, moving: _core.DevicePair(fixed, moving, *facts)  # noqa: E731
                self._device_pairs = device_pairs.DevicePairs(self.engine, make)
                self._ahead = device_pairs.IN_FLIGHT
        else:
            self._pipeline = _torch_pipeline()(self.engine, config, self.threads, manifest)
        self._facts = {"network": manifest.name, "engine": self.engine.name, "precision": self.engine.precision}
        self._weights_hash = manifest.weights_hash

    def __repr__(self) -> str:
        engine, precision = (self._facts[name] for name in ("engine", "precision"))
        method = "" if self.config.method == "retina" else f"method={self.config.method!r}, "
        return f"Registrar({method}engine={engine!r}, precision={precision!r}, backend={self.backend!r})"

    def prepare(self, image: Image) -> Prepared:
        """The features of ``image``, for use as FIXED in many registrations: each then costs one network pass.

        ``image``: (H, W) or (H, W, 3) RGB; uint8, uint16 or float32 in [0, 1]; shorter side >= 64 px. With a GPU's
        engine and a core built with FASTRETINA_CUDA also an array in the GPU's memory (CUDA's array interface, DLPack).
        What is prepared is kept on the host, and registered by the CPU's rooms. Raises InvalidInput.
        """
        return self._prepare(image, "image")

    def register(self, fixed: Image | Prepared, moving: Image | Prepared) -> Registration:
        """Register MOVING to FIXED: images as ``prepare`` takes them (sizes may differ), or what it returned.

        Two images run on the GPU where there is one (see docs/GPU.md), on a stream that follows torch's current one.

        A pair that cannot be registered is a refusal (``result.ok`` False), not an exception. Raises InvalidInput.
        """
        return self._start(fixed, moving)()

    def register_many(self, pairs: Iterable[tuple[Image | Prepared, Image | Prepared]]) -> Iterator[Registration]:
        """``register`` for every (FIXED, MOVING), in order, with the same results; sizes may differ.

        On a GPU some pairs are in flight at a time, so that transfers, the network and the rooms overlap: a pair is
        answered when a few more have been taken from ``pairs``, and its arrays must not change until then.
        """
        ahead: deque[_Pending] = deque()
        try:
            for fixed, moving in pairs:
                ahead.append(self._start(fixed, moving))
                if len(ahead) > self._ahead:
                    yield ahead.popleft()()
            while ahead:
                yield ahead.popleft()()
        finally:
            for pending in ahead:  # the caller has stopped, or a pair was misuse
                pending.drop()

    def _start(self, fixed: Image | Prepared, moving: Image | Prepared) -> _Pending:
        """Queue the pair on the device, if there is one for it."""
        begun = time.perf_counter()
        if self._device_pairs is None or isinstance(fixed, Prepared) or isinstance(moving, Prepared):
            return _Pending(lambda: self._register(fixed, moving), self._lock)
        with self._lock:
            slot = self._device_pairs.start(fixed, moving)
        return _Pending(lambda: self._finish(slot, (fixed, moving), begun), self._lock, slot.drop)

    def _finish(self, slot: Any, images: tuple[Image, Image], begun: float) -> Registration:
        """What the device found. Where it is weak the CPU pipeline climbs the ladder, from the images."""
        found = slot.finish()
        if not found["strong"]:
            return self._register(*images)
        first, second = (
            Prepared(
                size=(image.shape[1], image.shape[0]),
                owner=self,
                payload=SimpleNamespace(keypoints=found[f"keypoints_{name}"], heatmap=found[f"heatmap_{name}"]),
            )
            for image, name in zip(images, ("fixed", "moving"), strict=True)
        )
        return self._result(found, first, second, {"total": (time.perf_counter() - begun) * 1e3})

    def _register(self, fixed: Image | Prepared, moving: Image | Prepared) -> Registration:
        start = time.perf_counter()
        fresh = [not isinstance(image, Prepared) for image in (fixed, moving)]
        pair = (self._prepare(fixed, "fixed"), self._prepare(moving, "moving"))
        found = self._pipeline.register(pair[0].payload, pair[1].payload)
        timings = dict(found["timings_ms"])
        for prepared in (p for p, made_now in zip(pair, fresh, strict=True) if made_now):
            for room, ms in prepared.payload.timings_ms.items():
                timings[room] = timings.get(room, 0.0) + ms
        timings["total"] = (time.perf_counter() - start) * 1e3
        return self._result(found, pair[0], pair[1], timings)

    def _prepare(self, image: Image | Prepared, argument: str) -> Prepared:
        if isinstance(image, Prepared):
            if image.owner is not self:
                raise InvalidInput(f"{argument}: was prepared by another Registrar; remedy: prepare it with this one")
            return image
        if self._device_pairs is not None:
            image = self._device_pairs.on_host(image, argument)
        if not isinstance(image, np.ndarray):
            raise InvalidInput(f"{argument}: got {type(image).__name__}, expected a NumPy array (H, W) or (H, W, 3)")
        try:
            with self._lock:
                payload = self._pipeline.prepare(image)
        except InvalidInput as error:  # the rooms call it "image"; the caller knows it by another name
            word, rest = str(error)[:5], str(error)[5:]
            if word != "image" or not rest.startswith((":", " ")):
                raise
            raise InvalidInput(f"{argument}{rest}") from None
        return Prepared(size=(image.shape[1], image.shape[0]), owner=self, payload=payload)

    def _result(
        self, found: dict[str, Any], fixed: Prepared, moving: Prepared, timings_ms: dict[str, float]
    ) -> Registration:
        transform = None if found["transform"] is None else transform_of(*found["transform"])
        if transform is not None and found["field"] is not None:
            transform = Transform("dense", *found["field"]) @ transform
        matches = np.concatenate([found["fixed_xy"], found["moving_xy"]], axis=1).astype(np.float64)
        return Registration(
            status=found["status"],
            confidence=found["confidence"],
            transform=transform,
            fixed_size=fixed.size,
            moving_size=moving.size,
            choices=self._choices(found, transform),
            matches=matches,
            match_scores=found["score"].astype(np.float64),
            inliers=found["inlier"].astype(bool),
            timings_ms=timings_ms,
            quality=found["quality"],
            keypoints_fixed=fixed.payload.keypoints.astype(np.float64),
            keypoints_moving=moving.payload.keypoints.astype(np.float64),
            heatmap_fixed=fixed.payload.heatmap,
            heatmap_moving=moving.payload.heatmap,
            weights_hash=self._weights_hash,
        )

    def _choices(self, found: dict[str, Any], transform: Transform | None) -> dict[str, Any]:
        """What every "auto" became, for this pair."""
        return {
            "method": self.config.method,
            **self._facts,
            "backend": self.backend,
            "device": self.engine.device if self.engine else "cpu",
            "threads": self.threads,
            "model": None if transform is None else transform.model,
            "rung": found["rung"],
            "attempts": found["attempts"],
            "fixed_scale": found["fixed_pose"][0],
            "moving_scale": found["moving_pose"][0],
            "turn_deg": found["moving_pose"][1],
            "mirrored": found["moving_pose"][2],
            "seed": self.config.seed,
        }


@dataclass(frozen=True)
class _Pending:
    """A pair whose registration has begun."""

    answer: Callable[[], Registration]
    lock: AbstractContextManager[Any]
    drop: Callable[[], None] = lambda: None

    def __call__(self) -> Registration:
        with self.lock:
            return self.answer()


def _pairs_run_on(engine: Any) -> bool:
    """Does this engine take and give memory of a GPU?"""
    return engine.device.startswith("cuda") and hasattr(engine, "run_on_device")


def register(fixed: Image, moving: Image, **options: Any) -> Registration:
    """One-shot registration: ``Registrar(**options).register(fixed, moving)``. For many pairs keep a Registrar.

    ``fixed``, ``moving``: (H, W) or (H, W, 3) RGB; uint8, uint16 or float32 in [0, 1]; shorter side >= 64 px. The
    result is in their pixels. Raises InvalidInput for an image, a name or a value that is not allowed, and EngineError
    where the network cannot run here. A pair that cannot be registered is a refusal (``result.ok`` False).
    """
    return Registrar(**options).register(fixed, moving)


def native_options(config: Config, manifest: engines.Manifest | None = None) -> _core.Options:
    """The C++ defaults with what the manifest and ``config`` set."""
    from fastretina import _core

    options = _core.Options()
    if manifest:
        for name, weight in manifest.confidence.items():
            setattr(options.quality.confidence, name, weight)
        options.features.image.working_size = manifest.working_size or options.features.image.working_size
    options.model.choice = getattr(_core.TransformChoice, config.transform)
    options.estimate.seed = config.seed
    if config.working_size is not None:
        options.features.image.working_size = config.working_size
    if config.max_keypoints is not None:
        options.features.detect.max_keypoints = config.max_keypoints
    return options


def _choose_backend(backend: str) -> str:
    if backend == "torch":
        return backend
    remedy = "remedy: reinstall, or backend='torch'"
    try:
        importlib.import_module("fastretina._core")
    except ImportError as error:
        if not (isinstance(error, ModuleNotFoundError) and error.name == "fastretina._core"):
            raise EngineError(f"backend: the compiled core does not load ({error}); {remedy}") from error
        if backend == "native":
            raise EngineError(f"backend: the compiled core is missing; {remedy}") from error
        return "torch"
    return "native"


def _torch_pipeline() -> Callable[..., Any]:
    try:
        from fastretina.torch_path.pipeline import Pipeline
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise EngineError("backend: 'torch' needs PyTorch; remedy: pip install 'fastretina[torch]'") from error
    return Pipeline
