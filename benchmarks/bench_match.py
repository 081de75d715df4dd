"""Mutual nearest neighbours of unit descriptors: the room against what people use, one thread, one process.

    python benchmarks/bench_match.py [--repeat 10] [--quick] [--json FILE]

Half of the rows have a noisy copy in the other set. Every candidate gets the same two float32 arrays and returns the
mutual pairs; CPU time, candidates interleaved.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_variable] = "1"  # before NumPy, torch and faiss are imported

import numpy as np  # noqa: E402
from fastretina import _core, ops  # noqa: E402
from fastretina.transform import Transform  # noqa: E402
from harness import measure, table  # noqa: E402

CASES = ((4000, 128), (4000, 256), (8000, 512))


def descriptors(n, dims, noise=0.8, seed=0):
    rng = np.random.default_rng(seed)

    def unit(x):
        return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)

    fixed, moving = unit(rng.standard_normal((n, dims))), unit(rng.standard_normal((n, dims)))
    at = rng.permutation(n)[: n // 2]
    moving[: n // 2] = unit(fixed[at] + noise / np.sqrt(dims) * rng.standard_normal((n // 2, dims)))
    return fixed, moving


def mutual(moving_of, fixed_of):
    rows = np.arange(len(moving_of))
    keep = fixed_of[moving_of] == rows
    return np.stack([rows[keep], moving_of[keep]], axis=1)


def ours(fixed, moving, precision):
    found = ops.match(fixed, moving, precision=precision)
    order = np.argsort(found.fixed)
    return np.stack([found.fixed[order], found.moving[order]], axis=1)


def torch_mm(fixed, moving, dtype=None):
    import torch

    a, b = (torch.from_numpy(x).to(dtype or torch.float32) for x in (fixed, moving))
    score = a @ b.T
    return mutual(score.max(dim=1).indices.numpy(), score.max(dim=0).indices.numpy())


def kornia_mnn(fixed, moving):
    import torch
    from kornia.feature import match_mnn

    return match_mnn(torch.from_numpy(fixed), torch.from_numpy(moving))[1].numpy()


def faiss_flat(fixed, moving):
    import faiss

    def nearest(base, queries):
        index = faiss.IndexFlatIP(base.shape[1])
        index.add(base)
        return index.search(queries, 1)[1][:, 0]

    return mutual(nearest(moving, fixed), nearest(fixed, moving))


def opencv_brute_force(fixed, moving):
    import cv2

    found = cv2.BFMatcher(cv2.NORM_L2, crossCheck=True).match(fixed, moving)
    return np.array([(m.queryIdx, m.trainIdx) for m in found])


def openvino_topk(n, dims, precision):
    import openvino as ov
    from openvino import opset13 as op

    a, b = (op.parameter([n, dims], np.float32) for _ in range(2))
    score = op.matmul(a, b, False, True)
    best = [op.topk(score, op.constant(1), axis, "max", "none").output(1) for axis in (1, 0)]
    options = {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": precision, "NUM_STREAMS": "1"}
    request = ov.Core().compile_model(ov.Model(best, [a, b]), "CPU", options).create_infer_request()

    def run(fixed, moving):
        found = request.infer({0: fixed, 1: moving}, share_inputs=True)
        return mutual(found[0][:, 0], found[1][0])

    return run


def candidates(n, dims, slow):
    """name -> function of the two arrays."""
    import faiss
    import torch

    torch.set_num_threads(1)
    faiss.omp_set_num_threads(1)
    found = {f"match {p}": lambda f, m, p=p: ours(f, m, p) for p in ("f32", "bf16", "i8")}
    found |= {
        "OpenVINO MatMul + TopK f32": openvino_topk(n, dims, "f32"),
        "OpenVINO MatMul + TopK bf16": openvino_topk(n, dims, "bf16"),
        "torch mm + max f32": torch_mm,
        "torch mm + max bf16": lambda f, m: torch_mm(f, m, torch.bfloat16),
        "kornia match_mnn": kornia_mnn,
        "faiss IndexFlatIP, both ways": faiss_flat,
    }
    if slow:
        found["OpenCV BFMatcher crossCheck"] = opencv_brute_force
    return found


def compare(n, dims, repeat, slow):
    import cv2

    cv2.setNumThreads(1)
    fixed, moving = descriptors(n, dims)
    functions = candidates(n, dims, slow)
    pairs = {name: set(map(tuple, function(fixed, moving))) for name, function in functions.items()}
    times = measure({name: lambda f=f: f(fixed, moving) for name, f in functions.items()}, repeat)
    truth, base = pairs["match f32"], times["match f32"]
    return [
        {
            "case": f"{n} x {n} x {dims}",
            "candidate": name,
            "min ms": times[name]["min"],
            "median ms": times[name]["median"],
            "x match f32 (min)": times[name]["min"] / base["min"],
            "pairs": len(pairs[name]),
            "Jaccard": len(pairs[name] & truth) / len(pairs[name] | truth),
        }
        for name in functions
    ]


def guided(n, dims, repeat):
    """Points of a 640-px frame that moved by a small rotation; no peer offers this."""
    fixed, moving = descriptors(n, dims)
    points = np.random.default_rng(1).uniform(0, 640, (n, 2)).astype(np.float32)
    turn = Transform("similarity", [[0.99, -0.05, 12], [0.05, 0.99, -20], [0, 0, 1]])
    moved = np.ascontiguousarray(turn.inverse(points), np.float32)
    times = measure({"guided": lambda: ops.match_guided(fixed, moving, points, moved, turn)}, repeat)["guided"]
    return {"case": f"{n} x {n} x {dims}", "min ms": times["min"], "median ms": times["median"]}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeat", type=int, default=10)
    parser.add_argument("--quick", action="store_true", help="only the first two cases")
    parser.add_argument("--slow", action="store_true", help="OpenCV's brute force too (seconds a call)")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    rows = []
    for n, dims in CASES[:2] if arguments.quick else CASES:
        rows += compare(n, dims, arguments.repeat, arguments.slow)
    print(f"SIMD level: {_core.simd_level()}\n{table(rows)}")
    guided_rows = [guided(n, 128, 5 * arguments.repeat) for n in (1000, 4000)]
    print(f"\nmatch_guided\n{table(guided_rows)}")
    if arguments.json:
        arguments.json.write_text(json.dumps({"match": rows, "match_guided": guided_rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
