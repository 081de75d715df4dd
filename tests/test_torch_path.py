"""The pure-PyTorch pipeline: the same answers as the compiled core, the same errors, and no need of the core."""

from __future__ import annotations

import dataclasses
import enum
import subprocess
import sys

import fastretina
import numpy as np
import pytest
from fastretina import EngineError, InvalidInput
from fastretina.synth import synthetic_pair
from fastretina.transform_layout import transform_of

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")

SIZE = (320, 320)
SETTING = {"engine": "torch", "precision": "f32", "threads": 1, "working_size": 320}  # one engine for both backends
GRID = np.stack(np.meshgrid(np.linspace(20, 300, 8), np.linspace(20, 300, 8)), -1).reshape(-1, 2)


@pytest.fixture(scope="module")
def pair():
    return synthetic_pair(seed=6, size=SIZE, difficulty="easy")


@pytest.fixture(scope="module")
def registrar():
    return fastretina.Registrar(**SETTING, backend="torch")


@pytest.fixture(scope="module")
def native():
    pytest.importorskip("fastretina._core")
    return fastretina.Registrar(**SETTING, backend="native")


@pytest.fixture(scope="module")
def result(registrar, pair):
    return registrar.register(pair.fixed, pair.moving)


def assert_same(result, expected, apart_px=0.05) -> None:
    assert result.status == expected.status
    assert result.confidence == pytest.approx(expected.confidence, abs=0.01)
    if expected.status == "no_content":  # where nothing is to be seen, rounding alone decides what is a key point
        assert dict(result.choices) | {"backend": "native"} == dict(expected.choices)
        return
    for name in ("keypoints_fixed", "keypoints_moving"):
        assert np.array_equal(getattr(result, name), getattr(expected, name))
    for name in ("heatmap_fixed", "heatmap_moving"):
        assert getattr(result, name) == pytest.approx(getattr(expected, name), abs=2e-3)
    # Matrix products add in another order, so a match may differ where two scores are nearly equal.
    ours, theirs = ({tuple(m) for m in r.matches} for r in (result, expected))
    assert len(ours ^ theirs) <= 0.02 * len(theirs)
    assert dict(result.choices) | {"backend": "native"} == dict(expected.choices)
    assert set(result.timings_ms) == set(expected.timings_ms)
    assert list(result.quality) == list(expected.quality)
    if expected.transform is None:
        assert result.transform is None
    else:
        assert result.transform.kind == expected.transform.kind
        assert np.abs(result.transform(GRID) - expected.transform(GRID)).max() < apart_px
    if len(ours ^ theirs) == 0:
        assert np.array_equal(result.matches, expected.matches)
        assert np.array_equal(result.inliers, expected.inliers)
        assert result.match_scores == pytest.approx(expected.match_scores, abs=1e-5)
        for name, value in expected.quality.items():
            assert result.quality[name] == pytest.approx(value, rel=2e-3, abs=2e-3), name


# -- the same answers ---------------


def test_registers_as_the_core_does(result, native, pair):
    expected = native.register(pair.fixed, pair.moving)
    assert expected.ok
    assert_same(result, expected)


def test_finds_the_truth(result, pair):
    assert result.ok
    assert result.choices["backend"] == "torch"
    assert pair.mean_error(result.transform) < 3


def test_timings_cover_every_room(result):
    rooms = {name: ms for name, ms in result.timings_ms.items() if name != "total"}
    assert all(ms > 0 for ms in rooms.values())
    assert sum(rooms.values()) < result.timings_ms["total"]


def test_black_frame_is_refused_as_the_core_does(registrar, native, pair):
    black = np.zeros((200, 300), np.uint8)
    result = registrar.register(pair.fixed, black)
    assert result.status == "no_content"
    assert_same(result, native.register(pair.fixed, black))


def test_different_eyes_are_judged_as_by_the_core(registrar, native, pair, monkeypatch):
    from fastretina import _core
    from fastretina.registrar import native_options

    ours, theirs = registrar._pipeline.options, native_options(native.config)
    monkeypatch.setattr(ours.ladder, "max_rungs", 2)  # the whole climb takes long here
    monkeypatch.setattr(ours.features.image, "working_size", 480)  # what the confidence is calibrated for
    theirs.ladder.max_rungs, theirs.features.image.working_size = 2, 480
    monkeypatch.setattr(native, "_pipeline", _core.Pipeline(native.engine, theirs, 1))
    other = synthetic_pair(seed=77, size=SIZE)
    result = registrar.register(pair.fixed, other.moving)
    assert result.choices["attempts"] == 2
    assert_same(result, native.register(pair.fixed, other.moving))


def test_a_mirrored_turn_is_found_in_the_pose_of_the_core(registrar, native, pair, monkeypatch):
    from fastretina.torch_path.pipeline import ladder

    turned = np.ascontiguousarray(np.rot90(pair.moving[:, ::-1], 1))
    expected = native.register(pair.fixed, turned)
    assert expected.ok
    assert expected.choices["mirrored"]
    rung = ladder()[expected.choices["rung"]]
    assert (45 * rung.moving.eighth_turns, rung.moving.mirrored) == (expected.choices["turn_deg"], True)
    monkeypatch.setattr(registrar._pipeline, "rungs", [rung])  # the whole climb takes long here
    result = registrar.register(pair.fixed, turned)
    choices = dict(result.choices) | {name: expected.choices[name] for name in ("rung", "attempts")}
    # The core made attempts before this one, which costs confidence.
    told = dict(result.quality) | {"attempts": expected.quality["attempts"]}
    assert result.confidence > expected.confidence
    same = {"choices": choices, "quality": told, "confidence": expected.confidence}
    assert_same(dataclasses.replace(result, **same), expected)


@pytest.mark.parametrize("model", ["similarity", "quadratic"])
def test_model_can_be_asked_for(pair, model, native):
    results = [
        fastretina.Registrar(**SETTING, backend=backend, transform=model).register(pair.fixed, pair.moving)
        for backend in ("torch", "native")
    ]
    assert results[0].transform.kind == model
    # Few ridges hold the corners of a quadratic that nothing asks for: its optimum is flat there.
    assert_same(*results, apart_px=0.5 if model == "quadratic" else 0.05)


def test_a_local_field_as_in_the_core():
    bent = synthetic_pair(seed=1, size=SIZE, modalities=("FAF", "RF"), difficulty="easy", geometry="local")
    ours, theirs = (
        fastretina.Registrar(**SETTING, backend=backend, transform="dense").register(bent.fixed, bent.moving)
        for backend in ("torch", "native")
    )
    assert theirs.choices["model"].startswith("dense @ ")
    assert ours.choices["model"] == theirs.choices["model"]
    assert ours.confidence == pytest.approx(theirs.confidence, abs=0.01)
    assert np.abs(ours.transform(GRID) - theirs.transform(GRID)).max() < 0.3  # fits end within epsilon_px


def test_dtypes_and_strides_as_in_the_core(registrar, native, pair):
    views = {
        "uint16": pair.fixed.astype(np.uint16) * 16,
        "float32": (pair.fixed / 255).astype(np.float32),
        "flipped": pair.fixed[::-1, ::-1],
        "read-only crop": pair.fixed[10:210, 5:300, 1],
    }
    views["read-only crop"].setflags(write=False)
    for name, view in views.items():
        ours, theirs = registrar.prepare(view).payload, native.prepare(view).payload
        assert ours.size == theirs.size
        assert np.array_equal(ours.keypoints, theirs.keypoints), name
        assert ours.heatmap == pytest.approx(theirs.heatmap, abs=2e-3), name


def test_prepared_once_registers_again_to_the_same_bytes(registrar, result, pair):
    prepared, moving = registrar.prepare(pair.fixed), registrar.prepare(pair.moving)
    again = registrar.register(prepared, moving)
    assert again.to_json() == result.to_json()
    assert again.timings_ms["network"] == 0
    assert again.timings_ms["refine"] > 0


def test_leaves_the_thread_count_of_torch_alone(registrar, pair):
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        registrar.prepare(pair.fixed)
        with pytest.raises(InvalidInput):
            registrar.prepare(pair.fixed[:50])
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


# -- poses ---------------


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("turns", range(4))
def test_a_pose_moves_pixels_where_its_transform_says(turns, mirrored):
    from fastretina.torch_path.image_features import Pose, _turned_by

    source = torch.arange(5 * 7).reshape(5, 7)
    pose = Pose(1.0, 2 * turns, mirrored)
    shown = torch.rot90(source.flip(1) if mirrored else source, turns)
    y, x = np.indices(source.shape)
    at = _turned_by(pose, (7, 5))(np.stack([x.ravel(), y.ravel()], 1).astype(float)).round().astype(int)
    assert np.array_equal(shown.numpy()[at[:, 1], at[:, 0]], source.numpy().ravel())


@pytest.mark.parametrize("mirrored", [False, True])
def test_eight_poses_of_45_degrees_turn_about_the_middle_one_after_the_other(mirrored):
    from fastretina.torch_path.image_features import Pose, _turned_by

    size, middle = (9, 9), np.array([[4.0, 4.0]])
    point = np.array([[7.0, 4.0]])  # three to the right of the middle; mirrored, to the left
    for eighths in range(8):
        turned = _turned_by(Pose(1.0, eighths, mirrored), size)
        angle = np.radians(45 * eighths)
        expected = 3 * (-1 if mirrored else 1) * np.array([[np.cos(angle), -np.sin(angle)]])
        assert turned(middle) == pytest.approx(middle)
        assert turned(point) - middle == pytest.approx(expected, abs=1e-12)


# -- the climb ---------------


def test_looks_at_differing_fields_of_view_as_the_core_does():
    """A px of MOVING is 1.7 px of FIXED, which the last look enlarges."""
    pytest.importorskip("fastretina._core")
    pair = synthetic_pair(10_100_029, (640, 640), ("RF", "FA"), "moderate", "local")
    ours, theirs = (
        fastretina.Registrar(**SETTING, backend=backend, transform="dense").register(pair.fixed, pair.moving)
        for backend in ("torch", "native")
    )
    assert ours.choices["model"] == theirs.choices["model"]
    seen = pair.visible[::16, ::16]
    points = np.argwhere(seen)[:, ::-1] * 16.0
    assert np.abs(ours.transform(points) - theirs.transform(points)).max() < 0.1


def test_the_second_consensus_is_a_start_of_its_own(registrar, native):
    """Half of MOVING, faint: at the rung that finds it chance agrees with more matches than the eye does."""
    pair = synthetic_pair(13_100_042, (640, 640), ("FA", "IR"), "moderate", "quadratic")
    moving = np.ascontiguousarray(pair.moving[:320, :320])
    points = np.argwhere(pair.visible[:320:16, :320:16])[:, ::-1] * 16.0
    found = native.register(pair.fixed, moving)

    def error(transform):
        return np.linalg.norm(transform(points) - pair.truth(points), axis=1).mean()

    assert error(found.transform) < 2
    from fastretina.torch_path import image_features

    pipeline = registrar._pipeline
    images = registrar.prepare(pair.fixed).payload, registrar.prepare(moving).payload
    rung = pipeline.rungs[found.choices["rung"]]
    pipeline._timings = dict.fromkeys(image_features.ROOMS, 0.0)
    seen = [pipeline._in_pose(image, pose) for image, pose in zip(images, rung[:2], strict=True)]
    first, second = pipeline._attempt(*seen, found.choices["attempts"])
    assert error(transform_of(*first["transform"])) > 100
    assert error(transform_of(*second["transform"])) < 3
    assert second["confidence"] > 20 * first["confidence"]


@pytest.fixture
def climb(registrar, pair, monkeypatch):
    """Climbs on made-up attempts [(status, confidence), ...], one a rung, the last one again and again."""
    pipeline, payload = registrar._pipeline, registrar.prepare(pair.fixed).payload

    def run(*attempts, working_size=480):
        made = iter(attempts)

        def attempt(fixed, moving, number):
            status, confidence = next(made, attempts[-1])
            yield {"status": status, "confidence": confidence, "transform": None, "rung": number - 1}

        monkeypatch.setattr(pipeline.options.features.image, "working_size", working_size)
        monkeypatch.setattr(pipeline, "_in_pose", lambda image, pose: pose)
        monkeypatch.setattr(pipeline, "_attempt", attempt)
        return pipeline.register(payload, payload)

    return run


def test_climbs_until_an_attempt_is_strong(climb):
    best = climb(("low_agreement", 0.1), ("ok", 0.7), ("ok", 0.6), ("ok", 0.95))
    assert (best["confidence"], best["rung"], best["attempts"]) == (0.95, 3, 4)


def test_keeps_the_best_of_a_weak_climb_and_the_first_of_equals(climb):
    best = climb(("low_agreement", 0.1), ("ok", 0.7), ("ok", 0.7))
    assert (best["rung"], best["attempts"]) == (1, 25)


def test_nothing_to_see_ends_the_climb(climb):
    assert climb(("no_content", 0.0), ("ok", 0.7))["attempts"] == 1


def test_poses_that_show_too_little_are_skipped(climb):
    """At 96 px the reduced fields would show 56 and 33 px, less than the room image takes; finer, 75 and 66 px."""
    assert climb(("low_agreement", 0.1), working_size=96)["attempts"] == 25 - 4
    assert climb(("low_agreement", 0.1), working_size=186)["attempts"] == 25


# -- misuse ---------------


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((0, 0), np.uint8),
        np.zeros((63, 400), np.uint8),
        np.zeros((300, 300, 4), np.uint8),
        np.zeros(300, np.uint8),
        np.zeros((300, 300), object),
        np.zeros((300, 300), np.float64),
        np.zeros((300, 300), bool),
        np.zeros((300, 300), ">u2"),
        np.full((300, 300), np.nan, np.float32),
        np.full((300, 300), -np.inf, np.float32),
        np.full((300, 300), 1.5, np.float32),
        np.where(np.arange(300)[:, None] == 7, np.float32(-0.5), np.zeros((300, 300), np.float32)),
        [[1, 2], [3, 4]],
    ],
    ids=["0x0", "small", "RGBA", "1-D", "object", "float64", "bool", "big-endian", "NaN", "inf", "1.5", "-0.5", "list"],
)
def test_misuse_raises_the_message_of_the_core(registrar, native, image):
    messages = []
    for one in (registrar, native):
        with pytest.raises(InvalidInput, match=r"^image: got ") as error:
            one._pipeline.prepare(image)
        messages.append(str(error.value))
    assert messages[0] == messages[1]


def test_misuse_names_the_argument(registrar, pair):
    with pytest.raises(InvalidInput, match=r"^moving: got 300 x 20 px"):
        registrar.register(pair.fixed, np.zeros((20, 300), np.uint8))


@pytest.mark.parametrize("output", [0, 1])
def test_an_engine_with_the_wrong_output_is_named(registrar, pair, output, monkeypatch):
    right = registrar.engine.run

    def wrong(plane):
        outputs = list(right(plane))
        outputs[output] = outputs[output][:, 1:]
        return tuple(outputs)

    monkeypatch.setattr(registrar.engine, "run", wrong)
    with pytest.raises(InvalidInput, match=f"engine output {output}"):
        registrar._pipeline.prepare(pair.fixed)


# -- options ---------------


def flat_native(options, prefix=""):
    for name in (n for n in dir(options) if not n.startswith("_")):
        value = getattr(options, name)
        if isinstance(value, enum.Enum):
            yield prefix + name, value.name
        elif type(value).__module__ == "fastretina._core":
            yield from flat_native(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def flat(options, prefix=""):
    for f in dataclasses.fields(options):
        value = getattr(options, f.name)
        if dataclasses.is_dataclass(value):
            yield from flat(value, f"{prefix}{f.name}.")
        else:
            yield prefix + f.name, value


def assert_equal_options(ours: dict, theirs: dict) -> None:
    assert set(ours) == set(theirs)
    for name, value in theirs.items():
        single = isinstance(value, float) and value == np.float32(value)  # the struct's field may be a float
        assert (np.float32(ours[name]) if single else ours[name]) == value, name


def test_defaults_are_those_of_the_core():
    _core = pytest.importorskip("fastretina._core")
    from fastretina.torch_path.options import Options

    assert_equal_options(dict(flat(Options())), dict(flat_native(_core.Options())))


def test_config_sets_the_same_options():
    pytest.importorskip("fastretina._core")
    from fastretina.registrar import native_options
    from fastretina.torch_path.options import options_of

    config = fastretina.Config(seed=7, working_size=200, max_keypoints=99, transform="affine")
    assert_equal_options(dict(flat(options_of(config))), dict(flat_native(native_options(config))))


# -- without the core ---------------


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_registers_and_warps_without_the_core():
    out = run(
        "import sys; sys.modules['fastretina._core'] = None\n"
        "import numpy as np, fastretina\n"
        "from fastretina.synth import synthetic_pair\n"
        f"pair = synthetic_pair(seed=6, size={SIZE}, difficulty='easy')\n"
        "result = fastretina.Registrar(backend='auto', engine='torch', threads=1).register(pair.fixed, pair.moving)\n"
        "image, valid = result.warp(pair.moving)\n"
        "print(result.choices['backend'], result.status, pair.mean_error(result.transform) < 3, image.shape,\n"
        "      image.dtype, bool(valid.mean() > 0.5), bool(image[valid].std() > 1), 'fastretina.ops' in sys.modules)\n"
    )
    assert out == f"torch ok True {SIZE} uint8 True True False"


def test_a_missing_core_is_an_error_only_where_it_is_asked_for(monkeypatch):
    from fastretina.registrar import _choose_backend

    monkeypatch.setitem(sys.modules, "fastretina._core", None)
    assert _choose_backend("auto") == "torch"
    with pytest.raises(EngineError, match="core is missing; remedy"):
        _choose_backend("native")


@pytest.mark.parametrize("error", [ImportError("libgomp.so.1: no such file"), ModuleNotFoundError("x", name="numpy")])
@pytest.mark.parametrize("backend", ["auto", "native"])
def test_a_core_that_does_not_load_is_never_passed_over(monkeypatch, error, backend):
    from fastretina import registrar

    def broken(name):
        raise error

    monkeypatch.setattr(registrar.importlib, "import_module", broken)
    with pytest.raises(EngineError, match=f"does not load \\({error}"):
        registrar._choose_backend(backend)
