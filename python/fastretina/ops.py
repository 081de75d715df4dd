"""The rooms, one call each, on NumPy arrays.

``image -> network -> upsample -> nms -> describe -> match -> estimate -> refine -> warp -> quality``, and ``detect``
(upsample + nms fused). Every function runs the compiled core; ``threads`` never changes a result.
"""

from __future__ import annotations

import threading

from fastretina import _core

_local = threading.local()


def _session(threads: int = 1) -> _core.Session:
    """The calling thread's session with that many threads (0: one per core); scratch memory is kept for the next call."""
    sessions = _local.__dict__.setdefault("sessions", {})
    if threads not in sessions:
        sessions[threads] = _core.Session(threads)
    return sessions[threads]
