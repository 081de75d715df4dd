"""Where a call runs: on the threads of its NumPy arrays, or on the stream of its arrays in device memory."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from fastretina import _core
from fastretina.errors import InvalidInput
from fastretina.ops._call import local, session, thread_count

Array = Any  # numpy.ndarray, or what on_device() says yes to
DeviceArray = _core.DeviceArray

_DEFAULT_STREAM = 1  # as __cuda_array_interface__ and DLPack write it; 0 means the same to CUDA
_DLPACK_CUDA = (2, 13)  # types of device: CUDA, CUDA's managed memory
_MAX_SESSIONS = 8  # of streams, kept a thread


def on_device(name: str, value: Any) -> bool:
    """Does ``value`` lie in CUDA memory? InvalidInput where it refuses to say (a tensor that requires a gradient)."""
    if value is None or isinstance(value, np.ndarray):
        return False
    if isinstance(value, DeviceArray) or _interface(name, value) is not None:
        return True
    where = getattr(value, "__dlpack_device__", None)
    return where is not None and where()[0] in _DLPACK_CUDA


def _interface(name: str, value: Any) -> dict[str, Any] | None:
    try:
        return getattr(value, "__cuda_array_interface__", None)
    except (RuntimeError, TypeError, ValueError) as error:
        raise InvalidInput(f"{name}: {error}") from None


def place(threads: int, stream: Any, **arrays: Any) -> list[Any]:
    """The session of a call and its arrays as the core takes them; an array may be None, or a tuple of arrays."""
    count = thread_count(threads)
    named = [
        (name, part) for name, value in arrays.items() for part in (value if isinstance(value, tuple) else [value])
    ]
    there = [part for name, part in named if on_device(name, part)]
    if not there:
        refuse_stream(stream)
        return [session(count), *arrays.values()]
    _core.need_device()
    number, owner = _number(stream) if stream is not None else _source(there[0])
    number = number or _DEFAULT_STREAM

    def moved(name: str, value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(moved(name, part) for part in value)
        return _taken(name, value, number) if on_device(name, value) else value

    return [_device_session(number, owner), *(moved(name, value) for name, value in arrays.items())]


def refuse_stream(stream: Any) -> None:
    """InvalidInput for a stream where all arrays are NumPy's."""
    if stream is not None:
        raise InvalidInput(f"stream: got {stream!r}, but no array lies in device memory; remedy: leave it out")


def _device_session(stream: int, owner: Any) -> _core.Session:
    """The calling thread's session of that stream; its scratch memory is kept."""
    kept = local.__dict__.setdefault("device_sessions", {})
    key = _core.current_device(), stream
    if key not in kept:
        if len(kept) == _MAX_SESSIONS:
            kept.pop(next(iter(kept)))
        kept[key] = _core.Session.on_device(stream, owner)
    return kept[key]


def _taken(name: str, value: Any, stream: int) -> Array:
    """The array without a copy. What its own stream has got comes before what ``stream`` gets from now on."""
    interface = None if isinstance(value, DeviceArray) else _interface(name, value)
    if isinstance(value, DeviceArray):
        array = value
    elif interface is not None:
        source = _source(value)[0] or stream
        shape, strides, (pointer, _) = interface["shape"], interface.get("strides"), interface["data"]
        array = DeviceArray(pointer, shape, strides, np.dtype(interface["typestr"]), source, value)
    else:
        array = DeviceArray.from_dlpack(value.__dlpack__(stream=stream), stream)
    if array.device != _core.current_device():
        raise InvalidInput(
            f"{name}: lies on CUDA device {array.device}, and the current one is {_core.current_device()}; "
            f"remedy: with torch.cuda.device({array.device}):"
        )
    _core.follow(stream, array.stream)
    return array


def _source(value: Any) -> tuple[int, Any]:
    """The stream that makes ``value``, 0 where it does not say, and an object that keeps that stream, or None."""
    if isinstance(value, DeviceArray):
        return value.stream, value.stream_owner
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(value, torch.Tensor):
        current = torch.cuda.current_stream(value.device)
        return current.cuda_stream, current
    interface = _interface("array", value) or {}
    return interface.get("stream") or 0, None


def _number(stream: Any) -> tuple[int, Any]:
    """A cudaStream_t, and an object that keeps it, or None."""
    for name in ("cuda_stream", "ptr"):  # torch's, CuPy's
        if hasattr(stream, name):
            return int(getattr(stream, name)), stream
    if hasattr(stream, "__cuda_stream__"):
        return int(stream.__cuda_stream__()[1]), stream
    if isinstance(stream, bool) or not hasattr(stream, "__index__") or int(stream) < 0:
        raise InvalidInput(f"stream: got {stream!r}, expected a torch or CuPy stream, or a cudaStream_t as an int")
    return int(stream), None


def on_stream_of(value: Any, stream: Any) -> AbstractContextManager[Any]:
    """torch's current stream is that of ``stream``, or of ``value``, in the context."""
    import torch

    number, _ = _number(stream) if stream is not None else _source(value)
    if number in (0, _DEFAULT_STREAM):
        return torch.cuda.stream(torch.cuda.default_stream())
    return torch.cuda.stream(torch.cuda.ExternalStream(number))
