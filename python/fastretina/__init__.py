"""Register two retinal images of any modality, fast, and know whether to trust the answer.

>>> result = fastretina.register(fixed, moving)  # doctest: +SKIP

``Registrar`` keeps the network for many pairs; ``ops`` holds every room on its own. Importing this package loads
neither an inference engine nor torch. Argument order is FIXED, MOVING everywhere.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from fastretina.config import Config
from fastretina.errors import EngineError, FastretinaError, InvalidInput
from fastretina.registrar import Registrar, register
from fastretina.transform import Transform
from fastretina.types import Prepared, Registration

if TYPE_CHECKING:
    from fastretina import ops

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
    if name == "ops":  # needs the compiled core, which the torch path does without
        return importlib.import_module("fastretina.ops")
    raise AttributeError(f"module 'fastretina' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
