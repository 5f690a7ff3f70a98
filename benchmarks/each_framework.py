"""Runs a benchmark once for each framework, in a process of its own: two frameworks in one would share its threads."""

from __future__ import annotations

import subprocess
import sys

from nightshift.names import FRAMEWORKS


def run_each(module: str) -> int:
    """Run a module of `benchmarks` with this process's arguments for each framework; return how many failed."""
    command = [sys.executable, "-m", f"benchmarks.{module}", *sys.argv[1:], "--framework"]
    return sum(subprocess.run([*command, framework], check=False).returncode != 0 for framework in FRAMEWORKS)
