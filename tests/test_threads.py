"""Several Python threads at once, and a process after fork: the same answers as one thread alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import fastretina
import numpy as np
import pytest
from fastretina.synth import synthetic_pair

REPEAT = 6  # calls a thread: without a lock, one in a handful of calls went wrong


def side_by_side(*works) -> None:
    """Runs them at the same moment, one thread each; an error of any is an error here."""
    start = Barrier(len(works))

    def run(work) -> None:
        start.wait()
        for _ in range(REPEAT):
            work()

    with ThreadPoolExecutor(len(works)) as pool:
        for future in [pool.submit(run, work) for work in works]:
            future.result()


def test_threads_that_share_a_registrar_get_their_own_answers():
    registrar = fastretina.Registrar(threads=1, working_size=320)
    pairs = [synthetic_pair(seed=seed, size=(320, 320)) for seed in (5, 6)]
    expected = [registrar.register(pair.fixed, pair.moving) for pair in pairs]
    assert expected[0].to_json() != expected[1].to_json()

    def register(pair, alone):
        found = registrar.register(pair.fixed, pair.moving)
        assert found.to_json() == alone.to_json()
        np.testing.assert_array_equal(found.matches, alone.matches)
        np.testing.assert_array_equal(found.keypoints_moving, alone.keypoints_moving)

    works = [lambda p=pair, e=alone: register(p, e) for pair, alone in zip(pairs, expected, strict=True)]
    side_by_side(*works)


def test_threads_that_call_the_network_get_their_own_outputs():
    ops = fastretina.ops
    planes = [np.random.default_rng(seed).normal(size=(96, 128)).astype(np.float32) for seed in (0, 1)]
    expected = [ops.network(plane, precision="f32") for plane in planes]

    def run(plane, alone):
        for a, b in zip(ops.network(plane, precision="f32"), alone, strict=True):
            np.testing.assert_array_equal(a, b)

    side_by_side(*[lambda p=plane, e=alone: run(p, e) for plane, alone in zip(planes, expected, strict=True)])


FORK = """
import os, sys, numpy as np
from fastretina import ops
confidence = np.random.default_rng(0).normal(size=(400, 400)).astype(np.float32)
plane = confidence[:96, :128].copy()
def answer():
    return ops.nms(confidence, threads=2).xy.tobytes() + ops.network(plane, precision="f32").class_maps.tobytes()
parent = answer()
child = os.fork()
if child == 0:
    os._exit(0 if answer() == parent else 3)  # as the children of multiprocessing end
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_child_of_fork_has_sessions_of_its_own():
    with subprocess.Popen([sys.executable, "-c", FORK], start_new_session=True) as process:
        try:
            assert process.wait(timeout=60) == 0
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
