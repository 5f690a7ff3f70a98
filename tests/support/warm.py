"""Starts processes by forking one that has imported their modules, which saves two seconds of CPU each.

    process = warm.start("worker.main", ["--device", "cpu"], environment, log)

The child runs the module with its own arguments, environment, session and log file, as `python -m` would.
`Process` forks a process for a function from a server that has imported its modules.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import multiprocessing.context
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from multiprocessing import forkserver, popen_forkserver
from pathlib import Path
from typing import Any
from unittest import mock

from nightshift.cli.registry import COMMANDS
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
    "lone worker": ["tests.support.lone_worker", "tests.support.probe", "worker.runners.runner"],
    "training": [*preloads("torch"), *preloads("tensorflow")],
}
#: Imported last: nothing of all this is garbage, and a collection in a fork would copy the pages it looks through.
FROZEN = "tests.support.frozen"
#: Environment of a server: what a forkserver needs before it loads a library, and room for the environments of what is
#: forked, which /proc shows in the place of the server's own (`tests.support.prefork`).
ENVIRONMENT = {**forkserver_environment(1), "ROOM": "-" * 32_000}
_PR_SET_PDEATHSIG = 1


@cache
def _server(name: str) -> forkserver.ForkServer:
    """Return a server; `multiprocessing` itself has only one."""
    server = forkserver.ForkServer()
    server.set_forkserver_preload([*SERVERS[name], FROZEN])
    with mock.patch.dict(os.environ, ENVIRONMENT):
        server.ensure_running()
    return server


class _Popen(popen_forkserver.Popen):
    _lock = threading.Lock()

    def _launch(self, process_obj: Any) -> None:
        connect = _server(process_obj.server).connect_to_new_process
        with self._lock, mock.patch.object(forkserver, "connect_to_new_process", connect):
            super()._launch(process_obj)


class Process(multiprocessing.context.ForkServerProcess):
    """A `multiprocessing.Process` that is forked from the server of that name."""

    def __init__(self, server: str, *, target: Callable[..., None], args: tuple[Any, ...], name: str = "") -> None:
        super().__init__(target=target, args=args, name=name or None)
        self.server = server

    @staticmethod
    def _Popen(process_obj: Any) -> Any:
        return _Popen(process_obj)


class WarmProcess:
    """A started process with the part of `subprocess.Popen` that tests use."""

    def __init__(self, started: Process) -> None:
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
    server: str = "stack",
    children: int = 0,
) -> WarmProcess:
    """Start a process without waiting for it; stderr goes to `errors` (default: the log).

    `children`: how many modules that it starts are preforked. It dies with the server it was forked from, and so with
    this process.
    """
    args = (module, list(arguments), dict(environment), log, errors or log, children)
    started = Process(server, target=_run, name=module, args=args)
    started.start()
    return WarmProcess(started)


def run(
    module: str, *arguments: str, environment: Mapping[str, str], server: str = "stack"
) -> subprocess.CompletedProcess[str]:
    """Run `python -m module` and return its result like `subprocess.run`."""
    with tempfile.TemporaryDirectory() as folder:
        out, errors = Path(folder, "out"), Path(folder, "errors")
        code = start(module, arguments, environment, out, errors, server).wait()
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
