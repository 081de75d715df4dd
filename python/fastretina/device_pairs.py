"""Pairs on a GPU: the first rung of the ladder as one CUDA graph a kind of pair, and a local field where one is wanted.
No GPU has run this file yet.

A :class:`Slot` holds what one pair of a kind needs: static images, the rooms (``csrc/pipeline_cuda.h``), the network's
work, and page-locked memory for what comes back; all of it is captured once and then replayed on the slot's own stream.
Several slots keep several pairs in flight.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastretina.errors import InvalidInput

MAX_SLOTS = 16  # kept; one of two 480-px planes takes some 30 MB
IN_FLIGHT = 6  # pairs whose work is queued while the next ones are being read
_ALIGNMENT = 64

_TYPES = {torch.uint8: 1, torch.uint16: 2, torch.float32: 4}  # bytes of an element
_EXPECTED = "an (H, W) or (H, W, 3) RGB array of uint8, uint16 or float32 in [0, 1], sides of 64 px or more"


def as_tensor(image: Any, argument: str, device: torch.device) -> Tensor:
    """A NumPy array, or an array on ``device``, as a tensor that shares its memory where it can.

    Of the latter, what CUDA's array interface or DLPack describes. InvalidInput: it is neither, or no image.
    """
    if isinstance(image, np.ndarray):
        native = image.dtype.isnative and image.dtype.name in ("uint8", "uint16", "float32")
        tensor = torch.from_numpy(np.require(image, requirements=["C", "A", "W"])) if native else None
    elif hasattr(image, "__cuda_array_interface__") and not isinstance(image, Tensor):
        tensor = torch.as_tensor(image, device=device)
    elif hasattr(image, "__dlpack__"):
        tensor = torch.utils.dlpack.from_dlpack(image)
        if tensor.device != device:
            raise InvalidInput(f"{argument}: lies on {tensor.device}; remedy: move it to {device}, or pass NumPy")
    else:
        raise InvalidInput(f"{argument}: got {type(image).__name__}, expected a NumPy array or one on {device}")
    shape = tuple(image.shape)
    if tensor is None or tensor.dtype not in _TYPES or not (len(shape) == 2 or (len(shape) == 3 and shape[2] == 3)):
        raise InvalidInput(f"{argument}: got {shape} {image.dtype}; expected {_EXPECTED}")
    if min(shape[:2]) < 64:
        raise InvalidInput(f"{argument}: got {shape[1]} x {shape[0]} px; the shorter side must have 64 px or more")
    return tensor.detach().contiguous()


@dataclass(frozen=True)
class Kind:
    """Of an image: what a graph depends on."""

    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def bytes(self) -> int:
        return int(np.prod(self.shape)) * _TYPES[self.dtype]


# Two images in device memory (address, height, width, channels, bytes of an element) -> an object with the methods of
# _core.DevicePair.
MakePair = Callable[[tuple[int, ...], tuple[int, ...]], Any]


class Slot:
    """One pair of two kinds at a time."""

    def __init__(self, engine: Any, make_pair: MakePair, kinds: tuple[Kind, Kind]) -> None:
        self.engine, self.busy = engine, False
        self.device = device = torch.device(engine.device)
        on_gpu = device.type == "cuda"
        self.stream: Any = torch.cuda.Stream(device) if on_gpu else None  # type: ignore[no-untyped-call]
        self._images = [torch.zeros(kind.bytes, dtype=torch.uint8, device=device) for kind in kinds]
        self._staged = [torch.zeros(kind.bytes, dtype=torch.uint8, pin_memory=on_gpu) for kind in kinds]
        described = [_described(memory, kind) for memory, kind in zip(self._images, kinds, strict=True)]
        with self._on_stream():
            self._pair = make_pair(*described)
        self._planes = self._network_planes()
        address, size = self._pair.findings
        self._findings = _tensor_at(address, size, torch.uint8, device)
        self._memory = torch.zeros(size + _ALIGNMENT, dtype=torch.uint8, pin_memory=on_gpu)
        self._found = self._memory[-self._memory.data_ptr() % _ALIGNMENT :][:size]
        self._done: Any = torch.cuda.Event() if on_gpu else None  # type: ignore[no-untyped-call]
        self._graph: torch.cuda.CUDAGraph | None = None
        self._maps: Any = None  # what the graph's network writes; held, since the graph knows addresses only

    def start(self, sources: list[Tensor]) -> None:
        """Queue everything for these images: what they are made by on the current stream comes first."""
        if self.stream is not None:
            self.stream.wait_stream(torch.cuda.current_stream(self.device))
        with self._on_stream():
            for source, memory, staged in zip(sources, self._images, self._staged, strict=True):
                flat = source.reshape(-1).view(torch.uint8)
                if source.device.type == "cpu":  # page-locked, so that the transfer overlaps with other pairs' work
                    flat = staged.copy_(flat)
                else:
                    source.record_stream(self.stream)
                memory.copy_(flat, non_blocking=True)
        self.replay()
        self.busy = True

    def replay(self) -> None:
        """Queue the work on the images that lie there, and what was found back to the host."""
        with self._on_stream(), torch.inference_mode():
            if self.stream is None:
                self._queue()
            else:
                if self._graph is None:
                    self._graph = self._capture()
                self._graph.replay()
            self._bring()

    def finish(self) -> dict[str, Any]:
        """Wait, and read what was found: see csrc/bindings/bind_device_pair.cpp."""
        self.drop()
        found: dict[str, Any] = self._pair.read(self._found.data_ptr())
        if found["wants_field"]:
            with self._on_stream():
                self._pair.deform(self._address_of_stream)
                self._bring()
            self.drop()
            found["field"] = self._pair.read_field(self._found.data_ptr())
        return found

    def drop(self) -> None:
        """Wait, and forget what was found."""
        self.busy = False
        if self._done is not None:
            self._done.synchronize()

    def _on_stream(self) -> AbstractContextManager[Any]:
        return nullcontext() if self.stream is None else torch.cuda.stream(self.stream)

    @property
    def _address_of_stream(self) -> int:
        return 0 if self.stream is None else int(self.stream.cuda_stream)

    def _bring(self) -> None:
        """Queue what was found back to the host."""
        self._found.copy_(self._findings, non_blocking=True)
        if self._done is not None:
            self._done.record(self.stream)

    def _queue(self) -> None:
        stream = self._address_of_stream
        self._pair.look(stream)
        self._maps = [self._answers(planes) for planes in self._planes]
        answers = [answer for answers in self._maps for answer in answers]
        self._pair.solve(stream, *(_addresses(*answer) for answer in answers))

    def _answers(self, planes: Tensor) -> list[tuple[Tensor, Tensor]]:
        maps, descriptors = self.engine.run_on_device(planes)
        difference = (maps[:, 0] - maps[:, 1]).contiguous()
        return list(zip(difference, descriptors, strict=True))

    def _capture(self) -> torch.cuda.CUDAGraph:
        self._queue()  # the rooms, cuDNN and the allocator take their memory
        torch.cuda.current_stream(self.device).synchronize()
        graph = torch.cuda.CUDAGraph()
        # thread_local: other threads may use the GPU meanwhile
        with torch.cuda.graph(graph, stream=self.stream, capture_error_mode="thread_local"):
            self._queue()
        return graph

    def _network_planes(self) -> list[Tensor]:
        """Both planes as one batch where they are of a size and the engine takes two, else one after the other."""
        (address, height, width), (other, *size) = self._pair.plane(0), self._pair.plane(1)
        if size == [height, width] and getattr(self.engine, "max_batch", 2) >= 2:
            both = _tensor_at(address, 2 * height * width, torch.float32, self.device)
            return [both.view(2, 1, height, width)]
        return [
            _tensor_at(at, h * w, torch.float32, self.device).view(1, 1, h, w)
            for at, h, w in ((address, height, width), (other, *size))
        ]


class DevicePairs:
    """Pairs on the device of an engine that has ``run_on_device``."""

    def __init__(self, engine: Any, make_pair: MakePair) -> None:
        self._engine, self._make_pair, self._device = engine, make_pair, torch.device(engine.device)
        self._slots: dict[tuple[Kind, Kind], list[Slot]] = {}

    def start(self, fixed: Any, moving: Any) -> Slot:
        """Queue a pair: NumPy arrays, or arrays on the device, as ``Registrar.register`` takes them."""
        sources = [as_tensor(fixed, "fixed", self._device), as_tensor(moving, "moving", self._device)]
        first, second = (Kind(tuple(source.shape), source.dtype) for source in sources)
        slot = self._free_slot((first, second))
        slot.start(sources)
        return slot

    def on_host(self, image: Any, argument: str) -> np.ndarray[Any, Any]:
        """A NumPy array as it is, a copy of one on the device."""
        return image if isinstance(image, np.ndarray) else as_tensor(image, argument, self._device).cpu().numpy()

    def _free_slot(self, kinds: tuple[Kind, Kind]) -> Slot:
        slots = self._slots.pop(kinds, [])
        self._slots[kinds] = slots  # last: the kind used most recently
        free = next((slot for slot in slots if not slot.busy), None)
        if free is None:
            self._make_room()
            free = Slot(self._engine, self._make_pair, kinds)
            slots.append(free)
        return free

    def _make_room(self) -> None:
        count = sum(map(len, self._slots.values()))
        for slots in self._slots.values():
            for slot in [slot for slot in slots if not slot.busy]:
                if count < MAX_SLOTS:
                    return
                slots.remove(slot)
                count -= 1


def _described(memory: Tensor, kind: Kind) -> tuple[int, int, int, int, int]:
    height, width, channels = (*kind.shape, 1)[:3]
    return memory.data_ptr(), height, width, channels, _TYPES[kind.dtype]


def _addresses(difference: Tensor, descriptors: Tensor) -> tuple[int, int, tuple[int, ...]]:
    return difference.data_ptr(), descriptors.data_ptr(), tuple(descriptors.stride())


class _Memory:
    """Somebody's device memory, for torch."""

    def __init__(self, address: int, count: int, typestr: str) -> None:
        self.__cuda_array_interface__ = {
            "shape": (count,),
            "typestr": typestr,
            "data": (address, False),
            "version": 3,
        }


def _tensor_at(address: int, count: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """``count`` elements there, which the caller keeps. A device that is the CPU is the emulator's (docs/CUDA.md)."""
    if device.type == "cuda":
        return torch.as_tensor(_Memory(address, count, "|u1" if dtype == torch.uint8 else "<f4"), device=device)
    raw = (ctypes.c_uint8 * (count * dtype.itemsize)).from_address(address)
    return torch.frombuffer(raw, dtype=dtype)
