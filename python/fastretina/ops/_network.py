"""The room network."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fastretina import engines
from fastretina.errors import InvalidInput
from fastretina.ops._call import local, thread_count
from fastretina.ops._device import Array, on_device, on_stream_of, refuse_stream

_MAX_ENGINES = 4  # kept a thread


class NetworkOutput(NamedTuple):
    """What the network says of a plane, at stride 4: cell i is centred on pixel 4i + 1.5."""

    class_maps: Array
    """(2, H/4, W/4) float32: logits of "vessel" (a key point) and "background"."""
    descriptors: Array
    """(D, H/4, W/4) float32, not normalised."""

    @property
    def difference(self) -> Array:
        """(H/4, W/4) float32: what ``upsample`` and ``detect`` take."""
        return self.class_maps[0] - self.class_maps[1]


def _engine(weights: str | Path, engine: str, precision: str, device: str, threads: int) -> engines.Engine:
    """The calling thread's engine of these keywords: what a run returns is valid until the next one."""
    key = (weights, engine, precision, device, thread_count(threads))
    kept = local.__dict__.setdefault("engines", {})
    if key not in kept:
        if len(kept) == _MAX_ENGINES:
            kept.pop(next(iter(kept)))
        manifest = engines.load_manifest(weights)
        kept[key] = engines.create(engine, manifest, precision=precision, device=device, threads=key[-1])
    return kept[key]


def network(
    plane: Array,
    *,
    weights: str | Path = "default",
    engine: str = "auto",
    precision: str = "auto",
    device: str = "auto",
    threads: int = 1,
    stream: Any = None,
) -> NetworkOutput:
    """(H, W) float32 plane of ``image``, sides multiples of 8 -> class maps and dense descriptors.

    RetinaCraquelureNet (Sindel, Maier & Christlein 2022), see fastretina/networks/retina_craquelure.py. The engine is
    kept for the thread's next call with the same keywords. Raises InvalidInput for a wrong plane or name, EngineError
    where the engine is missing or cannot run here. A plane in device memory needs an engine of the GPU ("auto": torch),
    whose answer are torch tensors there.
    """
    there = on_device("plane", plane)
    runner = _engine(weights, engine, precision, "cuda" if there and device == "auto" else device, threads)
    if there:
        return _network_on_device(plane, runner, stream)
    refuse_stream(stream)
    if not (isinstance(plane, np.ndarray) and plane.dtype == np.float32 and plane.ndim == 2 and plane.size > 0):
        raise InvalidInput(f"plane: expected a (H, W) float32 array, got {getattr(plane, 'dtype', type(plane))}")
    _check_multiple(plane, runner)
    maps, descriptors = runner.run(np.ascontiguousarray(plane))
    return NetworkOutput(maps.copy(), descriptors.copy())


def _check_multiple(plane: Array, runner: engines.Engine) -> None:
    if plane.shape[0] % runner.multiple or plane.shape[1] % runner.multiple:
        raise InvalidInput(
            f"plane: sides must be multiples of {runner.multiple}, got {tuple(plane.shape)}; remedy: ops.image pads"
        )


def _network_on_device(plane: Array, runner: engines.Engine, stream: Any) -> NetworkOutput:
    import torch

    run_on_device = getattr(runner, "run_on_device", None)
    if run_on_device is None:
        raise InvalidInput(f"plane: lies in device memory, but engine {runner.name} runs on {runner.device}")
    with on_stream_of(plane, stream), torch.inference_mode():
        planes = torch.as_tensor(plane, device=runner.device)
        if planes.ndim != 2 or planes.dtype != torch.float32 or planes.numel() == 0:
            raise InvalidInput(f"plane: expected a (H, W) float32 array, got {tuple(planes.shape)} {planes.dtype}")
        _check_multiple(planes, runner)
        maps, descriptors = run_on_device(planes[None, None])
        return NetworkOutput(maps[0].clone(), descriptors[0].clone())
