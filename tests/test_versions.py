"""The version is written in three files, and the core is compiled with it."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import fastretina
import pytest

ROOT = Path(__file__).resolve().parents[1]


def test_the_files_agree() -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        assert tomllib.load(file)["project"]["version"] == fastretina.__version__
    project = re.search(r"^project\(fastretina VERSION (\S+)", (ROOT / "CMakeLists.txt").read_text(), re.MULTILINE)
    assert project is not None
    assert project[1] == fastretina.__version__


def test_the_core_is_of_this_version() -> None:
    assert pytest.importorskip("fastretina._core").__version__ == fastretina.__version__
