"""`make bench`: run every benchmark (or those named), one after the other, each in its own process.

One that fails, or for which something is missing, stops no other; the last lines name it.

    python -m benchmarks [NAME …]        NAME as in benchmarks/bench_NAME.py

Results to keep go to docs/benchmarks with date, hardware, versions and the command.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NoReturn

#: Exit code of a benchmark for which something is missing on this machine.
MISSING = 77
FOLDER = Path(__file__).parent
PACKAGES = ("torch", "tensorflow", "keras", "numpy", "celery", "redis", "sqlalchemy", "fastapi", "sqlmodel")


def names() -> list[str]:
    return sorted(path.stem.removeprefix("bench_") for path in FOLDER.glob("bench_*.py"))


def machine() -> str:
    """Return the hardware and versions, without which a result means nothing."""
    versions = "  ".join(f"{package} {found}" for package in PACKAGES if (found := _version(package)))
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    return (
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC  {_processor()}, {os.cpu_count()} cores, load {load}\n"
        f"Python {platform.python_version()}  {versions}"
    )


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def main(wanted: Sequence[str]) -> int:
    """Run the benchmarks, whatever becomes of one; return the number that failed."""
    unknown = set(wanted) - set(names())
    if unknown:
        print(f"no benchmark called {', '.join(sorted(unknown))}; there are: {', '.join(names())}", file=sys.stderr)
        return 2
    print(machine(), flush=True)
    ended = {name: run(name) for name in wanted or names()}
    failed = {name: code for name, code in ended.items() if code}
    print(f"\n{len(ended) - len(failed)} of {len(ended)} benchmarks ran", flush=True)
    for name, code in failed.items():
        print(f"  {name}: {reason(code)}")
    return sum(code != MISSING for code in failed.values())


def run(name: str) -> int:
    """Run a benchmark in a process of its own; return its exit code."""
    print(f"\n== {name}", flush=True)
    return subprocess.run([sys.executable, "-m", f"benchmarks.bench_{name}"], check=False).returncode


def reason(code: int) -> str:
    """Return why a benchmark has no result."""
    return "not run, see above for what is missing" if code == MISSING else f"failed with exit code {code}"


def missing(what: str) -> NoReturn:
    """End a benchmark for which something is missing, such as a data set or a package: no failure of the others."""
    print(what, file=sys.stderr)
    sys.exit(MISSING)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
