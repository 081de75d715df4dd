"""Every way to register a pair that ``Registrar(method=NAME)`` knows. A method is one small function, below.

The function builds a pipeline: ``prepare(image)`` returns what is known of one image (with ``keypoints`` (K, 2) in its
pixels, ``heatmap`` and ``timings_ms``), ``register(fixed, moving)`` of two of those what ``torch_path.pipeline``
documents. ``choices`` say what runs it, ``weights_hash`` with which weights. Importing this package imports none of
them.

Methods differ in how they find point pairs; status and confidence come from the quality room for all of them, so that
``ok`` means the same (``keypoints.py``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from fastretina.errors import EngineError

if TYPE_CHECKING:
    from fastretina.config import Config

__all__ = ["METHODS", "WEIGHTS", "Method", "build"]

WEIGHTS = Path(__file__).resolve().parent.parent / "weights"
OURS = "Apache-2.0"
OPENCV = "Apache-2.0 (OpenCV)"
RESEARCH = "research, non-commercial (trained on real data sets)"
COMMON = ("method", "threads", "seed")  # keywords of Registrar that mean something to every method


class Pipeline(Protocol):
    """What ``Registrar`` asks of a method."""

    choices: dict[str, Any]
    weights_hash: str

    def prepare(self, image: Any) -> Any: ...

    def register(self, fixed: Any, moving: Any) -> dict[str, Any]: ...


@dataclass(frozen=True)
class Method:
    """What a method is, and how it is built."""

    name: str
    purpose: str
    build: Callable[[Config, int], Pipeline] | None  # of the configuration and the number of threads; None: Registrar
    licence: str = OURS
    weights: tuple[str, ...] = ()  # files in WEIGHTS
    options: tuple[str, ...] = ()  # keywords of Registrar that it takes, beside COMMON
    needs_torch: bool = False

    @property
    def size_bytes(self) -> int:
        """Of its weights."""
        return sum((WEIGHTS / name).stat().st_size for name in self.weights)

    @property
    def takes(self) -> tuple[str, ...]:
        """The keywords of Registrar that mean something to it."""
        return COMMON + self.options


METHODS: dict[str, Method] = {
    "retina": Method(
        "retina",
        "any modality and polarity, sub-pixel, calibrated confidence (after RetinaCraquelureNet)",
        None,  # Registrar builds it: it alone has engines and a compiled pipeline
        weights=("retina.onnx", "retina.int8.onnx", "retina.safetensors"),
        options=("weights", "engine", "backend", "device", "precision", "max_keypoints", "working_size", "transform"),
    )
}


def method(name: str, purpose: str, **facts: Any) -> Callable[[Callable[[Config, int], Pipeline]], None]:
    """Registers the function that follows as a method; ``facts`` as in ``Method``."""

    def add(build: Callable[[Config, int], Pipeline]) -> None:
        METHODS[name] = Method(name, purpose, build, **facts)

    return add


def build(config: Config, threads: int) -> Pipeline:
    """The pipeline of ``config.method``. EngineError where what it needs is not installed."""
    wanted = METHODS[config.method]
    asked = {"input": config.input == "vessels", "translate": config.translate not in ("auto", "off")}
    heavy = ["method"] * wanted.needs_torch + [name for name, needed in asked.items() if needed]
    if heavy and (find_spec("torch") is None or find_spec("safetensors") is None):
        remedy = "pip install 'fastretina[torch]'"
        raise EngineError(f"{heavy[0]}: {getattr(config, heavy[0])!r} needs PyTorch and safetensors; remedy: {remedy}")
    if wanted.build is None:
        raise EngineError(f"method: {wanted.name!r} is built by Registrar")
    return wanted.build(config, threads)


KEYPOINTS = ("max_keypoints", "working_size", "transform", "input", "translate", "prune")


@method("sift", "baseline for pairs of one modality", licence=OPENCV, options=KEYPOINTS)
def _sift(config: Config, threads: int) -> Pipeline:
    from fastretina.methods import classical, keypoints

    return keypoints.Pipeline(
        classical.Sift(config), config, threads, matches=keypoints.mutual_nearest(0.8), kind="homography"
    )


@method("rootsift", "baseline for pairs of one modality or of opposite polarity", licence=OPENCV, options=KEYPOINTS)
def _rootsift(config: Config, threads: int) -> Pipeline:
    from fastretina.methods import classical, keypoints

    return keypoints.Pipeline(classical.RootSift(config), config, threads, polarities=2, kind="similarity")


@method("symmetric-sift", "baseline for upright pairs, blind to polarity", licence=OPENCV, options=KEYPOINTS)
def _symmetric_sift(config: Config, threads: int) -> Pipeline:
    from fastretina.methods import classical, keypoints

    return keypoints.Pipeline(classical.SymmetricSift(config), config, threads, kind="similarity")


@method(
    "glampoints",
    "key points learned for root-SIFT, pairs of one modality or of opposite polarity (GLAMPoints)",
    weights=("glampoints.safetensors",),
    options=KEYPOINTS,
    needs_torch=True,
)
def _glampoints(config: Config, threads: int) -> Pipeline:
    from fastretina.methods import glampoints, keypoints

    return keypoints.Pipeline(glampoints.GlamPoints(config, threads), config, threads, polarities=2, kind="similarity")


@method(
    "superpoint+mnn",
    "learned key points, mutual nearest neighbours, affine (document C without SuperGlue)",
    weights=("superpoint.safetensors",),
    options=KEYPOINTS,
    needs_torch=True,
)
def _superpoint_mnn(config: Config, threads: int) -> Pipeline:
    from fastretina.methods import keypoints
    from fastretina.methods.superpoint import SuperPointFeatures

    return keypoints.Pipeline(SuperPointFeatures(config, threads), config, threads)


@method(
    "retina+superglue",
    "key points of retina, matched by attention over both images; affine",
    weights=("retina.onnx", "superglue_retina.safetensors"),
    options=KEYPOINTS,
    needs_torch=True,
)
def _retina_superglue(config: Config, threads: int) -> Pipeline:
    from fastretina.methods import superglue

    return superglue.pipeline("retina", config, threads)


@method(
    "superpoint+superglue",
    "document C: learned key points, matched by attention over both images; affine",
    weights=("superpoint.safetensors", "superglue_superpoint.safetensors"),
    options=KEYPOINTS,
    needs_torch=True,
)
def _superpoint_superglue(config: Config, threads: int) -> Pipeline:
    from fastretina.methods import superglue

    return superglue.pipeline("superpoint", config, threads)


@method(
    "cyclegan+superpoint+superglue",
    "document B's comparison: colour photographs in the look of OCTA or angiograms, then document C",
    licence=RESEARCH,
    weights=("superpoint.safetensors", "superglue_superpoint.safetensors", "cyclegan_cf_octa.safetensors",
             "cyclegan_cf_fa.safetensors"),
    options=KEYPOINTS,
    needs_torch=True,
)  # fmt: skip
def _cyclegan_superpoint_superglue(config: Config, threads: int) -> Pipeline:
    from fastretina.methods import superglue

    return superglue.pipeline("superpoint", config, threads, translate=("cf-octa", "cf-fa"))


@method(
    "arbicon",
    "document B: one network compares both images densely, affine map and smooth field; moderate turns and scales",
    weights=("arbicon.safetensors",),
    options=("transform",),
    needs_torch=True,
)
def _arbicon(config: Config, threads: int) -> Pipeline:
    from fastretina.methods import arbicon
    from fastretina.networks.arbicon import Arbicon, ArbiconSize
    from fastretina.networks.weight_files import load_weights

    file = WEIGHTS / "arbicon.safetensors"
    network, _, digest = load_weights(lambda facts: Arbicon(ArbiconSize(**facts["size"])), file)
    return arbicon.Pipeline(network, digest, config, threads)
