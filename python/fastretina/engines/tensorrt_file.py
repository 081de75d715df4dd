"""An engine file of TensorRT and its sidecar: what it was built from, with and for, and whether it may be run here.

``retina.f16.tensorrt_rtx.engine`` and, beside it, the same name with ``.json``. A file whose sidecar is missing, of
another network, library or GPU, or that is not the file that was built, is refused: TensorRT itself would notice some
of this late, and a changed network never. Imports neither TensorRT nor torch.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from types import ModuleType
from typing import Any

from fastretina.engines.manifest import Manifest
from fastretina.engines.typed_onnx import PRECISIONS, RECIPE
from fastretina.errors import EngineError, InvalidInput

FLAVOURS = {"tensorrt_rtx": "tensorrt-rtx", "tensorrt": "tensorrt"}
"""Python module -> package, the one that builds without a GPU first. Both have the same interface."""
OLDEST = {"tensorrt_rtx": 1, "tensorrt": 10}
FOLDER_VARIABLE = "FASTRETINA_ENGINES"
SUFFIX = ".engine"
_FASTEST_FIRST = ("f16", "bf16", "int8", "f32")  # int8 last but one: symmetric scales cost key points (docs/GPU.md)

Shape = tuple[int, int, int]  # batch, height, width


@dataclass(frozen=True)
class Sidecar:
    """What is written beside an engine file."""

    network: str
    network_sha256: str  # of the ONNX file that it was built from
    recipe: int  # of typed_onnx
    precision: str
    min_shape: Shape
    opt_shape: Shape
    max_shape: Shape
    flavour: str
    version: str
    capabilities: tuple[str, ...]  # compute capabilities that it runs on: "8.9"
    sha256: str  # of the engine file

    def to_json(self) -> str:
        """One fact a line."""
        return json.dumps(asdict(self), indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Sidecar:
        """Raises ValueError unless the text holds every fact, of its type, and no other."""
        data = json.loads(text)
        types = {field.name: {"int": int, "str": str}.get(str(field.type), list) for field in fields(cls)}
        if not isinstance(data, dict) or set(data) != set(types):
            raise ValueError(f"expected the facts {', '.join(types)}")
        for name, kind in types.items():
            if not isinstance(data[name], kind):
                raise ValueError(f"{name}: got {data[name]!r}")
        facts: dict[str, Any] = {k: tuple(value) if isinstance(value, list) else value for k, value in data.items()}
        return cls(**facts)

    @property
    def identity(self) -> str:
        """The name that TensorRT keeps inside the engine: a sidecar that was swapped is noticed."""
        return f"fastretina {self.network} {self.precision} {self.network_sha256}"


@dataclass(frozen=True)
class Here:
    """What an engine would meet: the network asked for, the libraries installed, the GPU (None: not known)."""

    network_sha256: Mapping[str, str]  # precision -> of the ONNX file that serves it
    versions: Mapping[str, str]  # flavour -> version
    capability: str | None = None


def why_stale(sidecar: Sidecar, here: Here, file_sha256: str | None = None) -> str | None:
    """Why this engine must not be run here; None: it may. ``file_sha256``: of the file as it is; None: unknown."""
    version = here.versions.get(sidecar.flavour)
    if sidecar.network_sha256 != here.network_sha256.get(sidecar.precision):
        return "was built from another network, or from other weights of it"
    if sidecar.recipe != RECIPE:
        return f"was built by recipe {sidecar.recipe} of fastretina, this is recipe {RECIPE}"
    if version is None:
        return f"was built by {sidecar.flavour}, which is not installed here"
    if version != sidecar.version:
        return f"was built by {sidecar.flavour} {sidecar.version}, here is {version}"
    if here.capability is not None and here.capability not in sidecar.capabilities:
        return f"runs on compute capability {', '.join(sidecar.capabilities)}, this GPU has {here.capability}"
    if file_sha256 is not None and file_sha256 != sidecar.sha256:
        return "is not the file of its sidecar (SHA-256 differs)"
    return None


def library(flavour: str) -> ModuleType:
    """The module of that flavour. EngineError: it is not installed, does not load, or is too old."""
    try:
        module = importlib.import_module(flavour)
    except ImportError as error:
        remedy = f"remedy: pip install {FLAVOURS[flavour]}"
        raise EngineError(f"engine: {flavour} is not installed or does not load ({error}); {remedy}") from error
    if int(str(module.__version__).partition(".")[0]) < OLDEST[flavour]:
        raise EngineError(f"engine: {flavour} {module.__version__} is too old; remedy: {OLDEST[flavour]} or later")
    return module


def installed() -> dict[str, str]:
    """Flavour -> version, of those that load here. Imports them."""
    found = {}
    for flavour in FLAVOURS:
        if importlib.util.find_spec(flavour) is not None:
            found[flavour] = str(library(flavour).__version__)
    return found


def here(manifest: Manifest, capability: str | None = None) -> Here:
    """What an engine of this network would meet on this machine, on a GPU of ``capability``."""
    hashes = {p: manifest.file_hash(p) for p in PRECISIONS if manifest.offers(p)}
    return Here(hashes, installed(), capability)


def engines_folder() -> Path:
    """Where engines are written and looked for: $FASTRETINA_ENGINES, else a folder of the user's cache."""
    if os.environ.get(FOLDER_VARIABLE):
        return Path(os.environ[FOLDER_VARIABLE])
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fastretina" / "engines"


def engine_name(network: str, precision: str, flavour: str) -> str:
    """The name of an engine's file."""
    return f"{network}.{precision}.{flavour}{SUFFIX}"


def sidecar_path(engine: Path) -> Path:
    """The sidecar of an engine file."""
    return engine.with_name(engine.name + ".json")


def read_sidecar(engine: Path) -> Sidecar:
    """EngineError: there is none, or it is none."""
    path = sidecar_path(engine)
    remedy = "remedy: fastretina engine build"
    try:
        return Sidecar.from_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise EngineError(f"engine: {engine} has no sidecar {path.name}; {remedy}") from error
    except (OSError, ValueError) as error:
        raise EngineError(f"engine: {path} is no sidecar of an engine ({error}); {remedy}") from error


def engine_files(folder: Path) -> Iterator[Path]:
    """The engine files of a folder, by name."""
    yield from sorted(folder.glob(f"*{SUFFIX}"))


def read_engine(path: Path, there: Here) -> tuple[Sidecar, bytes]:
    """The sidecar and the content of an engine that may be run. EngineError: it is stale, foreign, altered or gone."""
    sidecar = read_sidecar(path)
    try:
        plan = path.read_bytes()
    except OSError as error:
        raise EngineError(
            f"engine: {path} cannot be read ({error.strerror}); remedy: fastretina engine build"
        ) from error
    stale = why_stale(sidecar, there, hashlib.sha256(plan).hexdigest())
    if stale:
        raise EngineError(f"engine: {path} {stale}; remedy: {build_command(sidecar.network, sidecar.precision)}")
    return sidecar, plan


def choose(manifest: Manifest, precision: str, there: Here, folder: Path) -> Path:
    """The engine of ``folder`` to run: the one of that precision, or for "auto" the fastest that may be run.

    Raises InvalidInput for an unknown precision, and EngineError, which says what was found, where there is none.
    """
    if precision not in ("auto", *PRECISIONS):
        raise InvalidInput(f"precision: got {precision!r}; allowed: auto, {', '.join(PRECISIONS)}")
    reasons = []
    for wanted in _FASTEST_FIRST if precision == "auto" else (precision,):
        for flavour in FLAVOURS:
            path = folder / engine_name(manifest.name, wanted, flavour)
            if not path.is_file():
                continue
            stale = why_stale(read_sidecar(path), there)
            if stale is None:
                return path
            reasons.append(f"{path.name} {stale}")
    found = "; ".join(reasons) or f"{folder} holds none of network {manifest.name!r} at precision {precision!r}"
    wanted = "f16" if precision == "auto" else precision
    raise EngineError(f"engine: {found}; remedy: {build_command(manifest.name, wanted)}")


def build_command(network: str, precision: str) -> str:
    """What the reader of an error is to type."""
    return f"fastretina engine build --weights {network} --precision {precision}"


def gpu_capability(index: int = 0) -> str | None:
    """The compute capability of the GPU, "8.9"; None where torch is not installed or sees none."""
    if importlib.util.find_spec("torch") is None:
        return None
    torch: Any = importlib.import_module("torch")
    if not torch.cuda.is_available():
        return None
    major, minor = torch.cuda.get_device_capability(index)
    return f"{major}.{minor}"
