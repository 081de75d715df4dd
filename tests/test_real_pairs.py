"""The real pairs, end to end: the score may not drop below the figures last recorded.

The images are not ours to ship. FASTRETINA_DATA names the folder that holds val/pairs.json.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import fastretina
import numpy as np
import pytest
from fastretina.evaluation.metrics import auc
from fastretina.evaluation.pairs import load_pairs, pair_cases
from fastretina.evaluation.run import evaluate

DATA = os.environ.get("FASTRETINA_DATA")
RECORDED = Path(__file__).resolve().parent.parent / "benchmarks" / "recorded.json"

pytestmark = pytest.mark.skipif(not DATA, reason="real pairs: FASTRETINA_DATA does not name the folder that holds val/")


@pytest.fixture(scope="module")
def recorded():
    return json.loads(RECORDED.read_text())["val"]


@pytest.fixture(scope="module")
def rows():
    cases = pair_cases(load_pairs(Path(DATA) / "val"), wrong=True)
    return evaluate({"fastretina": fastretina.Registrar(threads=1, seed=0)}, cases)


@pytest.fixture(scope="module")
def errors(rows):
    return np.array([row["error"] for row in rows if row["kind"] == "none"])


def test_nothing_crashed(rows):
    assert not [row["status"] for row in rows if row["status"].startswith("exception")]


def test_no_pair_got_worse_than_recorded(errors, recorded):
    assert len(errors) == recorded["pairs"]
    assert (errors < 2).sum() >= recorded["below_2_px"]
    assert (errors < 5).sum() >= recorded["below_5_px"]
    assert auc(errors) >= recorded["auc25"] - 0.003  # one pair that moves across one whole-pixel threshold


def test_no_silent_failure_and_no_wrong_eye_accepted(rows, errors, recorded):
    accepted = np.array([row["ok"] for row in rows if row["kind"] == "none"])
    assert not (accepted & (errors >= 10)).any()
    wrong = [row for row in rows if row["kind"] == "wrong"]
    assert len(wrong) >= 20
    assert sum(row["ok"] for row in wrong) <= recorded["false_accepts"]
