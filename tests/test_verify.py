"""``fastretina engine verify``: what an engine has to keep beside torch f32."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from fastretina import EngineError, engines
from fastretina.cli import main
from fastretina.engines import verify
from fastretina.engines.verify import BOUNDS, Verification

pytest.importorskip("torch")
pytest.importorskip("safetensors")

GOOD = Verification("openvino", "f16", 1e-4, 1e-4, 0.999, 0.01, BOUNDS["f16"])


@pytest.mark.parametrize(
    "change",
    [
        {"class_difference": 0.1},
        {"descriptors": 0.1},
        {"recall": 0.9},
        {"registration_px": 0.6},
        {"registration_px": None},  # refused, where the reference is not
        {"class_difference": float("nan")},
        {"recall": float("nan")},
    ],
)
def test_each_bound_counts(change):
    assert GOOD.ok
    bad = dataclasses.replace(GOOD, **change)
    assert not bad.ok
    assert sum(not kept for *_, kept in bad.rows()) == 1


def test_every_precision_has_bounds():
    from fastretina.config import CHOICES

    assert set(BOUNDS) == set(CHOICES["precision"]) - {"auto"}


class Shifted:
    """The reference with its maps moved by a cell: plausible outputs in the wrong place."""

    def __init__(self, engine: engines.Engine) -> None:
        self.engine, self.multiple = engine, engine.multiple

    def run(self, plane):
        return tuple(np.roll(m, 1, axis=2) for m in self.engine.run(plane))


def test_comparing():
    from fastretina.synth import synthetic_pair

    manifest = engines.load_manifest("retina_fast")
    engine = engines.create("torch", manifest, precision="f32", device="cpu", threads=1)
    image = synthetic_pair(2, size=(384, 384)).fixed
    difference, descriptors, found, points = verify.compare(engine, engine, image)
    assert (difference, descriptors) == (0, 0)
    assert found == points > 50
    difference, descriptors, found, points = verify.compare(engine, Shifted(engine), image)
    assert difference > BOUNDS["int8"].class_difference
    assert descriptors > BOUNDS["int8"].descriptors
    assert found < 0.5 * points


@pytest.mark.slow
@pytest.mark.parametrize(("engine", "precision"), [("openvino", "int8"), ("torch", "bf16")])
def test_the_command_line(engine, precision, capsys):
    """torch computes bf16 on any processor; OpenVINO says where int8 is not native."""
    status = main(["engine", "verify", "--engine", engine, "--precision", precision, "--weights", "retina_fast"])
    said = capsys.readouterr()
    if status == 2 and "does not run natively here" in said.err:
        pytest.skip(said.err)
    assert (status, said.out.count("\nok ")) == (0, 4), said.out


def test_beyond_a_bound_is_a_failure(monkeypatch, capsys):
    monkeypatch.setattr(verify, "verify", lambda *args, **keywords: dataclasses.replace(GOOD, recall=0.5))
    assert main(["engine", "verify"]) == 1
    assert "BEYOND key-point recall" in capsys.readouterr().out


def test_an_engine_that_cannot_run_here(capsys):
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    assert main(["engine", "verify", "--engine", "torch", "--device", "cuda"]) == 2
    assert "torch sees no CUDA device" in capsys.readouterr().err


def test_a_reference_that_refuses_is_an_error(monkeypatch):
    from fastretina import synth

    class Pair:
        fixed = moving = np.zeros((128, 128), np.uint8)

    monkeypatch.setattr(synth, "synthetic_pair", lambda *args, **keywords: Pair)
    with pytest.raises(EngineError, match=r"seed: torch f32 refuses the synthetic pair 0 \(no_content\)"):
        verify.verify("retina_fast", "torch", "f32", "cpu")
