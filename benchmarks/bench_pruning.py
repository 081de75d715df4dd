"""Does pruning help? Matches and registrations of each method with and without it, on synthetic pairs of known truth.

    python benchmarks/bench_pruning.py --methods sift rootsift --pairs 60

Printed for each method: matches a pair, their precision (within 5 px of a 640-px frame), the share of the right ones
that are left, pairs registered within 5 and 10 px (refused or not), pairs that are accepted, milliseconds of matching
and estimation.
"""

from __future__ import annotations

import argparse
from itertools import product

import numpy as np
from fastretina import Registrar
from fastretina.synth import SyntheticPair, synthetic_pair
from fastretina.types import Registration

SIDE = 640
MODALITIES = (("CF", "CF"), ("RF", "RF"), ("CF", "RF"), ("CF", "FA"), ("FA", "FA"), ("CF", "IR"))
LEVELS = ("moderate", "hard")
FIRST_SEED = 5000
RIGHT_PX = 5.0


def measured(pair: SyntheticPair, result: Registration) -> dict[str, float]:
    """Of one registration."""
    off = np.linalg.norm(pair.truth(result.matches[:, 2:]) - result.matches[:, :2], axis=1)
    error = np.inf if result.transform is None else pair.mean_error(result.transform)
    ms = result.timings_ms["match"] + result.timings_ms["estimate"]
    return {
        "matches": len(off), "right": int((off < RIGHT_PX).sum()), "within 5": error < 5, "within 10": error < 10,
        "ok": result.ok, "ms": ms,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--methods", nargs="+", default=["sift", "rootsift", "symmetric-sift"])
    parser.add_argument("--pairs", type=int, default=60)
    args = parser.parse_args()
    kinds = list(product(LEVELS, MODALITIES))
    switches = ("off", "on")
    registrars = {(m, p): Registrar(method=m, prune=p, threads=1) for m in args.methods for p in switches}
    rows: dict[tuple[str, str], list[dict[str, float]]] = {key: [] for key in registrars}
    for number in range(args.pairs):
        level, modalities = kinds[number % len(kinds)]
        pair = synthetic_pair(FIRST_SEED + number, (SIDE, SIDE), modalities, level)
        for key, registrar in registrars.items():
            rows[key].append(measured(pair, registrar.register(pair.fixed, pair.moving)))
    print(f"{args.pairs} pairs, {', '.join(LEVELS)}; {', '.join('-'.join(m) for m in MODALITIES)}")
    print(f"{'method':22} prune  matches  precision  right kept  < 5 px  < 10 px    ok     ms")
    for method in args.methods:
        right = sum(row["right"] for row in rows[method, "off"])
        for prune in switches:
            found = rows[method, prune]
            total = {name: sum(row[name] for row in found) for name in found[0]}
            precision, kept = total["right"] / max(total["matches"], 1), total["right"] / max(right, 1)
            print(
                f"{method:22} {prune:5} {total['matches'] / args.pairs:8.0f} {precision:10.3f} {kept:11.3f}"
                f" {total['within 5']:7.0f} {total['within 10']:8.0f} {total['ok']:5.0f}"
                f" {total['ms'] / args.pairs:6.1f}"
            )


if __name__ == "__main__":
    main()
