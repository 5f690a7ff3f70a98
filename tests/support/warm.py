"""Starts processes by forking one that has imported their modules, which saves two seconds of CPU each.

    process = warm.start("worker.main", ["--device", "cpu"], environment, log)

The child runs the module with its own arguments, environment, session and log file, as `python -m` would.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from nightshift.cli.registry import COMMANDS
from nightshift.testing import processes
from tests.support.prefork import run_module
from worker.hardware.frameworks import forkserver_environment, preloads

#: Modules of the processes of a stack.
PROCESSES = [command.module for command in COMMANDS.values() if command.is_process]
#: Modules that each server imports before its first fork.
SERVERS = {
    "stack": [*PROCESSES, "tests.support.shifted_clock", "tests.support.probe"],
    "stack with torch": [
        *preloads("torch"),
        *PROCESSES,
        "tests.support.shifted_clock",
        "worker.hardware.health",
        "api.commands.up",
        "api.launcher.command",
    ],
    "training": [*preloads("torch"), *preloads("tensorflow"), "nightshift.testing.attempts"],
    "lone worker": ["tests.support.lone_worker", "tests.support.probe", "worker.runners.runner"],
}
#: Environment of a server: what a forkserver needs before it loads a library, and room for the environments of what is
#: forked, which /proc shows in the place of the server's own (`tests.support.prefork`).
ENVIRONMENT = {**forkserver_environment(1), "ROOM": "-" * 32_000}
_PR_SET_PDEATHSIG = 1


def server(name: str) -> processes.Server:
    """Return the server of that name, which starts when the first process is forked from it."""
    return processes.Server(tuple(SERVERS[name]), tuple(ENVIRONMENT.items()))


class Process(processes.Process):
    """A process for a function, forked from the server of that name."""

    def __init__(self, name: str, *, target: Callable[..., None], args: tuple[Any, ...]) -> None:
        super().__init__(server(name), target=target, args=args)


class WarmProcess:
    """A started process with the part of `subprocess.Popen` that tests use."""

    def __init__(self, started: processes.Process) -> None:
        self._process = started

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired(self._process.name, timeout or 0)
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)


def start(
    module: str,
    arguments: Sequence[str],
    environment: Mapping[str, str],
    log: Path,
    errors: Path | None = None,
    of: str = "stack",
    children: int = 0,
) -> WarmProcess:
    """Start a process of the server `of` without waiting for it; stderr goes to `errors` (default: the log).

    `children`: how many modules that it starts are preforked. It dies with the server it was forked from, and so with
    this process.
    """
    args = (module, list(arguments), dict(environment), log, errors or log, children)
    started = processes.Process(server(of), target=_run, name=module, args=args)
    started.start()
    return WarmProcess(started)


def run(
    module: str, *arguments: str, environment: Mapping[str, str], of: str = "stack"
) -> subprocess.CompletedProcess[str]:
    """Run `python -m module` and return its result like `subprocess.run`."""
    with tempfile.TemporaryDirectory() as folder:
        out, errors = Path(folder, "out"), Path(folder, "errors")
        code = start(module, arguments, environment, out, errors, of).wait()
        return subprocess.CompletedProcess([module, *arguments], code, out.read_text(), errors.read_text())


def _run(
    module: str, arguments: list[str], environment: dict[str, str], log: Path, errors: Path, children: int
) -> None:
    os.setsid()
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    for standard, path in ((1, log), (2, errors)):
        output = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(output, standard)
        os.close(output)
    sys.exit(run_module([sys.executable, "-m", module, *arguments], environment, children))
