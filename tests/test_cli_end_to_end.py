"""The command line with the real registrar: demo, determinism over threads, refusals, doctor."""

import os
from pathlib import Path

import numpy as np
import pytest
from fastretina.cli import main
from fastretina.io import read_image, write_image


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo")
    assert main(["demo", "-o", str(folder), "--threads", "1"]) == 0  # 0 only if the true error is small
    return folder


def test_demo_leaves_pictures_and_report(demo: Path) -> None:
    names = {"fixed.png", "moving.png", "overlay.png", "report.html", "transform.json", "truth.json", "warped.png"}
    assert set(os.listdir(demo)) == names
    assert read_image(demo / "warped.png").shape == read_image(demo / "fixed.png").shape[:2]


def test_transform_json_is_the_same_on_any_number_of_threads(demo: Path, tmp_path: Path) -> None:
    for threads in ("1", "2"):
        pair = [str(demo / "fixed.png"), str(demo / "moving.png")]
        assert main(["register", *pair, "-o", str(tmp_path / threads), "--threads", threads]) == 0
        assert (tmp_path / threads / "transform.json").read_bytes() == (demo / "transform.json").read_bytes()


def test_apply_repeats_the_warped_image(demo: Path, tmp_path: Path) -> None:
    assert main(["apply", str(demo / "transform.json"), str(demo / "moving.png"), "-o", str(tmp_path / "a.png")]) == 0
    assert (tmp_path / "a.png").read_bytes() == (demo / "warped.png").read_bytes()


@pytest.mark.parametrize("content", ["black", "constant", "noise"])
def test_frames_without_content_are_refused(
    content: str, demo: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (300, 300), dtype=np.uint8)
    frame = {"black": np.zeros_like(noise), "constant": np.full_like(noise, 120), "noise": noise}[content]
    write_image(tmp_path / "frame.png", frame)
    out = tmp_path / "out"
    for pair in ([demo / "fixed.png", tmp_path / "frame.png"], [tmp_path / "frame.png", demo / "moving.png"]):
        assert main(["register", *map(str, pair), "-o", str(out), "--threads", "1"]) == 3
        assert sorted(os.listdir(out)) == ["report.html", "transform.json"]
        assert "refused: " in capsys.readouterr().err


def test_doctor_is_content(capsys: pytest.CaptureFixture) -> None:
    assert main(["doctor"]) == 0
    assert "FAILED" not in capsys.readouterr().out
