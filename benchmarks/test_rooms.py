"""Every room alone under pytest-benchmark, to see a change of speed from one commit to the next:

    pytest benchmarks --benchmark-save=before        # then, after a change:
    pytest benchmarks --benchmark-compare=*before --benchmark-compare-fail=min:10%

One thread, CPU time. The peers are in bench_<room>.py.
"""

from __future__ import annotations

import time
from types import SimpleNamespace

import numpy as np
import pytest
from fastretina import Registrar, ops
from fastretina.synth import synthetic_pair

pytestmark = pytest.mark.benchmark(timer=time.process_time, min_rounds=20, warmup=True)


@pytest.fixture(scope="module")
def pair():
    return synthetic_pair(seed=1)


def features(image: np.ndarray) -> SimpleNamespace:
    seen = ops.image(image)
    output = ops.network(seen.plane)
    points = ops.detect(output.difference, seen.mask)
    rows = ops.describe(output.descriptors, points.xy)
    return SimpleNamespace(seen=seen, output=output, points=points, rows=rows, ridges=ops.ridges(seen.plane, seen.mask))


@pytest.fixture(scope="module")
def both(pair):
    return features(pair.fixed), features(pair.moving)


@pytest.fixture(scope="module")
def matches(both):
    return ops.match(both[0].rows, both[1].rows)


@pytest.fixture(scope="module")
def estimate(both, matches):
    return ops.estimate(both[0].points.xy[matches.fixed], both[1].points.xy[matches.moving])


def test_image(benchmark, pair):
    benchmark(ops.image, pair.fixed)


def test_network(benchmark, both):
    benchmark(ops.network, both[0].seen.plane)


def test_upsample(benchmark, both):
    benchmark(ops.upsample, both[0].output.difference)


def test_nms(benchmark, both):
    confidence = ops.upsample(both[0].output.difference)
    benchmark(ops.nms, confidence, both[0].seen.mask)


def test_detect(benchmark, both):
    benchmark(ops.detect, both[0].output.difference, both[0].seen.mask)


def test_describe(benchmark, both):
    benchmark(ops.describe, both[0].output.descriptors, both[0].points.xy)


def test_match(benchmark, both):
    benchmark(ops.match, both[0].rows, both[1].rows)


def test_estimate(benchmark, both, matches):
    benchmark(ops.estimate, both[0].points.xy[matches.fixed], both[1].points.xy[matches.moving])


def test_ridges(benchmark, both):
    benchmark(ops.ridges, both[0].seen.plane, both[0].seen.mask)


def test_refine(benchmark, both, estimate):
    benchmark(ops.refine, both[0].ridges, both[1].ridges, estimate.transform, kind="homography")


def test_warp(benchmark, pair):
    height, width = pair.fixed.shape[:2]
    benchmark(ops.warp, pair.moving, pair.transform, (width, height))


def test_pair(benchmark, pair):
    benchmark(Registrar(threads=1).register, pair.fixed, pair.moving)
