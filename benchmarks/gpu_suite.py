"""What needs a GPU, in one script: build, test, sanitize, benchmark beside peers; one JSON and one Markdown text.

    python benchmarks/gpu_suite.py --stage build|test|sanitize|bench [-o DIR] [--wheels DIR] [--minutes 9]
    python benchmarks/gpu_suite.py --dry-run        # on a CPU: the plan, checked; every case run small on the CPU twins

From a source checkout with nvcc, cmake and torch, and what pip builds the package with; no network. A stage stops after
`--minutes`; run it again and it goes on where it stopped (exit status 75: there is more to do; 1: something failed; 0:
all done). Steps that passed are not repeated unless the sources changed. What a machine lacks is skipped, with the
reason. kornia comes from `--wheels`.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from gpu_report import hardware, markdown, versions
from gpu_steps import CASES, ROOT, STAGES, Step, case_step, compile_cpu_rooms, execute, fingerprint, missing_of, shown

EXIT_OK, EXIT_FAILED, EXIT_MORE = 0, 1, 75


class Record:
    """DIR/gpu_suite.json and .md: what is known so far, written anew after every step."""

    def __init__(self, folder: Path, remark: str = "") -> None:
        self.folder, self.path = folder, folder / "gpu_suite.json"
        folder.mkdir(parents=True, exist_ok=True)
        self.data: dict[str, Any] = {}
        if self.path.is_file():
            self.data = json.loads(self.path.read_text(encoding="utf-8"))
        now = fingerprint()
        if self.data.get("sources") != now:  # results of other sources are not ours
            self.data = {"sources": now, "remark": remark, "steps": {}}

    def passed(self, step: Step) -> bool:
        return self.data["steps"].get(step.name, {}).get("status") == "ok"

    def add(self, step: Step, found: dict[str, Any]) -> None:
        self.data["steps"][step.name] = found
        self.write()

    def write(self) -> None:
        self.data.update(versions=versions(), hardware=hardware())
        for path, text in (
            (self.path, json.dumps(self.data, indent=1) + "\n"),
            (self.folder / "gpu_suite.md", markdown(self.data)),
        ):
            temporary = path.with_suffix(".partial")
            temporary.write_text(text, encoding="utf-8")
            temporary.replace(path)


def run_stage(stage: str, record: Record, wheels: Path | None, minutes: float) -> int:
    """Steps until they are done or the time is up."""
    deadline = time.monotonic() + 60 * minutes
    failed = 0
    steps = [step for step in STAGES[stage](record.folder, wheels) if not record.passed(step)]
    for i, step in enumerate(steps):
        left = deadline - time.monotonic()
        if left < 5:
            print(f"{len(steps) - i} steps are left: run --stage {stage} again", flush=True)
            return EXIT_MORE
        missing = missing_of(step)
        if missing:
            record.add(step, {"status": "skipped", "reason": f"missing here: {', '.join(missing)}"})
            print(f"skipped  {step.name}: missing here: {', '.join(missing)}", flush=True)
            continue
        found = execute(step, record.folder, left)
        print(f"{found['status']:8s} {step.name} ({found['seconds']:.0f} s)", flush=True)
        if found["status"] == "unfinished":
            if step.resumes or i > 0:  # it goes on, or begins with the whole time, when the stage is run again
                return EXIT_MORE
            found |= {"status": "failed", "reason": f"takes more than {minutes:g} minutes"}
        record.add(step, found)
        failed += found["status"] == "failed"
        if found["status"] == "failed":
            print(found["tail"], flush=True)
            if step.stops:
                break
    record.write()
    print(f"{record.folder / 'gpu_suite.md'}", flush=True)
    return EXIT_FAILED if failed else EXIT_OK


def dry_run(record: Record, wheels: Path | None) -> int:
    """The plan and what it needs; then every benchmark case small, on the CPU twins."""
    problems = []
    for stage, steps_of in STAGES.items():
        steps = steps_of(record.folder, wheels)
        print(f"{stage}:")
        for step in steps:
            missing = missing_of(step)
            print(f"  {step.name}: {shown(step)}" + (f"   [not here: {', '.join(missing)}]" if missing else ""))
            problems += [f"{step.name}: {path} does not exist" for path in step.files if not path.exists()]
        if not steps:
            print("  nothing: tests/cuda holds no test")
            problems += [f"{stage}: has no step"] if (ROOT / "tests" / "cuda").is_dir() else []
    record = Record(
        record.folder / "dry-run", "A dry run: small inputs on the CPU twins. No figure here says anything."
    )
    library = compile_cpu_rooms(record.folder)
    for case in CASES:
        step = case_step(case, library, record.folder, "--device", "cpu", "--tiny", "--repeat", "1")
        found = execute(step, record.folder, 300)
        record.add(step, found)
        print(f"{found['status']:8s} {step.name} ({found['seconds']:.0f} s)", flush=True)
        if found["status"] != "ok":
            problems.append(f"{step.name}: {found.get('reason') or found['tail']}")
    record.write()
    print("\n".join([f"problem: {problem}" for problem in problems] or ["the plan holds"]))
    return EXIT_FAILED if problems else EXIT_OK


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--stage", choices=STAGES)
    what.add_argument("--dry-run", action="store_true")
    parser.add_argument("-o", "--output", type=Path, default=ROOT / "build" / "gpu-suite", metavar="DIR")
    parser.add_argument("--wheels", type=Path, metavar="DIR", help="wheels to install for the peers (kornia)")
    parser.add_argument("--minutes", type=float, default=9.0, help="that a stage may take (default %(default)g)")
    args = parser.parse_args()
    record = Record(args.output.resolve())
    sys.path.insert(0, str(record.folder / "site"))  # where the build stage installs what the others may need
    if args.dry_run:
        return dry_run(record, args.wheels)
    return run_stage(args.stage, record, args.wheels, args.minutes)


if __name__ == "__main__":
    raise SystemExit(main())
