"""Tries a framework on one GPU in a process of its own: this one must load none and open no device."""

from __future__ import annotations

import json
import os
import subprocess
import sys

from api.launcher.process import ending
from shared.fleet.gpus import VISIBLE
from shared.fleet.nvml import Gpu

#: How long a try may take (seconds): the import, and on a new card the compilation of kernels.
SECONDS = 240.0


def problem_of(gpu: Gpu, framework: str) -> str | None:
    """Return why a framework does not work on a GPU; None: it works."""
    command = [sys.executable, "-m", "worker.runners.device_probe", framework]
    environment = {**os.environ, VISIBLE: gpu.uuid, "TF_CPP_MIN_LOG_LEVEL": "3"}
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=SECONDS, check=True)
        problem: str | None = json.loads(done.stdout.splitlines()[-1])["problem"]
    except subprocess.TimeoutExpired:
        return f"no answer within {SECONDS:.0f} s"
    except subprocess.CalledProcessError as error:
        last = (error.stderr.strip().splitlines() or [""])[-1]
        return f"its process ended ({ending(error.returncode)}) {last}".rstrip()
    except (LookupError, ValueError):
        return "its process said nothing"
    return problem
