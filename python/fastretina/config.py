"""The keywords of ``Registrar``, checked: a misspelt name or an impossible value is an error, never ignored."""

from __future__ import annotations

import difflib
import os
from dataclasses import dataclass, fields
from typing import Any

from fastretina.engines import ENGINES
from fastretina.errors import InvalidInput
from fastretina.methods import METHODS
from fastretina.transform import SINGLE_KINDS

CHOICES: dict[str, tuple[str, ...]] = {
    "method": tuple(METHODS),
    "engine": ("auto", *ENGINES),
    "backend": ("auto", "native", "torch"),
    "precision": ("auto", "f32", "bf16", "f16", "int8"),
    "transform": ("auto", *SINGLE_KINDS[1:], "dense"),
    "input": ("image", "vessels"),
    "prune": ("auto", "on", "off"),
    "translate": ("auto", "off", "cf-octa", "octa-cf", "cf-fa", "fa-cf"),
}
MIN_SIDE_PX = 64  # of an image, and of the working size
MAX_THREADS = 1024


@dataclass(frozen=True)
class Config:
    """How to register. None: the room's own default (its C++ ``Options``) or the network's manifest decides."""

    method: str = "retina"
    weights: str = "default"  # the name of a shipped weight set, or a manifest's path
    engine: str = "auto"
    backend: str = "auto"
    device: str = "auto"  # "auto", "cpu", "cuda" or "cuda:N"
    precision: str = "auto"
    threads: int | None = None  # None: one a core that this process may use
    max_keypoints: int | None = None
    working_size: int | None = None  # px, longer side at which the network sees an image
    transform: str = "auto"
    input: str = "image"  # what methods by key points see: the image, or the map of its vessels; see methods/vessels.py
    prune: str = "auto"  # matches that their neighbours do not confirm; of the methods by key points
    translate: str = "auto"  # one modality into the look of another, for methods by key points; see translation.py
    seed: int = 0

    def __post_init__(self) -> None:
        for field in fields(self):
            _check(field.name, getattr(self, field.name))
        takes = METHODS[self.method].takes
        for field in fields(self):
            if field.name not in takes and getattr(self, field.name) != field.default:
                got = f"{field.name}: got {getattr(self, field.name)!r}"
                raise InvalidInput(f"{got}, which means nothing to method {self.method!r}; it takes {', '.join(takes)}")

    @classmethod
    def from_keywords(cls, **keywords: Any) -> Config:
        """The configuration of these keywords. InvalidInput names an unknown keyword's nearest valid one."""
        names = [f.name for f in fields(cls)]
        for name in keywords:
            if name not in names:
                raise InvalidInput(f"{name}: unknown keyword; {nearest(name, names)}")
        return cls(**keywords)


def nearest(name: str, names: list[str]) -> str:
    """A half sentence: the closest valid name if one is close, and all of them."""
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"{hint}allowed: {', '.join(names)}"


def _check(name: str, value: Any) -> None:
    if name in CHOICES:
        if not isinstance(value, str) or value not in CHOICES[name]:
            raise InvalidInput(f"{name}: got {value!r}; {nearest(str(value), list(CHOICES[name]))}")
    elif name == "weights":
        if not value or not (isinstance(value, str) or hasattr(value, "__fspath__")):
            raise InvalidInput(f"weights: got {value!r}; allowed: a name or the path of a manifest")
    elif name == "device":
        index = value.removeprefix("cuda:") if isinstance(value, str) else ""
        if value not in ("auto", "cpu", "cuda") and (index == value or not index.isdecimal()):
            raise InvalidInput(f"device: got {value!r}; allowed: auto, cpu, cuda, cuda:N")
    else:
        _check_integer(name, value)


_RANGES = {
    "threads": (1, MAX_THREADS),
    "max_keypoints": (16, 65536),
    "working_size": (MIN_SIDE_PX, 8192),
    "seed": (0, 2**63 - 1),
}


def _check_integer(name: str, value: Any) -> None:
    low, high = _RANGES[name]
    if value is None and name != "seed":
        return
    # bool is an int to Python, numpy integers are not; what counts here is __index__
    if isinstance(value, bool) or not hasattr(value, "__index__") or not low <= int(value) <= high:
        allowed = f"an integer in {low} ... {high}" + ("" if name == "seed" else ", or None")
        raise InvalidInput(f"{name}: got {value!r}; allowed: {allowed}")


def usable_cores() -> int:
    """The cores that this process may run on, of which affinity masks make fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
