"""What is known of a network: ``<name>.toml`` beside its weights."""

from __future__ import annotations

import hashlib
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastretina.errors import EngineError, InvalidInput

if TYPE_CHECKING:
    from fastretina.networks.retina_craquelure import RetinaCraquelureNet

WEIGHTS = Path(__file__).resolve().parent.parent / "weights"
CONFIDENCE = (
    "bias", "ridge_correlation", "log_inliers", "inlier_ratio", "overlap", "inlier_rms_px", "coverage",
    "log_peak_to_sidelobe", "inlier_similarity", "log_attempts", "log_anisotropy",
)  # fmt: skip
_FILES = {"f32": "onnx", "int8": "onnx_int8", "torch": "safetensors"}  # precision -> table of the manifest


@dataclass(frozen=True)
class Manifest:
    """A network's facts. ``data`` is the whole file; the properties are what the rooms need."""

    folder: Path
    data: dict[str, Any]

    @property
    def name(self) -> str:
        """The network's name."""
        return str(self.data["name"])

    @property
    def multiple(self) -> int:
        """Plane sizes are padded to a multiple of this."""
        return int(self.data["pad_multiple"])

    @property
    def dims(self) -> int:
        """Length of a descriptor."""
        return int(self.data["descriptor_dims"])

    @property
    def working_size(self) -> int | None:
        """The working size that the network is meant for, px; None: the pipeline's own default."""
        value = self.data.get("working_size")
        return None if value is None else int(value)

    @property
    def confidence(self) -> dict[str, float]:
        """What was fitted for this network of csrc/quality/quality.h's ``ConfidenceModel``; empty: its defaults."""
        return {str(name): float(weight) for name, weight in self.data.get("confidence", {}).items()}

    @property
    def weights_hash(self) -> str:
        """SHA-256 of the f32 network: its identity in every result."""
        return str(self.data["weights"]["onnx"]["sha256"])

    def offers(self, precision: str) -> bool:
        """Whether there are weights for ``precision`` (bf16 and f16 run the f32 file)."""
        return _FILES.get(precision, "onnx") in self.data["weights"]

    def file_hash(self, precision: str) -> str:
        """SHA-256 of the ONNX file that serves ``precision``, as the manifest has it. EngineError: there is none."""
        entry = self.data["weights"].get(_FILES["int8" if precision == "int8" else "f32"])
        if entry is None:
            raise EngineError(f"weights: network {self.name!r} has no {precision} file")
        return str(entry["sha256"])

    def weights(self, precision: str) -> Path:
        """The checked weights file for ``precision`` ("f32", "int8" or "torch"). EngineError: missing or altered."""
        entry = self.data["weights"].get(_FILES[precision])
        if entry is None:
            raise EngineError(f"weights: network {self.name!r} has no {precision} file")
        path = self.folder / str(entry["file"])
        if not path.is_file():
            raise EngineError(f"weights: {path} is missing; remedy: reinstall the package")
        if hashlib.sha256(path.read_bytes()).hexdigest() != entry["sha256"]:
            raise EngineError(f"weights: {path} is not the file of its manifest (SHA-256 differs); remedy: reinstall")
        return path

    def torch_network(self) -> RetinaCraquelureNet:
        """The network as a module with its trained weights, of the sizes in the table ``network`` (none: as shipped).

        Raises EngineError if safetensors is not installed, or the weights are not of a network of these facts.
        """
        try:
            from safetensors import SafetensorError
            from safetensors.torch import load_file
        except ModuleNotFoundError as error:
            raise EngineError("weights: safetensors is not installed; remedy: pip install safetensors") from error

        from fastretina.networks.retina_craquelure import PAD_MULTIPLE, NetworkSize, RetinaCraquelureNet

        path = self.weights("torch")
        try:
            network = RetinaCraquelureNet(NetworkSize.from_dict(self.data.get("network", {})))
            network.load_state_dict(load_file(path))
        except (TypeError, ValueError, AttributeError, RuntimeError, SafetensorError) as error:
            raise EngineError(
                f"weights: {path} is no network of the sizes in its manifest ({_brief(error)})"
            ) from error
        if (network.size.dim, PAD_MULTIPLE) != (self.dims, self.multiple):
            got = f"descriptor_dims {self.dims} and pad_multiple {self.multiple}"
            raise EngineError(f"weights: the manifest says {got}; the network has {network.size.dim}, {PAD_MULTIPLE}")
        return network


def _brief(error: Exception) -> str:
    """The first lines of what may be a list of every tensor."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:2])


def load_manifest(weights: str | Path) -> Manifest:
    """The manifest of a shipped weight set ("default", or its name), or at a path. InvalidInput: there is none."""
    shipped = {path.stem: path for path in sorted(WEIGHTS.glob("*.toml"))}
    name = "retina" if str(weights) == "default" else str(weights)
    path = shipped.get(name) or Path(weights)
    if path.suffix != ".toml" or not path.is_file():
        names = ", ".join(["default", *shipped])
        raise InvalidInput(f"weights: got {str(weights)!r}; allowed: {names} or a manifest's path (.toml)")
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
        manifest = Manifest(path.parent, data)
        manifest.name, manifest.multiple, manifest.dims, manifest.weights_hash  # noqa: B018
        manifest.working_size, manifest.confidence  # noqa: B018
        unknown = set(manifest.confidence) - set(CONFIDENCE)
        if unknown:
            raise ValueError(f"[confidence] has no {sorted(unknown)[0]!r}; allowed: {', '.join(CONFIDENCE)}")
    except (tomllib.TOMLDecodeError, KeyError, TypeError, ValueError, UnicodeDecodeError) as error:
        raise EngineError(f"weights: {path} is no manifest of a network ({error})") from error
    return manifest
