"""Engine files of TensorRT: which of them may be run. Pure: neither TensorRT nor a GPU is needed."""

from __future__ import annotations

import dataclasses
import hashlib
import json

import pytest
from fastretina import EngineError, InvalidInput, engines
from fastretina.engines import tensorrt_file
from fastretina.engines.tensorrt_build import Sizes, default_sizes
from fastretina.engines.tensorrt_file import Here, Sidecar, why_stale
from fastretina.engines.typed_onnx import RECIPE

PLAN = b"not a real plan"
SIDECAR = Sidecar(
    network="retina",
    network_sha256="a" * 64,
    recipe=RECIPE,
    precision="f16",
    min_shape=(1, 8, 8),
    opt_shape=(2, 480, 480),
    max_shape=(2, 1024, 1024),
    flavour="tensorrt_rtx",
    version="1.7.1.116",
    capabilities=("8.6", "8.9"),
    sha256=hashlib.sha256(PLAN).hexdigest(),
)
HERE = Here({"f16": "a" * 64, "f32": "a" * 64, "int8": "b" * 64}, {"tensorrt_rtx": "1.7.1.116"}, "8.9")


@pytest.fixture
def manifest() -> engines.Manifest:
    weights = {"onnx": {"file": "x", "sha256": "a" * 64}, "onnx_int8": {"file": "y", "sha256": "b" * 64}}
    return engines.Manifest(None, {"name": "retina", "pad_multiple": 8, "weights": weights})


def put(folder, sidecar=SIDECAR, plan=PLAN):
    """An engine file and its sidecar as ``build`` leaves them."""
    path = folder / tensorrt_file.engine_name(sidecar.network, sidecar.precision, sidecar.flavour)
    path.write_bytes(plan)
    tensorrt_file.sidecar_path(path).write_text(sidecar.to_json())
    return path


@pytest.mark.parametrize(
    ("sidecar", "here", "reason"),
    [
        ({}, {}, None),
        ({}, {"capability": None}, None),  # no GPU seen: not a fault of the file
        ({"network_sha256": "c" * 64}, {}, "another network, or from other weights"),
        ({"precision": "int8"}, {}, "another network"),  # int8 is built from another file
        ({"precision": "bf16"}, {}, "another network"),  # a precision that the network does not offer
        ({"recipe": RECIPE + 1}, {}, f"recipe {RECIPE + 1} of fastretina, this is recipe {RECIPE}"),
        ({}, {"versions": {}}, "tensorrt_rtx, which is not installed here"),
        ({"flavour": "tensorrt"}, {}, "tensorrt, which is not installed here"),
        ({"version": "1.6.0.1"}, {}, "tensorrt_rtx 1.6.0.1, here is 1.7.1.116"),
        ({}, {"capability": "9.0"}, "compute capability 8.6, 8.9, this GPU has 9.0"),
        ({}, {"capability": "8.90"}, "this GPU has 8.90"),
    ],
)
def test_freshness(sidecar, here, reason):
    found = why_stale(dataclasses.replace(SIDECAR, **sidecar), dataclasses.replace(HERE, **here))
    assert found is None if reason is None else reason in found


def test_an_altered_file_is_stale():
    assert why_stale(SIDECAR, HERE, SIDECAR.sha256) is None
    assert "is not the file of its sidecar" in why_stale(SIDECAR, HERE, hashlib.sha256(b"").hexdigest())


def test_a_sidecar_survives_its_file():
    assert Sidecar.from_json(SIDECAR.to_json()) == SIDECAR


@pytest.mark.parametrize(
    ("old", "new"),
    [('"recipe": 1', '"recipe": "1"'), ('"network"', '"net"'), ("{", "["), ('"f16"', "null"), ('"recipe": 1,', "")],
)
def test_a_broken_sidecar_is_refused(tmp_path, old, new):
    path = put(tmp_path)
    text = SIDECAR.to_json()
    assert old in text
    tensorrt_file.sidecar_path(path).write_text(text.replace(old, new, 1))
    with pytest.raises(EngineError, match=r"is no sidecar of an engine .* remedy: fastretina engine build"):
        tensorrt_file.read_sidecar(path)


def test_an_engine_without_a_sidecar_is_refused(tmp_path):
    path = put(tmp_path)
    tensorrt_file.sidecar_path(path).unlink()
    with pytest.raises(EngineError, match="has no sidecar"):
        tensorrt_file.read_engine(path, HERE)


def test_reading_checks_the_bytes(tmp_path):
    path = put(tmp_path)
    assert tensorrt_file.read_engine(path, HERE) == (SIDECAR, PLAN)
    path.write_bytes(PLAN + b"\0")
    with pytest.raises(EngineError, match=r"SHA-256 differs.*remedy: fastretina engine build --weights retina"):
        tensorrt_file.read_engine(path, HERE)


def test_auto_takes_the_fastest_fresh_engine(tmp_path, manifest):
    int8 = put(tmp_path, dataclasses.replace(SIDECAR, precision="int8", network_sha256="b" * 64))
    assert tensorrt_file.choose(manifest, "auto", HERE, tmp_path) == int8
    f16 = put(tmp_path)
    assert tensorrt_file.choose(manifest, "auto", HERE, tmp_path) == f16
    assert tensorrt_file.choose(manifest, "int8", HERE, tmp_path) == int8
    put(tmp_path, dataclasses.replace(SIDECAR, version="1.6.0.1"))  # over the fresh one
    assert tensorrt_file.choose(manifest, "auto", HERE, tmp_path) == int8


def test_what_cannot_be_chosen_says_why(tmp_path, manifest):
    with pytest.raises(
        EngineError, match=r"holds none of network 'retina' at precision 'f16'; remedy: .*--precision f16"
    ):
        tensorrt_file.choose(manifest, "f16", HERE, tmp_path)
    put(tmp_path, dataclasses.replace(SIDECAR, capabilities=("12.0",)))
    with pytest.raises(EngineError, match=r"retina.f16.*runs on compute capability 12.0, this GPU has 8.9"):
        tensorrt_file.choose(manifest, "auto", HERE, tmp_path)
    with pytest.raises(InvalidInput, match="precision: got 'f8'; allowed: auto, f32"):
        tensorrt_file.choose(manifest, "f8", HERE, tmp_path)


def test_the_folder_is_the_users(monkeypatch, tmp_path):
    monkeypatch.setenv("FASTRETINA_ENGINES", str(tmp_path))
    assert tensorrt_file.engines_folder() == tmp_path
    monkeypatch.delenv("FASTRETINA_ENGINES")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert tensorrt_file.engines_folder() == tmp_path / "fastretina" / "engines"


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        (Sizes((8, 8), (480, 484), (512, 512)), r"opt-size: got 480x484; allowed: multiples of 8"),
        (Sizes((0, 8), (480, 480), (512, 512)), r"min-size: got 0x8"),
        (Sizes((8, 8), (480, 480), (16384, 480)), r"max-size: got 16384x480"),
        (Sizes((8, 488), (480, 480), (512, 512)), r"expected min-size <= opt-size"),
        (Sizes((8, 8), (480, 480), (480, 472)), r"expected min-size <= opt-size <= max-size"),
        (Sizes((8, 8), (480, 480), (512, 512), 0), r"batch: got 0; allowed: 1 ... 256"),
    ],
)
def test_sizes_are_checked(sizes, message):
    with pytest.raises(InvalidInput, match=message):
        sizes.shapes(8)


def test_default_sizes_hold_what_the_ladder_shows(manifest):
    from fastretina import _core

    side = _core.Options().features.image.working_size
    low, best, high = default_sizes(manifest, 4).shapes(manifest.multiple)
    assert low == (1, 8, 8)
    assert best[0] == high[0] == 4
    assert best[1] - 8 < side <= best[1]
    assert high[1] >= 2 * side
    own = engines.Manifest(None, {**manifest.data, "working_size": 900})
    assert default_sizes(own).shapes(8)[1:] == ((1, 904, 904), (1, 1808, 1808))


def test_facts_of_the_shipped_networks():
    shipped = engines.load_manifest("default")
    assert shipped.file_hash("bf16") == shipped.file_hash("f32") == shipped.weights_hash != shipped.file_hash("int8")
    there = tensorrt_file.here(shipped)
    assert set(there.network_sha256) == {"f32", "f16", "bf16", "int8"}
    assert json.loads(SIDECAR.to_json())["min_shape"] == [1, 8, 8]
