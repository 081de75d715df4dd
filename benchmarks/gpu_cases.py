"""The cases of gpu_suite.py: what is timed beside which peers, in one process, and what it should come to.

    python benchmarks/gpu_cases.py CASE --rooms LIBRARY --json FILE [--device cuda|cpu] [--tiny]

`--tiny --device cpu` is the dry run: the same code on small inputs, to see that it runs and that the answers agree.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from fastretina.engines import load_manifest
from fastretina.engines.torch_engine import TorchEngine
from fastretina.errors import EngineError
from gpu_pair import EagerPair, HostPairs, OurPairs, photographs
from gpu_peers import RADIUS, torch_detect, torch_match
from gpu_rooms import Pairs, Points, Rooms
from gpu_timing import graphed, measure, peaks
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class Setup:
    """Where a case runs, and how large."""

    device: torch.device
    tiny: bool
    rooms: Rooms

    def size(self, full: int, tiny: int) -> int:
        return tiny if self.tiny else full


@dataclass(frozen=True)
class Target:
    """A bound of `ours`, by its least time: a ratio to a peer, or microseconds."""

    ours: str
    at_most_us: float | None = None
    peer: str | None = None
    at_least: float | None = None
    remark: str = ""


@dataclass
class Prepared:
    """What to time by name, how far the answers agree (1: entirely; below `agree_at_least` the case fails), facts."""

    candidates: dict[str, Callable[[], Any]]
    agreement: float
    agree_at_least: float
    targets: tuple[Target, ...] = ()
    facts: dict[str, Any] = field(default_factory=dict)
    units: int = 1  # things a call does, for a rate


class Skipped(Exception):  # noqa: N818
    """A case that cannot run here, and why. No failure."""


def need(setup: Setup, *rooms: str) -> None:
    missing = setup.rooms.missing(*rooms)
    if missing:
        raise Skipped(f"no {setup.rooms.backend} twin of {', '.join(missing)}")


def variants(setup: Setup, function: Callable[..., Any], *inputs: Tensor) -> dict[str, Callable[[], Any]]:
    """A peer as torch runs it: eager, compiled, and on a GPU in a CUDA graph."""
    mode: dict[str, Any] = {"backend": "aot_eager"} if setup.tiny else {"mode": "max-autotune"}
    compiled = torch.compile(function, **mode)
    found = {"torch eager": lambda: function(*inputs), "torch.compile max-autotune": lambda: compiled(*inputs)}
    if setup.device.type == "cuda":
        found["torch eager, CUDA graph"] = graphed(lambda: function(*inputs))
    return found


def shared(ours: Tensor, theirs: Tensor) -> float:
    """Share of rows that both have."""
    a, b = ({tuple(row) for row in rows.cpu().tolist()} for rows in (ours, theirs))
    return len(a & b) / max(len(a), len(b), 1)


def detect(setup: Setup) -> Prepared:
    """Upsample, NMS and the 4000 best of two maps, as detect does it in one go."""
    need(setup, "detect")
    side, top = setup.size(192, 40), setup.size(4000, 60)
    generator = torch.Generator().manual_seed(1)
    maps = torch.randn(2, 1, side, side, generator=generator).to(setup.device)
    points = [Points.empty(top, setup.device) for _ in maps]

    def ours() -> None:
        for difference, out in zip(maps[:, 0], points, strict=True):
            setup.rooms.detect(difference, None, RADIUS, -1e9, out)

    theirs = variants(setup, lambda m: torch_detect(m, top), maps)
    candidates: dict[str, Callable[[], Any]] = {"fastretina": ours}
    if setup.device.type == "cuda":
        candidates["fastretina, CUDA graph"] = graphed(ours)
    candidates |= theirs
    try:
        from kornia.geometry.subpix import nms2d

        candidates["torch + kornia nms2d"] = lambda: torch_detect(maps, top, nms2d)
    except ImportError:
        pass
    ours()
    expected, _ = torch_detect(maps, top)
    agreement = min(shared(out.xy, xy) for out, xy in zip(points, expected, strict=True))
    targets = tuple(
        Target("fastretina", peer=peer, at_least=ratio)
        for peer, ratio in (("torch eager", 8.0), ("torch.compile max-autotune", 3.0))
    )
    return Prepared(candidates, agreement, 0.99, targets, {"maps": f"2 x {4 * side}^2", "best": top}, units=2)


def match(setup: Setup) -> Prepared:
    """Mutual nearest neighbours of two sets of unit rows, beside torch's product and two maxima."""
    need(setup, "match")
    count, dims = setup.size(8000, 150), setup.size(512, 64)
    generator = torch.Generator().manual_seed(2)
    a = functional.normalize(torch.randn(count, dims, generator=generator), dim=1)
    b = functional.normalize(a[torch.randperm(count, generator=generator)] + 0.05 * torch.randn(count, dims), dim=1)
    a, b = a.to(setup.device), b.to(setup.device)
    low = (a.bfloat16(), b.bfloat16())
    full = torch.full((1,), count, dtype=torch.int32, device=setup.device)
    out = {precision: Pairs.empty(count, setup.device) for precision in ("bf16", "int8", "f32")}

    def ours(precision: str) -> None:
        setup.rooms.match(a, full, b, full, precision, out[precision])

    candidates: dict[str, Callable[[], Any]] = {
        f"fastretina {precision}": (lambda precision=precision: ours(precision)) for precision in out
    }
    candidates |= {f"{name}, bf16": call for name, call in variants(setup, torch_match, *low).items()}
    expected = torch_match(*low)
    agreement = 1.0
    for precision, found in out.items():
        ours(precision)
        n = int(found.count)
        rows = torch.stack([found.fixed[:n], found.moving[:n]], 1)
        agreement = min(agreement, shared(rows, expected[expected[:, 1] >= 0]))
    targets = (
        Target("fastretina bf16", peer="torch eager, bf16", at_least=2.0),
        Target("fastretina bf16", at_most_us=166.0),
    )
    return Prepared(candidates, agreement, 0.97, targets, {"rows": count, "dims": dims})


def estimate(setup: Setup) -> Prepared:
    """RANSAC with so few inliers that every draw is made."""
    need(setup, "estimate")
    count, draws = setup.size(4000, 300), setup.size(2_000_000, 3000)
    inliers = count // setup.size(50, 3)  # at 1 in 50 no draw is too many for this confidence
    generator = torch.Generator().manual_seed(3)
    moving = torch.rand(count, 2, generator=generator) * 768
    turn = torch.tensor([[0.98, -0.17], [0.17, 0.98]])
    fixed = moving @ turn.T + torch.tensor([20.0, -31.0])
    fixed[inliers:] = torch.rand(count - inliers, 2, generator=generator) * 768
    fixed, moving = fixed.to(setup.device), moving.to(setup.device)
    full = torch.full((1,), count, dtype=torch.int32, device=setup.device)
    out = torch.zeros(setup.rooms.estimate_size(), dtype=torch.uint8, device=setup.device)

    def ours() -> None:
        setup.rooms.estimate(fixed, moving, full, "homography", draws, out)

    ours()
    params, found, agreeing, drawn = setup.rooms.read_estimate(out)
    matrix = torch.tensor(params[:9], dtype=torch.float64).reshape(3, 3)
    corners = torch.tensor([[0.0, 0, 1], [767, 0, 1], [0, 767, 1], [767, 767, 1]], dtype=torch.float64)
    mapped = corners @ matrix.T
    truth = corners[:, :2] @ turn.double().T + torch.tensor([20.0, -31.0], dtype=torch.float64)
    off = float((mapped[:, :2] / mapped[:, 2:] - truth).abs().max())
    facts = {"pairs": count, "true inliers": inliers, "draws": drawn, "inliers": agreeing, "corner error, px": off}
    targets = (Target("fastretina", at_most_us=1000.0, remark=f"{drawn} hypotheses drawn"),)
    return Prepared({"fastretina": ours}, float(found and off < 3), 1.0, targets, facts)


def module_of(setup: Setup, dtype: torch.dtype) -> torch.nn.Module:
    """The default network as a module."""
    return load_manifest("default").torch_network().eval().to(setup.device, dtype)


def engine(setup: Setup) -> Any:
    try:
        return TorchEngine(load_manifest("default"), device=str(setup.device), threads=1)
    except EngineError as error:
        raise Skipped(str(error)) from error


def network(setup: Setup) -> Prepared:
    """The network in our engine beside the module in torch, and the floor that its work sets."""
    batch, side = setup.size(8, 2), setup.size(768, 96)
    ours = engine(setup)
    module = module_of(setup, torch.bfloat16)
    planes = torch.randn(batch, 1, side, side, generator=torch.Generator().manual_seed(4)).clamp(-4, 4).to(setup.device)
    low = planes.bfloat16().contiguous(memory_format=torch.channels_last)
    candidates: dict[str, Callable[[], Any]] = {f"fastretina {ours.precision}": lambda: ours.run_on_device(planes)}
    candidates |= {f"{name}, bf16": call for name, call in variants(setup, module, low).items()}
    peak = peaks(setup.device, setup.tiny)
    floor_us = floor(module, low, peak)
    expected = module_of(setup, torch.float32)(planes)
    error = max(float((got - want).square().mean().sqrt() / want.square().mean().sqrt())
                for got, want in zip(ours.run_on_device(planes), expected, strict=True))  # fmt: skip
    facts = {"planes": f"{batch} x {side}^2", "floor, us": floor_us, "relative error": error, **peak}
    remark = "half of the floor set by FLOPs and bytes"
    targets = (Target(f"fastretina {ours.precision}", at_most_us=2 * floor_us, remark=remark),)
    return Prepared(candidates, 1 - error, 0.98, targets, facts, units=batch)


def floor(module: torch.nn.Module, planes: Tensor, peak: dict[str, float]) -> float:
    """Microseconds that no implementation layer by layer can beat: each convolution's FLOPs or its bytes."""
    seconds = []

    def count(layer: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        flops = 2 * output.numel() * layer.weight[0].numel()
        size = sum(t.numel() * t.element_size() for t in (inputs[0], output, layer.weight))
        seconds.append(max(flops / peak["peak FLOP/s"], size / peak["peak bytes/s"]))

    hooks = [m.register_forward_hook(count) for m in module.modules() if isinstance(m, torch.nn.Conv2d)]
    module(planes)
    for hook in hooks:
        hook.remove()
    return 1e6 * sum(seconds)


def pair_of(setup: Setup, pairs: int) -> Prepared:
    side, top = setup.size(768, 256), setup.size(1000, 120)
    fixed, moving, truth = photographs(side, pairs, setup.device)
    if setup.device.type == "cuda":
        ours: OurPairs | HostPairs = OurPairs(setup.rooms, engine(setup), fixed, moving, top)
    else:
        ours = HostPairs(fixed, moving, top)
    worst = max(ours.error_px(i, truth) for i in range(pairs))
    eager = EagerPair(module_of(setup, torch.bfloat16), top)
    peer = "torch eager, bf16"
    candidates: dict[str, Callable[[], Any]] = {
        "fastretina": ours.run,
        peer: lambda: [eager.register(f, m) for f, m in zip(fixed, moving, strict=True)],
    }
    remark = "images on the device, image to quality; the peer ends with estimate"
    if pairs > 1:
        targets = (Target("fastretina", 1e6 * pairs / 4000, remark="4000 pairs a second; " + remark),)
    else:
        targets = (Target("fastretina", 700.0, remark=remark), Target("fastretina", None, peer, 4.0, remark))
    facts = {"pairs": pairs, "side": side, "key points": top, "corner error, px": worst}
    return Prepared(candidates, float(worst < 5), 1.0, targets, facts, units=pairs)


def pair(setup: Setup) -> Prepared:
    """A pair on the device, image to quality, as one CUDA graph."""
    return pair_of(setup, 1)


def batch(setup: Setup) -> Prepared:
    """The same for many pairs, a graph and a stream each."""
    return pair_of(setup, setup.size(16, 2))


CASES: dict[str, Callable[[Setup], Prepared]] = {
    "detect": detect,
    "match": match,
    "estimate": estimate,
    "network": network,
    "pair": pair,
    "batch": batch,
}


@torch.inference_mode()
def run(name: str, setup: Setup, repeat: int) -> dict[str, Any]:
    """One case as plain values: status "ok", "failed" (answers that disagree) or "skipped"."""
    facts = {"case": name, "what": str(CASES[name].__doc__), "device": str(setup.device)}
    try:
        prepared = CASES[name](setup)
    except Skipped as reason:
        return {**facts, "status": "skipped", "reason": str(reason)}
    agrees = prepared.agreement >= prepared.agree_at_least
    times = measure(prepared.candidates, setup.device, repeat)
    return {
        **facts,
        "status": "ok" if agrees else "failed",
        "agreement": prepared.agreement,
        "agree_at_least": prepared.agree_at_least,
        "facts": prepared.facts,
        "units": prepared.units,
        "times_us": times,
        "targets": [] if setup.tiny else [judged(target, times) for target in prepared.targets],
    }


def judged(target: Target, times: dict[str, dict[str, float]]) -> dict[str, Any]:
    ours = times[target.ours]["min"]
    if target.peer is None:
        got, wanted, met = ours, f"<= {target.at_most_us:g} us", ours <= float(target.at_most_us or 0)
    else:
        got = times[target.peer]["min"] / ours
        wanted, met = f">= {target.at_least:g} x faster than {target.peer}", got >= float(target.at_least or 0)
    return {
        "ours": target.ours,
        "wanted": wanted,
        "got": got,
        "met": met,
        "remark": target.remark,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("case", choices=CASES)
    parser.add_argument("--rooms", type=Path, required=True, help="the library built from gpu_rooms.cpp")
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--repeat", type=int, default=100)
    parser.add_argument("--tiny", action="store_true")
    args = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    device = torch.device(args.device, 0) if args.device == "cuda" else torch.device(args.device)
    found = run(args.case, Setup(device, args.tiny, Rooms(args.rooms, device)), args.repeat)
    args.json.with_suffix(".partial").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    args.json.with_suffix(".partial").replace(args.json)
    print(json.dumps(found))
    return 1 if found["status"] == "failed" else 0


if __name__ == "__main__":
    raise SystemExit(main())
