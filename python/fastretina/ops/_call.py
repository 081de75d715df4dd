"""What every room's call shares: the thread's session, the core's refusals as InvalidInput, sizes."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable
from typing import Any

from fastretina import _core
from fastretina.config import MAX_THREADS, nearest, usable_cores
from fastretina.errors import InvalidInput

local = threading.local()  # .sessions, .device_sessions and .engines of the calling thread
_of_parent: list[dict[str, Any]] = []


def thread_count(threads: int) -> int:
    if isinstance(threads, bool) or not hasattr(threads, "__index__") or not 0 <= int(threads) <= MAX_THREADS:
        raise InvalidInput(f"threads: got {threads!r}; allowed: 1 ... {MAX_THREADS}, or 0 for one a usable core")
    return int(threads) or usable_cores()


def session(threads: int = 1) -> _core.Session:
    """The calling thread's session with that many threads; its scratch memory is kept."""
    count = thread_count(threads)
    sessions = local.__dict__.setdefault("sessions", {})
    if count not in sessions:
        sessions[count] = _core.Session(count)
    return sessions[count]


def _after_fork() -> None:
    """The parent's worker threads are not in the child: it starts with sessions and engines of its own."""
    _of_parent.append(dict(local.__dict__))  # never destroyed: an engine would wait for threads that are not there
    local.__dict__.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def run(room: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """A room of the core. It refuses unknown options and wrong types by a TypeError that lists C++ types."""
    try:
        return room(*arguments, **options)
    except TypeError:
        raise InvalidInput(_wrong_option(room, options)) from None


_TYPES: dict[str, tuple[str, Callable[[Any], bool]]] = {  # as the core's signatures name them
    "SupportsInt": ("an integer", lambda value: hasattr(value, "__index__")),
    "SupportsFloat": ("a number", lambda value: hasattr(value, "__float__") or hasattr(value, "__index__")),
    "bool": ("True or False", lambda value: isinstance(value, bool)),
    "str": ("a string", lambda value: isinstance(value, str)),
}


def _wrong_option(room: Callable[..., Any], options: dict[str, Any]) -> str:
    """What is wrong with these options, by the signature that the core gives its functions: ``name: type = value``."""
    keywords = (room.__doc__ or "").partition("\n")[0].partition("*, ")[2]
    types = dict(re.findall(r"(\w+): (?:typing\.)?(\w+)", keywords))
    for name, value in options.items():
        if name not in types:
            return f"{name}: unknown option; {nearest(name, list(types))}"
        word, fits = _TYPES[types[name]]
        if not fits(value):
            return f"{name}: got {value!r}, expected {word}"
    missing = [name for name in re.findall(r"(\w+): [^=,]*[,)]", keywords) if name not in options]
    if missing:
        return f"{missing[0]}: missing; required: {', '.join(missing)}"
    return f"options: got {options}, of which one is too large for the core"


def checked_size(argument: str, size: tuple[int, int]) -> tuple[int, int]:
    """A checked (width, height)."""
    try:
        width, height = size
    except (TypeError, ValueError):
        raise InvalidInput(f"{argument}: got {size!r}, expected (width, height)") from None
    for side in (width, height):
        if not hasattr(side, "__index__") or not 0 < int(side) < 1 << 28:
            raise InvalidInput(f"{argument}: got {size!r}, expected (width, height), integers in 1 ... 2^28 - 1")
    return int(width), int(height)
