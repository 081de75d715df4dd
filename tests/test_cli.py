"""The command line: what it writes, what it says, its exit status. A stand-in registers: every outcome occurs."""

import importlib.util
import json
import os
import sys
from pathlib import Path

import fastretina
import numpy as np
import pytest
from fastretina import EngineError, InvalidInput, Registration, Transform
from fastretina.cli import main
from fastretina.io import read_image, write_image
from fastretina.synth import synthetic_pair

pytest.importorskip("cv2")

TRUTH = Transform.from_matrix([[0.99, -0.1, 12.0], [0.1, 0.99, -5.0]])


class StandIn:
    """Answers every pair with the same transform, or refuses it."""

    status = "ok"
    transform: Transform | None = TRUTH
    keywords: dict = {}  # noqa: RUF012  (of the last one made)

    def __init__(self, **keywords: object) -> None:
        StandIn.keywords = keywords

    def register(self, fixed: np.ndarray, moving: np.ndarray) -> Registration:
        moving_xy = np.random.default_rng(0).uniform(0, 90, (30, 2))
        return Registration(
            status=self.status,
            confidence=0.9 if self.status == "ok" else 0.1,
            transform=self.transform,
            fixed_size=(fixed.shape[1], fixed.shape[0]),
            moving_size=(moving.shape[1], moving.shape[0]),
            choices={"engine": "openvino", "precision": "f32"},
            matches=np.hstack([TRUTH(moving_xy), moving_xy]),
            match_scores=np.ones(30),
            inliers=np.arange(30) % 3 > 0,
            timings_ms={"total": 12.0},
            quality={"ridge_correlation": 0.5},
            keypoints_fixed=TRUTH(moving_xy),
            keypoints_moving=moving_xy,
            heatmap_fixed=np.ones((25, 30), np.float32),
        )


@pytest.fixture(autouse=True)
def stand_in(monkeypatch: pytest.MonkeyPatch) -> type[StandIn]:
    monkeypatch.setattr(fastretina, "Registrar", StandIn)
    monkeypatch.setattr(StandIn, "status", "ok")
    monkeypatch.setattr(StandIn, "transform", TRUTH)
    return StandIn


@pytest.fixture
def images(tmp_path: Path) -> tuple[str, str]:
    rng = np.random.default_rng(0)
    fixed, moving = tmp_path / "fixed <&>.png", tmp_path / "moving.tif"
    write_image(fixed, rng.integers(0, 255, (100, 120, 3), dtype=np.uint8))
    write_image(moving, rng.integers(0, 65535, (90, 110), dtype=np.uint16))
    return str(fixed), str(moving)


def test_register_writes_everything(images: tuple, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["register", *images, "-o", str(tmp_path / "out"), "--precision", "f32", "--max-keypoints", "99"]) == 0
    assert StandIn.keywords == {"precision": "f32", "max_keypoints": 99}
    out = tmp_path / "out"
    assert sorted(os.listdir(out)) == ["overlay.png", "report.html", "transform.json", "warped.png"]
    document = json.loads((out / "transform.json").read_text())
    assert Transform.from_dict(document) == TRUTH
    assert (document["fixed_size"], document["moving_size"]) == ([120, 100], [110, 90])
    assert str(tmp_path) not in (out / "transform.json").read_text()
    warped = read_image(out / "warped.png")
    assert warped.shape == (100, 120)
    assert warped.dtype == np.uint16
    html = (out / "report.html").read_text()
    assert "fixed &lt;&amp;&gt;.png" in html
    assert "fixed <&>.png" not in html
    printed = capsys.readouterr()
    assert "registered: similarity, confidence 0.900, 20 inliers of 30 matches" in printed.out
    assert printed.err == ""


def test_register_prints_json(images: tuple, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["register", *images, "-o", str(tmp_path / "out"), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["ok"] is True
    assert printed["inliers"] == 20
    assert Transform.from_dict(printed) == TRUTH


def test_a_refusal_leaves_nothing_that_looks_like_a_result(
    images: tuple, tmp_path: Path, capsys: pytest.CaptureFixture, stand_in: type[StandIn]
) -> None:
    out = tmp_path / "out"
    assert main(["register", *images, "-o", str(out)]) == 0  # an earlier success in the same folder
    capsys.readouterr()
    stand_in.status = "low_agreement"
    assert main(["register", *images, "-o", str(out)]) == 3
    assert sorted(os.listdir(out)) == ["report.html", "transform.json"]
    document = json.loads((out / "transform.json").read_text())
    assert document["transform"] is None
    assert document["status"] == "low_agreement"
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "refused: low_agreement (confidence 0.100)" in printed.err
    stand_in.status, stand_in.transform = "no_content", None
    assert main(["register", *images, "-o", str(out), "--json"]) == 3
    assert json.loads(capsys.readouterr().out)["transform"] is None


def misuse(arguments: list[str], capsys: pytest.CaptureFixture) -> str:
    """The message of a command that must exit with 2."""
    try:
        status = main(arguments)
    except SystemExit as stop:  # from argparse
        status = stop.code
    assert status == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "Traceback" not in printed.err
    return printed.err


def test_register_misuse(images: tuple, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    fixed, moving = images
    out = str(tmp_path / "out")
    (tmp_path / "text.png").write_text("hello")
    (tmp_path / "cut.png").write_bytes(Path(fixed).read_bytes()[:-200])
    write_image(tmp_path / "line.png", np.zeros((1, 200), np.uint8))
    write_image(tmp_path / "small.png", np.zeros((63, 200), np.uint8))
    for name, message in [
        ("nowhere.png", "no such file"),
        ("text.png", "looks like text"),
        ("cut.png", "truncated"),
        ("line.png", "at least 64 px"),
        ("small.png", "at least 64 px"),
        ("", "is a folder"),
    ]:
        error = misuse(["register", fixed, str(tmp_path / name), "-o", out], capsys)
        assert message in error
        assert name in error
        assert error.count("\n") == 1
        assert not os.path.exists(out)
    assert "output folder is not writable" in misuse(["register", fixed, moving, "-o", fixed], capsys)
    assert "did you mean '--engine'" in misuse(["register", fixed, moving, "-o", out, "--engin", "torch"], capsys)
    assert "invalid choice: 'abacus'" in misuse(["register", fixed, moving, "-o", out, "--engine", "abacus"], capsys)
    assert "threads: got 0" in misuse(["register", fixed, moving, "-o", out, "--threads", "0"], capsys)
    assert "required" in misuse(["register", fixed, moving], capsys)
    assert "output: got an empty path" in misuse(["register", fixed, moving, "-o", ""], capsys)
    assert "output: got an empty path" in misuse(["demo", "-o", ""], capsys)
    assert "--eye: got -1; allowed: 0" in misuse(["demo", "-o", out, "--eye", "-1"], capsys)
    assert not os.path.exists(out)
    assert "invalid choice" in misuse(["registr"], capsys)
    assert "required" in misuse([], capsys)


def test_errors_of_the_registrar(
    images: tuple, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ["register", *images, "-o", str(tmp_path / "out")]

    def fails_with(error: Exception) -> None:
        def register(*_: object) -> None:
            raise error

        monkeypatch.setattr(StandIn, "register", register)

    for error in (InvalidInput("fixed: NaN"), EngineError("engine: 'onnxruntime' is not installed")):
        fails_with(error)
        assert str(error) in misuse(command, capsys)
    fails_with(KeyError("x"))
    assert main(command) == 1
    printed = capsys.readouterr().err
    assert printed == "fastretina: internal error: KeyError: 'x' (--debug shows where)\n"
    assert not (tmp_path / "out").exists()
    assert main([*command, "--debug"]) == 1
    assert "Traceback" in capsys.readouterr().err


@pytest.fixture
def saved(images: tuple, tmp_path: Path) -> str:
    assert main(["register", *images, "-o", str(tmp_path / "out")]) == 0
    return str(tmp_path / "out" / "transform.json")


def test_apply_to_an_image_repeats_register(saved: str, images: tuple, tmp_path: Path) -> None:
    assert main(["apply", saved, images[1], "-o", str(tmp_path / "again.png")]) == 0
    np.testing.assert_array_equal(read_image(tmp_path / "again.png"), read_image(tmp_path / "out" / "warped.png"))


def test_apply_inverse_goes_back(saved: str, images: tuple, tmp_path: Path) -> None:
    assert main(["apply", saved, images[0], "-o", str(tmp_path / "back"), "--inverse"]) == 0
    back = read_image(tmp_path / "back" / Path(images[0]).name)
    assert back.shape == (90, 110, 3)
    fixed = read_image(images[0])
    x, y = TRUTH([50.0, 40.0])
    window = fixed[int(y) : int(y) + 2, int(x) : int(x) + 2].reshape(4, 3)
    assert (back[40, 50] >= window.min(0)).all()
    assert (back[40, 50] <= window.max(0)).all()


def test_apply_nearest_keeps_labels(saved: str, tmp_path: Path) -> None:
    labels = np.random.default_rng(1).choice([0, 7, 200], (90, 110)).astype(np.uint8)
    write_image(tmp_path / "labels.png", labels)
    assert main(["apply", saved, str(tmp_path / "labels.png"), "-o", str(tmp_path / "l.png"), "--nearest"]) == 0
    assert set(np.unique(read_image(tmp_path / "l.png"))) == {0, 7, 200}


def test_apply_to_points_and_back(saved: str, tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text("x,y,name\n10,20,a\n30.5,4,b\n")
    assert main(["apply", saved, str(tmp_path / "p.csv"), "-o", str(tmp_path / "q.csv")]) == 0
    mapped = np.loadtxt(tmp_path / "q.csv", delimiter=",", skiprows=1, usecols=(0, 1))
    np.testing.assert_array_equal(mapped, TRUTH([[10, 20], [30.5, 4]]))
    assert main(["apply", saved, str(tmp_path / "q.csv"), "-o", str(tmp_path / "r.csv"), "--inverse"]) == 0
    again = np.loadtxt(tmp_path / "r.csv", delimiter=",", skiprows=1, usecols=(0, 1))
    np.testing.assert_allclose(again, [[10, 20], [30.5, 4]], atol=1e-9)
    assert (tmp_path / "r.csv").read_text().endswith(",b\n")


def test_apply_a_quadratic_inverse_to_an_image(tmp_path: Path) -> None:
    quadratic = Transform("quadratic", [[3, 1.01, 0.02, 1e-4, 0, 0], [-2, 0, 0.99, 0, 0, 1e-4]])
    (tmp_path / "t.json").write_text(quadratic.to_json())
    y, x = np.mgrid[:100, :120]
    write_image(tmp_path / "ramp.png", (100 * x + 10 * y).astype(np.uint16))
    assert main(["apply", str(tmp_path / "t.json"), str(tmp_path / "ramp.png"), "-o", str(tmp_path), "--inverse"]) == 2
    out = tmp_path / "o.png"
    assert main(["apply", str(tmp_path / "t.json"), str(tmp_path / "ramp.png"), "-o", str(out), "--inverse"]) == 0
    at = quadratic([40.0, 50.0])  # a ramp is resampled exactly
    assert abs(int(read_image(out)[50, 40]) - (100 * at[0] + 10 * at[1])) <= 1


def test_apply_misuse(saved: str, images: tuple, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    capsys.readouterr()
    out = str(tmp_path / "x.png")
    (tmp_path / "bad.json").write_text("{")
    (tmp_path / "null.json").write_text('{"transform": null, "status": "no_content"}')
    (tmp_path / "p.csv").write_text("x,y\n1,nan\n")
    for arguments, message in [
        (["nowhere.json", images[1], "-o", out], "nowhere.json: cannot be read"),
        ([str(tmp_path / "bad.json"), images[1], "-o", out], "bad.json: transform: not JSON"),
        ([str(tmp_path / "null.json"), images[1], "-o", out], "the registration was refused (status 'no_content')"),
        ([saved, images[0], "-o", out], "is for moving images of 110 x 90 px"),
        ([saved, images[1], "-o", images[1]], "is the input; give another output"),
        ([saved, images[1], "-o", str(tmp_path / "x.jpg")], "uint16 pixels do not fit into JPG"),
        ([saved, str(tmp_path / "p.csv"), "-o", str(tmp_path / "q.csv")], "NaN or infinity among the points"),
        ([saved, images[1], "-o", images[0] + "/x.png"], "cannot be made"),
        ([saved, images[1], "-o", ""], "output: got an empty path"),
    ]:
        assert message in misuse(["apply", *arguments], capsys)
    assert not os.path.exists(out)


def test_demo_reports_the_true_error(tmp_path: Path, capsys: pytest.CaptureFixture, stand_in: type[StandIn]) -> None:
    command = ["demo", "-o", str(tmp_path / "demo"), "--size", "256"]
    truth = synthetic_pair(3, (256, 256)).transform
    stand_in.transform = Transform.from_matrix([[1, 0, 2], [0, 1, 0]]) @ truth
    assert main(command) == 0
    assert "true error: 2.00 px" in capsys.readouterr().out
    assert len(os.listdir(tmp_path / "demo")) == 7
    stand_in.transform = Transform.from_matrix([[1, 0, 9], [0, 1, 0]]) @ truth
    assert main(command) == 1
    assert "true error of 9.00 px" in capsys.readouterr().err
    stand_in.status = "too_few_matches"
    assert main(command) == 3
    assert not (tmp_path / "demo" / "warped.png").exists()


def test_evaluate_writes_its_files(images: tuple, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    pair = {
        "id": "a",
        "group": "a",
        "fixed": Path(images[0]).name,
        "moving": "moving.tif",
        "H_author": TRUTH.params.tolist(),
    }
    (tmp_path / "pairs.json").write_text(json.dumps({"pairs": [pair]}))
    files = ["--json", str(tmp_path / "e.json"), "--markdown", str(tmp_path / "e.md")]
    assert main(["evaluate", "--pairs", str(tmp_path), "--perturb", "none,mirror", *files]) == 0
    summary = json.loads((tmp_path / "e.json").read_text())["summary"]["fastretina"]
    assert summary["none"]["sr_me_2"] == 1
    assert summary["mirror"]["silent_failures"] == 1
    assert (tmp_path / "e.md").read_text() in capsys.readouterr().out
    assert "pairs.json: cannot be read" in misuse(["evaluate", "--pairs", str(tmp_path / "no")], capsys)
    assert "perturb: got 'rotten'" in misuse(
        ["evaluate", "--quiet", "--pairs", str(tmp_path), "--perturb", "rotten"], capsys
    )


def test_evaluate_has_one_suite_and_known_baselines(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "Images").mkdir()
    for name in ("S01", "P37"):
        for i in (1, 2):
            write_image(tmp_path / "Images" / f"{name}_{i}.jpg", np.full((64, 64, 3), 128, np.uint8))
        points = tmp_path / "Ground Truth" / f"control_points_{name}_1_2.txt"
        points.parent.mkdir(exist_ok=True)
        x, y = TRUTH([10, 20])
        points.write_text(f"{x} {y} 10 20\n")
    assert main(["evaluate", "--fire", str(tmp_path), "--baselines", "sift,rootsift", "--both-ways"]) == 0
    out = capsys.readouterr().out
    assert "P37 is left out: its control points" in out
    table = [line.split("|")[1:4] for line in out.splitlines() if line.startswith("| ")]
    assert [[cell.strip() for cell in row] for row in table] == [
        ["method", "pairs", "n"], ["fastretina", "S", "1"], ["sift", "S", "1"], ["rootsift", "S", "1"],
    ]  # fmt: skip
    assert "baselines: got 'surf'; did you mean 'sift'?" in misuse(
        ["evaluate", "--fire", str(tmp_path), "--baselines", "surf"], capsys
    )
    assert "--pairs and --fire: give one" in misuse(["evaluate", "--fire", "a", "--pairs", "b"], capsys)
    assert "not allowed with" in misuse(["evaluate", "--fire", "a", "--table", "A"], capsys)
    assert "table: got 'D'; allowed: A, B, C" in misuse(["evaluate", "--table", "D"], capsys)
    assert "--baselines: the methods of --table have their own" in misuse(
        ["evaluate", "--table", "A", "--baselines", "sift"], capsys
    )
    assert "--both-ways: the methods of --table have their own" in misuse(
        ["evaluate", "--table", "A", "--both-ways"], capsys
    )
    assert "is required" in misuse(["evaluate"], capsys)
    assert "--wrong: is an option of --pairs only" in misuse(["evaluate", "--fire", str(tmp_path), "--wrong"], capsys)
    assert "--count: is an option of --crossings and --synthetic and --table only" in misuse(
        ["evaluate", "--fire", str(tmp_path), "--count", "3"], capsys
    )
    assert "count: got 0" in misuse(["evaluate", "--synthetic", "local", "--count", "0"], capsys)


def test_bench_runs_the_scripts_of_a_checkout(tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    folder = tmp_path / "benchmarks"
    folder.mkdir()
    body = "import sys, json\nprint('a table')\njson.dump([1], open(sys.argv[2], 'w')) if sys.argv[1:] else None\n"
    (folder / "bench_good.py").write_text(body)
    (folder / "bench_bad.py").write_text("raise SystemExit(5)")
    assert main(["bench", "good", "--checkout", str(tmp_path), "--json", str(tmp_path / "b.json")]) == 0
    assert "a table" in capfd.readouterr().out
    assert json.loads((tmp_path / "b.json").read_text()) == {"good": [1]}
    assert main(["bench", "--checkout", str(tmp_path)]) == 1
    assert "these benchmarks failed: bad" in capfd.readouterr().err
    assert "no such benchmark; did you mean 'good'" in misuse(["bench", "goood", "--checkout", str(tmp_path)], capfd)
    assert "holds no bench_*.py" in misuse(["bench", "--checkout", str(tmp_path / "no")], capfd)


def test_engine_list(capsys: pytest.CaptureFixture) -> None:
    assert main(["engine", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines][:1] == ["openvino"]
    assert all(line.split(maxsplit=1)[1].startswith(("installed", "not installed")) for line in lines)


def test_doctor_fails_if_registration_does(capsys: pytest.CaptureFixture, stand_in: type[StandIn]) -> None:
    stand_in.status = "low_agreement"
    assert main(["doctor"]) == 1
    printed = capsys.readouterr().out
    assert "FAILED registration" in printed
    assert f"Python {sys.version_info.major}.{sys.version_info.minor}" in printed


def test_train_says_what_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    command = ["train", "--data", str(tmp_path / "no"), "-o", str(tmp_path / "run"), "--steps", "1"]
    torch = importlib.util.find_spec("torch") is not None
    missing = f"data: {tmp_path / 'no'} is not a folder" if torch else "torch is missing; remedy: pip install"
    assert missing in misuse(command, capsys)
    assert "one of the arguments --minutes --steps is required" in misuse(command[:-2], capsys)
    assert "recipe: got 'retin'; did you mean 'retina'?" in misuse([*command, "--recipe", "retin"], capsys)


def test_train_refuses_options_of_another_recipe(
    tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fastretina.training import recipes

    monkeypatch.setitem(recipes.RECIPES, "other", recipes.Recipe("", {"layers": recipes.Option(int, "how many")}))
    command = ["train", "--data", str(tmp_path), "-o", str(tmp_path / "run"), "--steps", "1", "--layers", "3"]
    assert "layers: no option of recipe 'retina'; it takes network, start" in misuse(command, capsys)


def test_version_and_help(capsys: pytest.CaptureFixture) -> None:
    for arguments, text in [(["--version"], fastretina.__version__), (["register", "--help"], "--working-size")]:
        with pytest.raises(SystemExit) as stop:
            main(arguments)
        assert stop.value.code == 0
        assert text in capsys.readouterr().out


def test_cmake_dir_is_where_cmake_finds_the_library(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["--cmake-dir"])
    assert exit_.value.code == 0
    folder = Path(capsys.readouterr().out.strip())
    assert (folder / "fastretinaConfig.cmake").is_file()
    assert list((folder.parent.parent).glob("*fastretina*"))  # the library itself
