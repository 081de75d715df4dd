"""The steps of gpu_suite.py: what each stage runs, what that needs, and how a step is run."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
CASES = ("detect", "match", "estimate", "network", "pair", "batch")
SANITIZERS = ("memcheck", "racecheck")
_SOURCES = ("csrc", "benchmarks", "tests", "python", "engines", "CMakeLists.txt")
_SUFFIXES = {".cpp", ".cu", ".cuh", ".h", ".hpp", ".py", ".toml", ".txt", ".cmake", ".onnx", ".safetensors"}
_TAIL = 3000  # characters of a failed step's output that are kept


@dataclass(frozen=True)
class Step:
    """A command. `needs`: programs, or modules as "python:NAME"; `files`: what has to lie in the checkout."""

    name: str
    command: tuple[str, ...]
    needs: tuple[str, ...] = ()
    files: tuple[Path, ...] = ()
    result: Path | None = None  # JSON that the command writes
    stops: bool = False  # nothing after it makes sense if it fails
    resumes: bool = False  # what it did before the time was up is not lost


def build(out: Path, wheels: Path | None) -> list[Step]:
    """The native tests and benchmarks with the CUDA twins, for this GPU; the peers; the Python package."""
    options = ("-DCMAKE_BUILD_TYPE=Release", "-DFASTRETINA_TESTS=ON", "-DFASTRETINA_WERROR=ON", "-DFASTRETINA_CUDA=ON")
    configure = ("cmake", "-S", str(ROOT), "-B", str(out / "native"), *options, "-DCMAKE_CUDA_ARCHITECTURES=native")
    jobs = str(os.cpu_count() or 1)
    compile_ = ("cmake", "--build", str(out / "native"), "--parallel", jobs)
    steps = [
        Step("configure", configure, ("cmake", "nvcc"), (ROOT / "CMakeLists.txt",), stops=True),
        Step("compile", compile_, ("cmake", "nvcc"), stops=True, resumes=True),
    ]
    pip = (sys.executable, "-m", "pip", "install", "-q", "--no-index", "--no-deps", "--target", str(out / "site"))
    if wheels is not None:
        found = sorted(str(path) for path in wheels.glob("*.whl"))
        steps.append(Step("peers", (*pip, "--upgrade", *found), ("python:pip",), (wheels, *map(Path, found))))
    package = (*pip, "--upgrade", "--no-build-isolation", "-C", "cmake.define.FASTRETINA_CUDA=ON")
    package += ("-C", "cmake.define.CMAKE_CUDA_ARCHITECTURES=native", str(ROOT))
    needs = ("nvcc", "python:pip", "python:scikit_build_core", "python:pybind11")
    return [*steps, Step("python package", package, needs, (ROOT / "pyproject.toml",), stops=True, resumes=True)]


def test(out: Path, wheels: Path | None) -> list[Step]:
    """Every twin on the GPU against its CPU twin, and what the Python tests do with a GPU."""
    native = ("ctest", "--test-dir", str(out / "native"), "-R", "^test_cuda_", "-E", "_emulated$")
    python = (sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider", str(ROOT / "tests"))
    return [
        Step("native tests", (*native, "--no-tests=error", "--output-on-failure"), ("ctest", "gpu")),
        Step(
            "python tests", python, ("gpu", "python:pytest", "python:cv2", "python:fastretina._core"), (ROOT / "tests",)
        ),
    ]


def sanitize(out: Path, wheels: Path | None) -> list[Step]:
    """compute-sanitizer over each native CUDA test."""
    sources = sorted((ROOT / "tests" / "cuda").glob("test_*.cpp"))
    steps = []
    for tool in SANITIZERS:
        for source in sources:
            name = source.stem.replace("test_", "test_cuda_", 1)
            command = (
                "compute-sanitizer",
                "--tool",
                tool,
                "--error-exitcode",
                "9",
                str(out / "native/tests/cuda" / name),
            )
            steps.append(Step(f"{tool} {name}", command, ("compute-sanitizer", "gpu"), (source,)))
    return steps


def bench(out: Path, wheels: Path | None) -> list[Step]:
    """Each case beside its peers."""
    return [
        case_step(case, out / "native" / "benchmarks" / "libgpu_rooms.so", out, "--device", "cuda") for case in CASES
    ]


def case_step(case: str, library: Path, out: Path, *options: str) -> Step:
    """A case in a process of its own, its peers beside it."""
    script, device = ROOT / "benchmarks" / "gpu_cases.py", options[1]
    result = out / f"bench_{case}_{device}.json"
    command = (sys.executable, str(script), case, "--rooms", str(library), "--json", str(result), *options)
    needs = ("gpu", "python:torch", "python:fastretina._core") if device == "cuda" else ()
    return Step(f"bench {case} ({device})", command, needs, (script,), result, resumes=True)


STAGES = {"build": build, "test": test, "sanitize": sanitize, "bench": bench}


def missing_of(step: Step) -> list[str]:
    """What the step needs and this machine has not."""
    return [need for need in step.needs if not _is_here(need)]


def _is_here(need: str) -> bool:
    if need == "gpu":
        tool = shutil.which("nvidia-smi")
        return tool is not None and subprocess.run([tool, "-L"], capture_output=True, check=False).stdout != b""
    if not need.startswith("python:"):
        return shutil.which(need) is not None
    try:
        return importlib.util.find_spec(need.removeprefix("python:")) is not None
    except ModuleNotFoundError:
        return False


def shown(step: Step) -> str:
    """The command as one would type it, from the root of the checkout."""
    return shlex.join(step.command).replace(f"{ROOT}/", "").replace(sys.executable, "python")


def execute(step: Step, out: Path, limit_s: float) -> dict[str, Any]:
    """Run a step: status "ok", "failed", "skipped" (by its own word) or "unfinished" (the time is up)."""
    paths = [str(out / "site"), os.environ.get("PYTHONPATH", "")]  # what the build stage installed goes first
    environment = {
        **os.environ,
        "FASTRETINA_REQUIRE_GPU": "1",
        "PYTHONPATH": os.pathsep.join(path for path in paths if path),
        "TORCHINDUCTOR_CACHE_DIR": str(out / "inductor"),  # a compilation that ran out of time goes on from here
    }
    if step.result is not None:
        step.result.unlink(missing_ok=True)  # of an earlier run
    begin = time.monotonic()
    process = subprocess.Popen(
        step.command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        errors="replace", start_new_session=True,
    )  # fmt: skip
    try:
        said, _ = process.communicate(timeout=limit_s)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)  # the group is the step's own
        said, _ = process.communicate()
        return {"status": "unfinished", "seconds": time.monotonic() - begin, "tail": said[-_TAIL:]}
    found: dict[str, Any] = {
        "status": "ok" if process.returncode == 0 else "failed",
        "seconds": time.monotonic() - begin,
    }
    if step.result is not None and process.returncode in (0, 1) and step.result.is_file():
        written = json.loads(step.result.read_text(encoding="utf-8"))
        found |= {"result": written, "status": written["status"], "reason": written.get("reason", "")}
    if found["status"] == "failed":
        found["tail"] = said[-_TAIL:]
    return {"command": shown(step), **found}


def compile_cpu_rooms(out: Path) -> Path:
    """gpu_rooms.cpp over the CPU twins of the installed package. RuntimeError: there are none, or it fails."""
    compiler = shutil.which(os.environ.get("CXX", "c++"))
    library = Path(str(metadata.distribution("fastretina").locate_file("fastretina/lib/libfastretina.a")))
    if compiler is None or not library.is_file():
        raise RuntimeError(f"a C++ compiler and {library} are needed; remedy: install both (pip install .)")
    target = out / "libgpu_rooms_cpu.so"
    source = ROOT / "benchmarks" / "gpu_rooms.cpp"
    flags = ("-std=c++20", "-O1", "-shared", "-fPIC", f"-I{ROOT / 'csrc'}")
    command = [compiler, *flags, str(source), str(library), "-pthread", "-o", str(target)]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    if answer.returncode != 0:
        raise RuntimeError(f"{shlex.join(command)}: {answer.stderr[-_TAIL:]}")
    return target


def fingerprint() -> str:
    """A hash of the sources: results of other ones are dropped."""
    digest = hashlib.sha256()
    for name in _SOURCES:
        path = ROOT / name
        files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.suffix in _SUFFIXES)
        for file in files:
            digest.update(str(file.relative_to(ROOT)).encode() + b"\0" + hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()[:16]
