"""`make bench`: run every benchmark (or those named), one after the other, each in its own process.

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

FOLDER = Path(__file__).parent
PACKAGES = ("torch", "tensorflow", "numpy", "celery", "redis", "sqlalchemy", "fastapi")


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
    """Run the benchmarks; return the number that failed."""
    unknown = set(wanted) - set(names())
    if unknown:
        print(f"no benchmark called {', '.join(sorted(unknown))}; there are: {', '.join(names())}", file=sys.stderr)
        return 2
    print(machine(), flush=True)
    failed = 0
    for name in wanted or names():
        print(f"\n== {name}", flush=True)
        failed += subprocess.run([sys.executable, "-m", f"benchmarks.bench_{name}"], check=False).returncode != 0
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
