"""Register two retinal images of any modality, fast, and know whether to trust the answer.

>>> import fastretina
>>> result = fastretina.register(fixed, moving)  # doctest: +SKIP
>>> result.ok, result.confidence, result.transform([[100.0, 200.0]])  # doctest: +SKIP

Argument order is FIXED, MOVING everywhere. Heavy parts (the compiled core, an engine) load when first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from fastretina.config import Config
from fastretina.errors import EngineError, FastretinaError, InvalidInput
from fastretina.transform import Transform
from fastretina.types import Prepared, Registration

if TYPE_CHECKING:
    from fastretina import ops
    from fastretina.registrar import Registrar, register

__version__ = "0.1.0"
__all__ = [
    "Config",
    "EngineError",
    "FastretinaError",
    "InvalidInput",
    "Prepared",
    "Registrar",
    "Registration",
    "Transform",
    "__version__",
    "ops",
    "register",
]


def __getattr__(name: str) -> Any:
    if name in ("Registrar", "register"):
        return getattr(importlib.import_module("fastretina.registrar"), name)
    if name == "ops":
        return importlib.import_module("fastretina.ops")
    raise AttributeError(f"module 'fastretina' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
