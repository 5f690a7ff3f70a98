"""Tries a framework on the GPU of this process, which is thrown away afterwards: it keeps a CUDA context.

A worker forks a runner for it. `python -m worker.runners.device_probe FRAMEWORK` does it in a process of its own and
prints {"framework", "problem"} as JSON; `nightshift check` uses that.
"""

from __future__ import annotations

import json
import sys
from importlib import import_module

from shared.errors import DeviceFailed
from worker.runners.failures import failure, is_out_of_memory
from worker.runners.messages import Failed, Result

#: Framework -> the module whose `problem()` tries it.
PROBES = {"torch": "worker.hardware.torch_probe", "tensorflow": "worker.hardware.tensorflow_probe"}
#: Most characters of a reason.
_LONGEST = 300


def problem_of(framework: str) -> str | None:
    """Return why a framework does not work on this process's GPU; None: it does."""
    try:
        found: str | None = import_module(PROBES[framework]).problem()
    except BaseException as error:
        if is_out_of_memory(error):  # the GPU answers; something else uses its memory now
            return None
        found = failure(error).message
    return found[:_LONGEST] if found else None


def probe(framework: str) -> Result | Failed:
    """Return what a probing runner sends as its last frame."""
    problem = problem_of(framework)
    if problem is None:
        return Result(metrics={})
    return Failed(error_type=DeviceFailed.type, message=problem, retryable=True)


if __name__ == "__main__":
    print(json.dumps({"framework": sys.argv[1], "problem": problem_of(sys.argv[1])}))
