"""The rooms of gpu_rooms.cpp on torch tensors: CUDA twins on a GPU, CPU twins in a CPU build. One stream, no copies."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

ROOMS = ("image", "detect", "describe", "match", "estimate", "refine")
PRECISIONS = {"f32": 0, "bf16": 1, "int8": 3}
KINDS = {"similarity": 1, "affine": 2, "homography": 3}


@dataclass
class Points:
    """Key points as the rooms write them; the count stays where they are."""

    xy: Tensor
    score: Tensor
    count: Tensor

    @classmethod
    def empty(cls, capacity: int, device: torch.device) -> Points:
        made = (torch.zeros(shape, device=device) for shape in ((capacity, 2), (capacity,)))
        return cls(*made, torch.zeros(1, dtype=torch.int32, device=device))


@dataclass
class Pairs:
    """Matches: rows in FIXED and in MOVING."""

    fixed: Tensor
    moving: Tensor
    score: Tensor
    count: Tensor

    @classmethod
    def empty(cls, capacity: int, device: torch.device) -> Pairs:
        rows = [torch.zeros(capacity, dtype=torch.int32, device=device) for _ in range(2)]
        return cls(*rows, torch.zeros(capacity, device=device), torch.zeros(1, dtype=torch.int32, device=device))


class Rooms:
    """Every call goes to torch's current stream, and returns at once. RuntimeError: what the room says."""

    def __init__(self, library: Path, device: torch.device) -> None:
        self._library, self._device = ctypes.CDLL(str(library)), device
        for name in ("rooms_error", "rooms_backend"):
            getattr(self._library, name).restype = ctypes.c_char_p
        for name in ("rooms_create", "rooms_pair_create"):
            getattr(self._library, name).restype = ctypes.c_void_p
        self._handle = ctypes.c_void_p(self._library.rooms_create())
        if not self._handle.value:
            raise RuntimeError(self._library.rooms_error().decode())
        self.backend = self._library.rooms_backend(self._handle).decode()
        if (self.backend == "cuda") != (device.type == "cuda"):
            raise RuntimeError(f"{library} has {self.backend} twins, the device is {device}")

    def missing(self, *rooms: str) -> list[str]:
        """Those of them that have no twin here."""
        return [room for room in rooms if not self._library.rooms_has(self._handle, ROOMS.index(room))]

    def pair(self, fixed: tuple[int, ...], moving: tuple[int, ...], top: int, multiple: int, dims: int) -> RoomsPair:
        """The first rung of two gray uint8 images (address, height, width, ...), for fastretina.device_pairs."""
        working_size = max(*fixed[1:3], *moving[1:3])
        sizes = (working_size, top, multiple, dims)
        handle = self._library.rooms_pair_create(
            ctypes.c_void_p(fixed[0]), *fixed[1:3], ctypes.c_void_p(moving[0]), *moving[1:3], *sizes
        )
        if handle is None:
            raise RuntimeError(self._library.rooms_error().decode())
        return RoomsPair(self, ctypes.c_void_p(handle), dims)

    def _call(self, room: str, *arguments: Any) -> None:
        stream = torch.cuda.current_stream(self._device).cuda_stream if self._device.type == "cuda" else None
        values = [_value(a, self._device) for a in arguments]
        if getattr(self._library, f"rooms_{room}")(self._handle, ctypes.c_void_p(stream), *values):
            raise RuntimeError(f"{room}: {self._library.rooms_error().decode()}")

    def image(self, gray: Tensor, plane: Tensor, mask: Tensor, contrast: Tensor) -> None:
        """(H, W) uint8 -> plane (H, W) float32, mask (H, W) uint8, contrast (1,)."""
        self._call("image", gray, *gray.shape, plane, mask, contrast)

    def detect(self, difference: Tensor, mask: Tensor | None, radius: int, threshold: float, out: Points) -> None:
        """(h, w) float32 -> the best points, as many as `out` holds."""
        height, width = difference.shape
        top = len(out.score)
        arguments = (radius, top, float(threshold), out.xy, out.score, out.count)
        self._call("detect", difference, height, width, mask, *arguments)

    def describe(self, dense: Tensor, points: Points, rows: Tensor) -> None:
        """(D, h, w) float32 -> unit rows (capacity, D)."""
        self._call("describe", dense, *dense.shape, points.xy, points.score, points.count, len(points.score), rows)

    def match(self, a: Tensor, a_count: Tensor, b: Tensor, b_count: Tensor, precision: str, out: Pairs) -> None:
        """Unit rows (capacity, D) of both -> mutual nearest neighbours."""
        arguments = (a, a_count, b, b_count, *a.shape, PRECISIONS[precision])
        self._call("match", *arguments, out.fixed, out.moving, out.score, out.count)

    def estimate(self, fixed: Tensor, moving: Tensor, count: Tensor, kind: str, draws: int, out: Tensor) -> None:
        """(N, 2) points of both -> `out`, as large as estimate_size() says. So confident that every draw is made."""
        self._call("estimate", fixed, moving, count, len(fixed), KINDS[kind], draws, 1 - 1e-12, out)

    def estimate_size(self) -> int:
        """Bytes of an estimate."""
        return int(self._library.rooms_estimate_size())

    def read_estimate(self, out: Tensor) -> tuple[list[float], bool, int, int]:
        """Parameters, whether one was found, inliers, hypotheses drawn. Waits for the device."""
        host, values = out.cpu().contiguous(), (ctypes.c_double * 15)()
        self._library.rooms_estimate_read(ctypes.c_void_p(host.data_ptr()), values)
        return list(values[:12]), bool(values[12]), int(values[13]), int(values[14])


class RoomsPair:
    """The methods of fastretina._core.DevicePair, without the Python package's core; it asks for no local field."""

    def __init__(self, rooms: Rooms, handle: ctypes.c_void_p, dims: int) -> None:
        self._rooms, self._handle, self._dims = rooms, handle, dims

    def _memory(self, image: int) -> list[int]:
        values = (ctypes.c_int64 * 5)()
        self._rooms._library.rooms_pair_memory(self._handle, image, values)
        return list(values)

    def plane(self, image: int) -> tuple[int, ...]:
        """Address, height, width."""
        return tuple(self._memory(image)[:3])

    @property
    def findings(self) -> tuple[int, ...]:
        """Address on the device, bytes."""
        return tuple(self._memory(0)[3:])

    def look(self, stream: int) -> None:
        """Queue what comes before the network on torch's current stream."""
        self._rooms._call("pair_queue", self._handle, self._dims, None)

    def solve(self, stream: int, fixed: Any, moving: Any) -> None:
        """Queue what comes after it; of each image: addresses of difference and descriptors, strides of these."""
        flat = [value for difference, rows, strides in (fixed, moving) for value in (difference, rows, *strides)]
        self._rooms._call("pair_queue", self._handle, self._dims, (ctypes.c_int64 * 10)(*flat))

    def read(self, findings: int) -> dict[str, Any]:
        """What a copy of the findings on the host says."""
        values = (ctypes.c_double * 16)()
        self._rooms._call("pair_read", self._handle, ctypes.c_void_p(findings), values)
        kind, found, confidence, strong = values[12:]
        return {"params": values[:12], "kind": int(kind), "found": bool(found), "confidence": confidence,
                "strong": bool(strong), "wants_field": False}  # fmt: skip


def _value(argument: Any, device: torch.device) -> object:
    if argument is None:
        return ctypes.c_void_p(None)
    if isinstance(argument, (ctypes.c_void_p, ctypes.Array)):
        return argument
    if isinstance(argument, Tensor):
        if argument.device.type != device.type or not argument.is_contiguous():
            raise RuntimeError(f"expected a contiguous tensor on {device}, got one on {argument.device}")
        return ctypes.c_void_p(argument.data_ptr())
    return ctypes.c_double(argument) if isinstance(argument, float) else ctypes.c_int(argument)
