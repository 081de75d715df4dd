"""Register two retinal images of any modality, fast, and know whether to trust the answer.

>>> result = fastretina.register(fixed, moving)  # doctest: +SKIP

``Registrar`` keeps the network for many pairs; ``ops`` holds every room on its own. Importing this package loads neither an
inference engine nor torch.
"""

from __future__ import annotations

from fastretina.errors import EngineError, FastretinaError, InvalidInput
from fastretina.registrar import Registrar, register
from fastretina.transform import Transform
from fastretina.types import Prepared, Registration

__version__ = "0.1.0"
__all__ = [
    "EngineError",
    "FastretinaError",
    "InvalidInput",
    "Prepared",
    "Registrar",
    "Registration",
    "Transform",
    "ops",
    "register",
]


def __getattr__(name: str) -> object:
    if name == "ops":  # needs the compiled core, which the torch path does without
        import importlib

        return importlib.import_module("fastretina.ops")
    raise AttributeError(f"module 'fastretina' has no attribute {name!r}")
