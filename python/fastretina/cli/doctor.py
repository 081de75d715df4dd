"""Say what is installed and whether it works: versions, processor, engines, weights, GPU, and one registration.
Exits with 1 if something that is needed does not work.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import importlib.util
import os
import platform
import shutil
import subprocess
from collections.abc import Callable

from fastretina.cli.common import EXIT_INTERNAL, EXIT_OK, say
from fastretina.cli.demo import MAX_ERROR_PX
from fastretina.config import usable_cores

HELP = "check the installation"

_PACKAGES = ("numpy", "opencv-python-headless", "openvino", "onnx", "onnxruntime", "torch", "tensorrt-rtx", "tensorrt")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """No options."""


def run(args: argparse.Namespace) -> int:
    checks: dict[str, Callable[[], str]] = {
        "versions": _versions,
        "processor": _processor,
        "compiled core": _core,
        "engines": _engines,
        "weights": _weights,
        "gpu": _gpu,
        "tensorrt": _tensorrt,
        "registration": _registration,
    }
    failed = 0
    for name, check in checks.items():
        try:
            mark, text = "ok", check()
        except Exception as error:  # a doctor reports what is broken, whatever it is
            mark, text = "FAILED", " ".join(f"{type(error).__name__}: {error}".split())
            failed += 1
        say(f"{mark:6s} {name:14s} {text}")
    say("everything that is needed works" if not failed else f"{failed} of {len(checks)} checks failed")
    return EXIT_INTERNAL if failed else EXIT_OK


def _versions() -> str:
    from fastretina import __version__

    found = [f"fastretina {__version__}", f"Python {platform.python_version()}"]
    for package in _PACKAGES:
        try:
            found.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            found.append(f"{package} -")
    if importlib.util.find_spec("cv2") is None:
        raise RuntimeError("cv2 is missing; remedy: pip install opencv-python-headless")
    return ", ".join(found)


def _processor() -> str:
    name = platform.processor() or platform.machine()
    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            models = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
        name = models[0] if models else name
    return f"{name}, {usable_cores()} of {os.cpu_count()} logical cores usable"


def _core() -> str:
    from fastretina import __version__

    _core = importlib.import_module("fastretina._core")
    if _core.__version__ != __version__:
        raise RuntimeError(f"is of version {_core.__version__}, the package of {__version__}; remedy: reinstall")
    return f"{_core.__version__}, vector instructions: {_core.simd_level()}"


def _engines() -> str:
    from fastretina import engines

    installed = engines.available()
    if not installed:
        raise RuntimeError("none is installed; remedy: pip install openvino")
    return ", ".join(installed)


def _weights() -> str:
    from fastretina import engines

    manifest = engines.load_manifest("default")
    checked = [p for p in ("f32", "int8", "torch") if manifest.offers(p) and manifest.weights(p)]
    return f"{manifest.name} ({', '.join(checked)}), SHA-256 {manifest.weights_hash[:12]}..., as the manifest says"


def _gpu() -> str:
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return "no NVIDIA driver (not needed)"
    query = [tool, "--query-gpu=name,driver_version", "--format=csv,noheader"]
    answer = subprocess.run(query, capture_output=True, text=True, timeout=20, check=False)
    return "; ".join(answer.stdout.strip().splitlines()) or "an NVIDIA driver, but no GPU (not needed)"


def _tensorrt() -> str:
    from fastretina.engines import tensorrt_file

    versions = tensorrt_file.installed()
    if not versions:
        return "not installed (not needed); pip install tensorrt-rtx"
    found = [f"{flavour} {version}" for flavour, version in versions.items()]
    capability = tensorrt_file.gpu_capability()
    found.append("engines cannot run: torch is missing or sees no GPU" if capability is None else f"GPU {capability}")
    folder = tensorrt_file.engines_folder()
    count = len(list(tensorrt_file.engine_files(folder)))
    return ", ".join([*found, f"{count} engine files in {folder}" + (" (fastretina engine list)" if count else "")])


def _registration() -> str:
    import fastretina
    from fastretina.synth import synthetic_pair

    pair = synthetic_pair(3, size=(512, 512))
    result = fastretina.Registrar().register(pair.fixed, pair.moving)
    if not result.ok or result.transform is None:
        raise RuntimeError(f"a synthetic pair was refused: {result.status}, confidence {result.confidence:.3f}")
    error = pair.mean_error(result.transform)
    if error > MAX_ERROR_PX:
        raise RuntimeError(f"a synthetic pair was registered with an error of {error:.2f} px")
    choices = ", ".join(f"{k} {result.choices[k]}" for k in ("engine", "precision", "backend") if k in result.choices)
    return f"synthetic pair: error {error:.2f} px, confidence {result.confidence:.3f} ({choices})"
