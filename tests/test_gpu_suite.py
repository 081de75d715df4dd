"""benchmarks/gpu_suite.py: its dry run passes on a CPU, and its bookkeeping holds."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "benchmarks"))

import gpu_steps  # noqa: E402
import gpu_suite  # noqa: E402
from gpu_report import markdown  # noqa: E402
from gpu_steps import Step  # noqa: E402


@pytest.fixture
def stage(monkeypatch, tmp_path):
    """Runs these steps as a stage; returns the exit status."""

    def run(*steps: Step, minutes: float = 1.0) -> int:
        monkeypatch.setitem(gpu_suite.STAGES, "build", lambda out, wheels: list(steps))
        return gpu_suite.run_stage("build", gpu_suite.Record(tmp_path), None, minutes)

    return run


def python(name: str, code: str, **keywords) -> Step:
    return Step(name, (sys.executable, "-c", code), **keywords)


def recorded(folder: Path) -> dict:
    return json.loads((folder / "gpu_suite.json").read_text())["steps"]


@pytest.mark.slow
def test_the_dry_run_passes(tmp_path, monkeypatch, capsys):
    for module in ("torch", "safetensors"):
        pytest.importorskip(module)
    if shutil.which("c++") is None:
        pytest.skip("no C++ compiler")
    monkeypatch.setattr(sys, "argv", ["gpu_suite.py", "--dry-run", "-o", str(tmp_path)])
    status = gpu_suite.main()
    said = capsys.readouterr().out
    assert status == 0, said
    assert "the plan holds" in said
    assert "cmake --build" in said
    found = recorded(tmp_path / "dry-run")
    assert {name: step["status"] for name, step in found.items()} == {
        f"bench {case} (cpu)": "ok" for case in gpu_steps.CASES
    }
    assert all(step["result"]["agreement"] >= step["result"]["agree_at_least"] > 0.9 for step in found.values())
    text = (tmp_path / "dry-run" / "gpu_suite.md").read_text()
    assert "A dry run" in text
    assert "met" not in text  # no target is judged on small inputs


def test_passed_steps_are_not_repeated_and_failed_ones_are(stage, tmp_path):
    good = python("good", "open('count', 'a').write('x')".replace("count", str(tmp_path / "good")))
    bad = python("bad", f"open('{tmp_path / 'bad'}', 'a').write('x'); raise SystemExit('what went wrong')")
    assert stage(good, bad) == 1
    assert recorded(tmp_path)["bad"]["tail"].strip() == "what went wrong"
    assert stage(good, bad) == 1
    assert ((tmp_path / "good").read_text(), (tmp_path / "bad").read_text()) == ("x", "xx")


def test_other_sources_make_results_void(stage, tmp_path, monkeypatch):
    good = python("good", f"open('{tmp_path / 'good'}', 'a').write('x')")
    assert stage(good) == stage(good) == 0
    monkeypatch.setattr(gpu_suite, "fingerprint", lambda: "of other sources")
    assert stage(good) == 0
    assert (tmp_path / "good").read_text() == "xx"


def test_sources_have_a_fingerprint(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu_steps, "ROOT", tmp_path)
    (tmp_path / "csrc").mkdir()
    (tmp_path / "CMakeLists.txt").write_text("")
    seen = set()
    for text in ("a", "b"):
        (tmp_path / "csrc" / "x.cu").write_text(text)
        seen.add(gpu_steps.fingerprint())
    (tmp_path / "csrc" / "x.o").write_text("no source")
    assert len(seen) == 2
    assert gpu_steps.fingerprint() in seen


def test_a_step_that_takes_too_long(stage, tmp_path):
    """Its whole group ends; the stage asks to be run again, but not for ever."""
    slow = "import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']); "
    slow += "time.sleep(600)"
    assert stage(python("slow", slow, resumes=True), minutes=0.1) == 75
    assert recorded_or_empty(tmp_path) == {}
    assert stage(python("slow", slow), minutes=0.1) == 1
    assert recorded(tmp_path)["slow"]["reason"] == "takes more than 0.1 minutes"
    quick = python("quick", "import time; time.sleep(2)")
    assert stage(quick, python("never", ""), minutes=0.1) == 75  # less than 5 s are left for it
    assert "never" not in recorded(tmp_path)


def recorded_or_empty(folder: Path) -> dict:
    return recorded(folder) if (folder / "gpu_suite.json").is_file() else {}


def test_what_is_missing_is_skipped_with_the_reason(stage, tmp_path):
    assert stage(python("x", "raise SystemExit(1)", needs=("no-such-program", "python:json", "python:no.such"))) == 0
    assert recorded(tmp_path)["x"] == {
        "status": "skipped",
        "reason": "missing here: no-such-program, python:no.such",
    }


def test_nothing_follows_a_step_that_has_to_pass(stage, tmp_path):
    assert stage(python("first", "raise SystemExit(1)", stops=True), python("second", "")) == 1
    assert set(recorded(tmp_path)) == {"first"}


@pytest.mark.parametrize(("status", "expected"), [("ok", 0), ("skipped", 0), ("failed", 1)])
def test_a_case_says_itself_how_it_went(stage, tmp_path, status, expected):
    result = tmp_path / "case.json"
    text = json.dumps({"status": status, "reason": "why"})
    code = f"open({str(result)!r}, 'w').write({text!r}); raise SystemExit({int(status == 'failed')})"
    assert stage(python("case", code, result=result)) == expected
    assert recorded(tmp_path)["case"]["status"] == status


def test_a_result_of_an_earlier_run_is_not_taken_for_this_one(stage, tmp_path):
    result = tmp_path / "case.json"
    result.write_text(json.dumps({"status": "ok"}))
    assert stage(python("case", "raise SystemExit('crashed')", result=result)) == 1
    assert recorded(tmp_path)["case"]["status"] == "failed"


def test_the_markdown_has_times_targets_steps_and_hardware():
    result = {
        "case": "detect", "device": "cuda:0", "facts": {"maps": "2 x 768^2"}, "units": 2,
        "times_us": {"fastretina": {"min": 20.0, "median": 21.0}, "torch eager": {"min": 200.0, "median": 210.0}},
        "targets": [
            {"ours": "fastretina", "wanted": ">= 8 x", "got": 10.0, "met": True, "remark": ""},
            {"ours": "fastretina", "wanted": "<= 1 us", "got": 20.0, "met": False, "remark": "half of it"},
        ],
    }  # fmt: skip
    steps = {"bench detect": {"status": "ok", "seconds": 3.2, "result": result}, "x": {"status": "skipped"}}
    text = markdown({"steps": steps, "hardware": {"GPU name": "a GPU"}, "versions": {"torch": "2", "kornia": ""}})
    assert "| detect on cuda:0: maps 2 x 768^2 | torch eager | 200.0 | 210.0 | 10.00 | 10000 |" in text
    assert "| detect | fastretina | >= 8 x | 10.00 | yes |  |" in text
    assert "| detect | fastretina | <= 1 us | 20.00 | no | half of it |" in text
    assert "| GPU name | a GPU |" in text
    assert "kornia" not in text


def test_every_case_is_a_step():
    pytest.importorskip("torch")
    from gpu_cases import CASES

    assert tuple(CASES) == gpu_steps.CASES
