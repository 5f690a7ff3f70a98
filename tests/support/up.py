"""`nightshift up` on free ports, with helpers for tests.

The launcher and the parts that it starts are forked from a warm process (`tests.support.warm`).
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from nightshift.client.client import Client, Job
from tests.support import stack, warm
from tests.support.stack import gone, runs
from tests.support.takeover import pythonpath

#: Short leases, so that a dead worker's job is rescued soon; one thread, so that runs are comparable on any machine;
#: torch alone (TensorFlow takes ten seconds to import); no drawing.
FAST = {
    "PYTHONPATH": pythonpath("unpainted"),
    "NIGHTSHIFT_FRAMEWORKS": "torch",
    "NIGHTSHIFT_LEASE_SECONDS": "15",
    "NIGHTSHIFT_HEARTBEAT_SECONDS": "1",
    "NIGHTSHIFT_MAINTENANCE_SECONDS": "1",
    "NIGHTSHIFT_TORCH_THREADS": "1",
}
#: The server that the launcher and its parts are forked from.
SERVER = "stack with torch"
#: What a launcher starts with `python -m`, and how many of these may die before a start costs an import.
PARTS, DEATHS = 5, 5


class Up:
    """A running `nightshift up`."""

    def __init__(self, data_dir: Path, **settings: str) -> None:
        self.data_dir = data_dir
        self.stderr = ""  # on stderr, once it has stopped
        self._folder = Path(tempfile.mkdtemp(prefix="nightshift-up-"))
        self._out, self._errors = self._folder / "stdout", self._folder / "stderr"
        self._out.touch()
        environment = {name: value for name, value in os.environ.items() if not name.startswith("NIGHTSHIFT_")}
        arguments = ["up", "--data-dir", str(data_dir), "--port", "0", "--flower-port", "0", "--device", "cpu"]
        self.process = warm.start(
            "nightshift.cli.app",
            arguments,
            environment | FAST | settings,
            self._out,
            self._errors,
            SERVER,
            PARTS + DEATHS,
        )
        ready = re.fullmatch(r"ready: api=(\S+) flower=(\S+) data=(.*)\n", eventually(self._first_line))
        if ready is None:
            raise RuntimeError(f"the stack did not start: {self._errors.read_text()}")
        self.api, self.flower, self.data = ready.groups()
        self.client = Client(self.api, data_dir=data_dir)

    def _first_line(self) -> str | None:
        """Return stdout once it has a line or the process has ended."""
        ended, out = self.process.poll() is not None, self._out.read_text()
        return out if "\n" in out else "nothing" if ended else None

    def cli(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command as in another terminal; it finds the stack by its data folder."""
        return nightshift("--data-dir", str(self.data_dir), *arguments)

    def part(self, module: str) -> psutil.Process:
        """Return the child that runs `python -m module`."""
        (found,) = self.parts(module)
        return found

    def parts(self, module: str) -> list[psutil.Process]:
        """Return the children that run `python -m module`: normally none or one."""
        return [child for child in psutil.Process(self.process.pid).children() if alive(child) and runs(module, child)]

    def runner(self) -> psutil.Process:
        """Return the process of the present attempt, the only child of a forkserver."""
        forkservers = [p for p in self.part("worker.main").children() if runs("worker.runners.forkserver", p)]
        (found,) = [runner for forkserver in forkservers for runner in forkserver.children()]
        return found

    def everything(self) -> list[psutil.Process]:
        launcher = psutil.Process(self.process.pid)
        return [launcher, *launcher.children(recursive=True)]

    def stop(self) -> int:
        """Send SIGTERM and return the exit code."""
        self.client.close()
        self.process.send_signal(signal.SIGTERM)
        return self._ended()

    def kill(self) -> None:
        self.process.kill()
        self._ended()

    def _ended(self) -> int:
        """Wait for the end and return the exit code."""
        code = self.process.wait(timeout=180)
        self.stderr = self._errors.read_text()
        shutil.rmtree(self._folder)
        return code


def nightshift(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command of the command line."""
    return warm.run("nightshift.cli.app", *arguments, environment=os.environ, of=SERVER)


@contextmanager
def up(data_dir: Path, **settings: str) -> Iterator[Up]:
    """Run `nightshift up`. `settings` are environment variables."""
    stack = Up(data_dir, **settings)
    try:
        yield stack
    finally:
        if stack.process.poll() is None:
            stack.stop()


def alive(process: psutil.Process) -> bool:
    return not gone(process)


def eventually(condition: Callable[[], Any], seconds: float = 180.0) -> Any:
    """Wait for a true value of `condition` and return it."""
    return stack.eventually("the condition did not become true", condition, seconds)


def has_checkpoint(job: Job) -> bool:
    """Return whether the job is running and has a checkpoint; fail if it has already finished."""
    assert not job.refresh().is_final, f"the job finished too early: {job.state} {job.error}"
    return job.state == "running" and bool(job.checkpoints())
