"""Robust homographies: the room against OpenCV's USAC family and PoseLib, one thread, one process, CPU time.

    python benchmarks/bench_estimate.py [--seeds 20] [--quick] [--json FILE]

Scenes: generic homographies of a 768-px frame (each corner moved by up to 15 % of it along both axes), uniform points,
noise of 1 px on the inliers, outliers uniform over the frame. Everybody gets the same arrays, a threshold of 3 px, a
confidence of .999 and up to a million iterations. Success: mean corner error below 5 px. Sorted: pairs in the order
of a score that is N(1, 1) for inliers and N(0, 1) for outliers, best first; otherwise their order says nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
from pathlib import Path

for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_variable] = "1"  # before NumPy is imported

import cv2  # noqa: E402
import numpy as np  # noqa: E402
import poselib  # noqa: E402
from fastretina import ops  # noqa: E402
from harness import measure, table  # noqa: E402

SIZE, COUNT, THRESHOLD, CONFIDENCE, ITERATIONS = 768, 4000, 3.0, 0.999, 1_000_000
CORNERS = np.array([[0, 0], [SIZE, 0], [SIZE, SIZE], [0, SIZE]], float)
USAC = ("USAC_FAST", "USAC_DEFAULT", "USAC_PROSAC", "USAC_MAGSAC", "USAC_ACCURATE", "USAC_PARALLEL")


def mapped(h, points):
    q = np.c_[points, np.ones(len(points))] @ h.T
    return q[:, :2] / q[:, 2:]


def scene(seed, share, informative):
    """fixed, moving (float32, best first if informative) and the true homography MOVING -> FIXED."""
    rng = np.random.default_rng(seed)
    target = CORNERS + rng.uniform(-0.15 * SIZE, 0.15 * SIZE, CORNERS.shape)
    truth = cv2.getPerspectiveTransform(CORNERS.astype(np.float32), target.astype(np.float32))
    moving = rng.uniform(0, SIZE, (COUNT, 2))
    fixed = mapped(truth, moving) + rng.normal(0, 1, moving.shape)
    right = np.zeros(COUNT, bool)
    right[rng.permutation(COUNT)[: round(COUNT * share)]] = True
    fixed[~right] = rng.uniform(0, SIZE, ((~right).sum(), 2))
    if informative:
        order = np.argsort(-(right + rng.normal(0, 1, COUNT)))
        fixed, moving = fixed[order], moving[order]
    return fixed.astype(np.float32), moving.astype(np.float32), truth


def ours(fixed, moving, informative):
    found = ops.estimate(
        fixed, moving, kind="homography", threshold_px=THRESHOLD, confidence=CONFIDENCE, max_iterations=ITERATIONS,
        sorted=informative,
    )  # fmt: skip
    return None if found.transform is None else found.transform.params


def opencv(fixed, moving, method):
    return cv2.findHomography(moving, fixed, getattr(cv2, method), THRESHOLD, None, ITERATIONS, CONFIDENCE)[0]


def poselib_homography(fixed, moving, informative):
    options = {
        "max_reproj_error": THRESHOLD, "success_prob": CONFIDENCE, "max_iterations": ITERATIONS,
        "min_iterations": 100, "progressive_sampling": informative,
    }  # fmt: skip
    return poselib.estimate_homography(moving.astype(float), fixed.astype(float), options, {})[0]


def corner_error(found, truth):
    if found is None or not np.isfinite(found).all():
        return np.inf
    return float(np.linalg.norm(mapped(found, CORNERS) - mapped(truth, CORNERS), axis=1).mean())


def cases(seeds, quick):
    peers = USAC[:2] if quick else USAC
    for share in (0.2,) if quick else (0.2, 0.05):
        for informative in (False, True):
            spent, errors = {}, {}
            for seed in range(seeds):
                fixed, moving, truth = scene(seed, share, informative)
                candidates = {"fastretina": lambda f=fixed, m=moving, s=informative: ours(f, m, s)}
                for method in peers:
                    candidates[method] = lambda f=fixed, m=moving, name=method: opencv(f, m, name)
                candidates["PoseLib"] = lambda f=fixed, m=moving, s=informative: poselib_homography(f, m, s)
                for name, run in candidates.items():
                    errors.setdefault(name, []).append(corner_error(run(), truth))
                for name, t in measure(candidates, 3 if share > 0.1 else 1).items():
                    spent.setdefault(name, []).append(t["min"])
            own = statistics.median(spent["fastretina"])
            for name, t in spent.items():
                good = [e for e in errors[name] if e < 5]
                yield {
                    "inliers": f"{share:.0%}", "order": "sorted" if informative else "shuffled", "method": name,
                    "median ms": statistics.median(t), "min ms": min(t), "max ms": max(t),
                    "times ours": statistics.median(t) / own, "successes": f"{len(good)}/{seeds}",
                    "mean corner error px": statistics.mean(good) if good else float("nan"),
                }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--quick", action="store_true", help="20 %% inliers and two peers only")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    rows = list(cases(arguments.seeds, arguments.quick))
    print(table(rows))
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
