"""The environment of an attempt, stored to explain later why two runs differ."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from nightshift.versions import installed, installed_of
from shared.fleet.nvml import driver_version
from worker.hardware.frameworks import framework_of
from worker.supervisor.context import WorkerContext

ROOT = Path(__file__).parents[2]
#: Libraries that affect results.
_LIBRARIES = ("torch", "tensorflow", "keras", "numpy", "safetensors", "tokenizers", "scikit-learn", "onnxruntime")
#: User and password inside a URL.
_CREDENTIALS = re.compile(r"(?<=://)[^/@\s]+(?=@)")


def of(context: WorkerContext, spec: Mapping[str, Any], threads: int | None) -> dict[str, Any]:
    """Return the facts that are known about the environment.

    host, worker, python, platform, framework, libraries, cpu, cores, gpu, driver, threads, nightshift, commit, command
    """
    gpu = context.device.name if context.device.kind == "gpu" else None
    found = {
        "host": platform.node(),
        "worker": context.name,
        "framework": framework_of(dict(spec)),
        "gpu": gpu,
        "driver": driver_version() if gpu else None,
        "threads": threads,
        **_host(),
    }
    return {name: value for name, value in found.items() if value}


@cache
def _host() -> dict[str, Any]:
    """Return the facts that are the same for all attempts of this process."""
    return {
        "cpu": _processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "platform": platform.platform(terse=True),
        "libraries": installed_of(_LIBRARIES),
        "nightshift": installed(),
        "commit": _commit(),
        "command": _CREDENTIALS.sub("…", " ".join(sys.orig_argv))[:1_000],
    }


def _processor() -> str | None:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine() or None


def _commit() -> str | None:
    """Return the commit of a checkout; an installed package has none."""
    if not (ROOT / ".git").exists():
        return None
    with suppress(OSError, subprocess.SubprocessError):
        git = subprocess.run(
            ["git", "-C", str(ROOT), "rev-parse", "HEAD"], capture_output=True, text=True, timeout=5, check=True
        )
        return git.stdout.strip() or None
    return None
