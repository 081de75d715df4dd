"""Build an engine: typed ONNX → TensorRT (>= 10) or TensorRT-RTX, which have one interface.

TensorRT-RTX builds without a GPU, for every GPU it supports; TensorRT builds on the GPU that it is for.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from fastretina.engines import tensorrt_file
from fastretina.engines.export import INPUT
from fastretina.engines.manifest import Manifest
from fastretina.engines.tensorrt_file import FLAVOURS, Shape, Sidecar
from fastretina.engines.typed_onnx import RECIPE, typed_model
from fastretina.errors import EngineError, InvalidInput
from fastretina.io import OutputFolder

MAX_SIDE_PX, MAX_BATCH = 8192, 256
DEFAULT_MAX_PX = 1024  # more than twice the default working size: what the ladder asks for
_WITHOUT_TURING = "7.5"  # an engine that also serves it is slower on the others


@dataclass(frozen=True)
class Sizes:
    """The planes that an engine takes: sides px (height, width), and how many at once."""

    smallest: tuple[int, int]
    best: tuple[int, int]  # what it is tuned for
    largest: tuple[int, int]
    batch: int = 1

    def shapes(self, multiple: int) -> tuple[Shape, Shape, Shape]:
        """(batch, height, width) of the least, the tuned and the largest input. Raises InvalidInput."""
        for name, sides in (("min-size", self.smallest), ("opt-size", self.best), ("max-size", self.largest)):
            if any(side % multiple or not 0 < side <= MAX_SIDE_PX for side in sides):
                allowed = f"multiples of {multiple} up to {MAX_SIDE_PX}"
                raise InvalidInput(f"{name}: got {sides[0]}x{sides[1]}; allowed: {allowed}")
        for low, high in ((self.smallest, self.best), (self.best, self.largest)):
            if low[0] > high[0] or low[1] > high[1]:
                raise InvalidInput(f"sizes: got {low} above {high}; expected min-size <= opt-size <= max-size")
        if not 1 <= self.batch <= MAX_BATCH:
            raise InvalidInput(f"batch: got {self.batch}; allowed: 1 ... {MAX_BATCH}")
        return (1, *self.smallest), (self.batch, *self.best), (self.batch, *self.largest)


def default_sizes(manifest: Manifest, batch: int = 1) -> Sizes:
    """Every plane that the pipeline makes of an image at the network's own working size."""
    multiple = manifest.multiple
    side = manifest.working_size or _pipeline_size()
    best = -(-side // multiple) * multiple
    largest = max(DEFAULT_MAX_PX, 2 * best)
    return Sizes((multiple, multiple), (best, best), (largest, largest), batch)


def _pipeline_size() -> int:
    from fastretina import _core

    return int(_core.Options().features.image.working_size)


def build(
    manifest: Manifest,
    precision: str,
    sizes: Sizes,
    folder: Path,
    flavour: str | None = None,
    capabilities: tuple[str, ...] = (),
) -> Path:
    """Write an engine and its sidecar into ``folder``; returns the engine's path.

    ``flavour``: "tensorrt_rtx" or "tensorrt"; None: the first that is installed. ``capabilities``: of the GPUs to
    build for, such as "8.9" (TensorRT-RTX only); none: all it knows from 8.0 on. Raises InvalidInput and EngineError.
    """
    shapes = sizes.shapes(manifest.multiple)
    flavour = flavour or _first_installed()
    if flavour not in FLAVOURS:
        raise InvalidInput(f"flavour: got {flavour!r}; allowed: {', '.join(FLAVOURS)}")
    trt = tensorrt_file.library(flavour)
    model = typed_model(manifest, precision).SerializeToString()
    draft = Sidecar(
        network=manifest.name,
        network_sha256=manifest.file_hash(precision),
        recipe=RECIPE,
        precision=precision,
        min_shape=shapes[0],
        opt_shape=shapes[1],
        max_shape=shapes[2],
        flavour=flavour,
        version=str(trt.__version__),
        capabilities=_targets(trt, flavour, capabilities),
        sha256="",
    )
    with OutputFolder(folder) as output:
        plan = _plan(trt, model, draft)
        sidecar = replace(draft, sha256=hashlib.sha256(plan).hexdigest())
        path = output.path / tensorrt_file.engine_name(manifest.name, precision, flavour)
        output.fill({path.name: plan, tensorrt_file.sidecar_path(path).name: sidecar.to_json().encode()})
    return path


def _first_installed() -> str:
    for flavour in tensorrt_file.installed():
        return flavour
    names = " or ".join(f"pip install {package}" for package in FLAVOURS.values())
    raise EngineError(f"engine: neither TensorRT-RTX nor TensorRT is installed; remedy: {names}")


def _targets(trt: Any, flavour: str, asked: tuple[str, ...]) -> tuple[str, ...]:
    """The compute capabilities that the engine will run on."""
    if flavour == "tensorrt":
        here = tensorrt_file.gpu_capability()
        if here is None:
            raise EngineError("engine: TensorRT builds on a GPU, and torch sees none; remedy: pip install tensorrt-rtx")
        if asked and asked != (here,):
            raise InvalidInput(f"capabilities: TensorRT builds for this GPU, {here}; got {', '.join(asked)}")
        return (here,)
    known = {_dotted(name): name for name in trt.ComputeCapability.__members__ if name.startswith("SM")}
    unknown = [capability for capability in asked if capability not in known]
    if unknown:
        raise InvalidInput(f"capabilities: got {unknown[0]!r}; TensorRT-RTX builds for {', '.join(known)}")
    return asked or tuple(capability for capability in known if capability != _WITHOUT_TURING)


def _dotted(name: str) -> str:
    """SM120 → 12.0."""
    return f"{name[2:-1]}.{name[-1]}"


def _plan(trt: Any, model: bytes, sidecar: Sidecar) -> bytes:
    """Parse and build. EngineError says what TensorRT said."""
    log = _log(trt)
    log.errors.clear()
    builder = trt.Builder(log)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, log)
    if not parser.parse(model):
        said = "; ".join(parser.get_error(i).desc() for i in range(parser.num_errors))
        raise EngineError(f"engine: {sidecar.flavour} cannot read the network ({said})")
    network.name = sidecar.identity
    config = builder.create_builder_config()
    config.clear_flag(trt.BuilderFlag.TF32)  # f32 is the portable setting
    if sidecar.flavour == "tensorrt_rtx":
        config.num_compute_capabilities = len(sidecar.capabilities)
        for i, capability in enumerate(sidecar.capabilities):
            config.set_compute_capability(getattr(trt.ComputeCapability, "SM" + capability.replace(".", "")), i)
    profile = builder.create_optimization_profile()
    shapes = ((n, 1, h, w) for n, h, w in (sidecar.min_shape, sidecar.opt_shape, sidecar.max_shape))
    profile.set_shape(INPUT, *shapes)
    config.add_optimization_profile(profile)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise EngineError(
            f"engine: {sidecar.flavour} cannot build the network ({'; '.join(log.errors) or 'no reason'})"
        )
    return bytes(plan)


@cache  # TensorRT keeps the first log that it is given for as long as the process lives
def _log(trt: Any) -> Any:
    class Log(trt.ILogger):  # type: ignore[misc]
        """Keeps what went wrong for the message of an exception, and prints nothing."""

        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR):
                self.errors.append(message)

    return Log()
