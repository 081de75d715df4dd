"""Weights of the networks that are no weight sets of ``retina``: one safetensors file each, facts in its header."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from fastretina.errors import EngineError

KEY = "fastretina"
Network = TypeVar("Network", bound=nn.Module)


def save_weights(network: nn.Module, path: Path, facts: dict[str, Any]) -> None:
    """Write a network in half precision, with ``facts`` (JSON: sizes, data, licence, command ...) in the header."""
    from safetensors.torch import save_file

    tensors = {
        name: value.detach().to("cpu", torch.float16 if value.is_floating_point() else value.dtype).contiguous()
        for name, value in network.state_dict().items()
    }
    if any(not bool(torch.isfinite(value).all()) for value in tensors.values() if value.is_floating_point()):
        raise EngineError(f"weights: a tensor of {path.name} is not finite in half precision")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".partial")
    save_file(tensors, temporary, {KEY: json.dumps(facts, sort_keys=True)})
    temporary.replace(path)


def load_weights(build: Callable[[dict[str, Any]], Network], path: Path) -> tuple[Network, dict[str, Any], str]:
    """(network in evaluation mode in f32, facts, SHA-256 of the file); ``build`` makes the network of the facts.

    Raises EngineError for a file that is missing or not of such a network.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise EngineError(f"weights: {path} is missing; remedy: reinstall the package or train it")
    try:
        with safe_open(path, "pt") as file:
            facts = json.loads((file.metadata() or {})[KEY])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        network = build(facts)
        network.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in tensors.items()})
    except (SafetensorError, KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        brief = " ".join(str(error).split())[:200]
        raise EngineError(f"weights: {path} is not a file of this network ({brief})") from error
    return network.eval(), facts, hashlib.sha256(path.read_bytes()).hexdigest()
