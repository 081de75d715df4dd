"""What gpu_suite.py says at the end: hardware, versions, one Markdown text."""

from __future__ import annotations

import platform
import shutil
import subprocess
import time
from importlib import metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
_GPU = "name,driver_version,compute_cap,clocks.sm,clocks.max.sm,clocks.mem,memory.total,power.limit,temperature.gpu"
_PACKAGES = ("fastretina", "torch", "triton", "kornia", "numpy", "tensorrt-rtx", "tensorrt")


def _said(*command: str) -> str:
    """The output of a program; "" where it is missing or fails."""
    if shutil.which(command[0]) is None:
        return ""
    answer = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    return answer.stdout.strip() if answer.returncode == 0 else ""


def hardware() -> dict[str, str]:
    """The GPU with its clocks as they are now, and the processor."""
    found = {"processor": platform.processor() or platform.machine()}
    for line in _said("lscpu").splitlines():
        if line.startswith("Model name:"):
            found["processor"] = line.partition(":")[2].strip()
    values = _said("nvidia-smi", f"--query-gpu={_GPU}", "--format=csv,noheader").splitlines()
    if values:
        found |= dict(
            zip((f"GPU {key}" for key in _GPU.split(",")), map(str.strip, values[0].split(",")), strict=False)
        )
    return found


def versions() -> dict[str, str]:
    """Of everything that was measured or did the measuring; "" for what is not here."""
    found = {"python": platform.python_version(), "system": platform.platform()}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = ""
    found["commit"] = _said("git", "rev-parse", "HEAD")
    found["changed files"] = str(len(_said("git", "status", "--porcelain").splitlines()))
    for name, command in (
        ("nvcc", ("nvcc", "--version")),
        ("cmake", ("cmake", "--version")),
        ("compute-sanitizer", ("compute-sanitizer", "--version")),
    ):
        lines = [line for line in _said(*command).splitlines() if "elease" in line or "ersion" in line]
        found[name] = lines[-1] if lines else ""
    found["date"] = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
    return found


def markdown(data: dict[str, Any]) -> str:
    """Times beside peers, targets, steps, hardware and versions."""
    results = [step["result"] for step in data["steps"].values() if "times_us" in step.get("result", {})]
    parts = ["# GPU suite", data.get("remark", ""), _times(results), _targets(results), _steps(data["steps"])]
    facts = [*data.get("hardware", {}).items(), *data.get("versions", {}).items()]
    parts.append(_table(("fact", "value"), [row for row in facts if row[1]]))
    return "\n\n".join(part for part in parts if part) + "\n"


def _times(results: list[dict[str, Any]]) -> str:
    rows = []
    for result in results:
        least = min((t["min"] for who, t in result["times_us"].items() if who.startswith("fastretina")), default=0.0)
        size = ", ".join(f"{key} {_plain(value)}" for key, value in result["facts"].items())
        for who, t in result["times_us"].items():
            rate = 1e6 * result["units"] / t["min"]
            cells = (f"{t['min']:.1f}", f"{t['median']:.1f}", f"{t['min'] / least:.2f}" if least else "", f"{rate:.0f}")
            rows.append((f"{result['case']} on {result['device']}: {size}", who, *cells))
    return _table(("case", "who", "min, us", "median, us", "times our best", "a second"), rows)


def _targets(results: list[dict[str, Any]]) -> str:
    words = {True: "yes", False: "no"}
    rows = [
        (result["case"], t["ours"], t["wanted"], f"{t['got']:.2f}", words[t["met"]], t["remark"])
        for result in results
        for t in result["targets"]
    ]
    return _table(("case", "ours", "wanted", "got", "met", "remark"), rows)


def _steps(steps: dict[str, dict[str, Any]]) -> str:
    rows = [(name, s["status"], f"{s.get('seconds', 0):.0f}", s.get("reason", "")) for name, s in steps.items()]
    return _table(("step", "status", "s", "reason"), rows)


def _plain(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    if not rows:
        return ""
    lines = ["| " + " | ".join(cell.replace("|", "/") for cell in row) + " |" for row in (head, *rows)]
    return "\n".join([lines[0], "|" + "---|" * len(head), *lines[1:]])
