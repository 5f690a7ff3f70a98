"""Lets a test module take over jobs in the runners of a worker, without a hook in the worker's code.

Forkservers inherit PYTHONPATH. Each folder here has a `sitecustomize.py`, which Python imports at its start: in a
forkserver it wraps `worker.kinds.run_part`.
"""

from __future__ import annotations

import os
from importlib import import_module
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[3]


def pythonpath(name: str) -> str:
    """Return a PYTHONPATH with which the module `tests.support.<name>` takes over jobs."""
    return os.pathsep.join([str(ROOT), str(Path(__file__).parent / name)])


def take_over(module: str) -> None:
    """Let `module.run` run each job in the place of its kind, unless it returns None."""
    from worker import kinds

    run = kinds.run_part

    def wrapped(assignment: Any, reporter: Any) -> Any:
        taken = import_module(module).run(assignment, reporter)
        return run(assignment, reporter) if taken is None else taken

    kinds.run_part = wrapped
