"""Measure an idle `nightshift up`: seconds until it is ready, and the memory of each process.

    python -m benchmarks.bench_memory [--source FOLDER] [--settle 3] [--job torch] [--job tensorflow]

`--source` is another checkout, whose stack is started instead of this one's. `--job` runs a training of one step in
that framework (repeated: one after the other) and prints the seconds until the step has been seen. The memory is
measured when all processes together have used less than a twentieth of a core for `--settle` seconds: before the first
job, and after the last.

Memory is PSS: shared pages count in parts, so that the sum is what the machine lacks. Bias against us: the processes of
a stack start at once on the cores that the measurement uses too.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.measured_stack import MeasuredStack


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--source", type=Path, default=Path(__file__).parents[1])
    parser.add_argument("--settle", type=float, default=3.0)
    parser.add_argument("--job", action="append", default=[], choices=("torch", "tensorflow"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        stack = MeasuredStack(options.source.resolve(), Path(name))
        try:
            stack.settle(options.settle)
            result: dict[str, Any] = {"ready_seconds": round(stack.ready_seconds, 2), "idle_mb": stack.memory()}
            result["first_step_seconds"] = [[job, stack.first_step_seconds(job)] for job in options.job]
            if options.job:
                stack.settle(options.settle)
                result["after_jobs_mb"] = stack.memory()
        finally:
            stack.stop()
    versions = {name: version(name) for name in ("torch", "tensorflow", "celery", "fastapi", "flower")}
    machine = {"cpus": os.cpu_count(), "machine": platform.machine(), "python": platform.python_version()}
    print(json.dumps({"bench": "memory", **result, **machine, **versions}, indent=1))


if __name__ == "__main__":
    main()
