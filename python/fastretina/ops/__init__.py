"""The rooms, one call each, on NumPy arrays or on arrays in device memory.

``image -> network -> upsample -> nms -> describe -> match -> estimate -> refine -> warp -> quality``, and ``detect``
(upsample + nms fused). Every function runs the compiled core; ``threads`` (1 ... 1024, 0: one a usable core) never
changes a result. Threads may call at the same time, and so may a child of ``os.fork``: each has memory of its own.

An option that a room does not have, or of a wrong type, is InvalidInput, which names the nearest one.

**On the device.** Where a room's arrays lie in CUDA memory (``__cuda_array_interface__``, or ``__dlpack__``: torch,
CuPy, Numba, JAX, and what these functions return) its CUDA twin runs, and returns arrays there, ``DeviceArray``:
``torch.from_dlpack(array)`` and ``cupy.from_dlpack(array)`` take it over without a copy, ``array.to_host()`` copies it
to NumPy. All arrays of a call lie on the current device and are C-contiguous (``describe`` takes any strides). Work
goes to ``stream`` (a torch or CuPy stream, or a cudaStream_t as an int; default: the stream of the first array, for a
tensor torch's current one), after what the arrays' own streams have got. A stream must outlive the arrays made on it.
A call waits for its stream where its answer holds a number of the host's: how many points or matches there are, a
transform, a contrast; ``upsample``, ``describe`` and ``warp`` only queue work (CUDA may wait while it takes a transform
or a count from the host). Values are not looked at: NaN or rows of
another norm give an unspecified answer, not an error. EngineError where the core was built without FASTRETINA_CUDA.
``warp_points`` takes NumPy arrays only.
"""

from fastretina.ops._detect import Keypoints, describe, detect, nms, upsample
from fastretina.ops._device import DeviceArray
from fastretina.ops._estimate import Estimate, estimate, upgrade
from fastretina.ops._image import NetworkImage, image
from fastretina.ops._match import Matches, match, match_guided
from fastretina.ops._network import NetworkOutput, network
from fastretina.ops._quality import quality
from fastretina.ops._refine import (
    FieldRefinement,
    Refinement,
    Ridges,
    refine,
    refine_field,
    ridge_correlation,
    ridges,
)
from fastretina.ops._warp import Warped, warp, warp_points

__all__ = [
    "DeviceArray",
    "Estimate",
    "FieldRefinement",
    "Keypoints",
    "Matches",
    "NetworkImage",
    "NetworkOutput",
    "Refinement",
    "Ridges",
    "Warped",
    "describe",
    "detect",
    "estimate",
    "image",
    "match",
    "match_guided",
    "network",
    "nms",
    "quality",
    "refine",
    "refine_field",
    "ridge_correlation",
    "ridges",
    "upgrade",
    "upsample",
    "warp",
    "warp_points",
]
