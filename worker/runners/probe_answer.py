"""Reads what a probing runner says about its device (`worker.runners.device_probe`)."""

from __future__ import annotations

import signal
from contextlib import suppress
from typing import TYPE_CHECKING

from pydantic import ValidationError

from worker.runners.forkserver_client import KILL_SECONDS
from worker.runners.messages import Failed, Result, decode_from_runner

if TYPE_CHECKING:
    from worker.runners.runner_pool import Runner

#: How long a probe may take (seconds). A driver that compiles kernels for a new card takes a minute, a device that
#: hangs takes for ever.
PROBE_SECONDS = 180.0
_CHUNK = 65_536


def answer_of(runner: Runner) -> str | None:
    """Return why the framework does not work on the device; None: it works."""
    runner.sock.settimeout(PROBE_SECONDS)
    try:
        said = _read(runner)
    except TimeoutError:
        return f"a small computation on the device did not end within {PROBE_SECONDS:.0f} s"
    with suppress(ValidationError):
        frame = decode_from_runner(said)
        if isinstance(frame, Failed):
            return frame.message
        if isinstance(frame, Result):
            return None
    return f"a small computation on the device ended its process ({_ending(runner)})"


def _read(runner: Runner) -> bytes:
    """Return the only frame that the runner sends before it ends; nothing if it died."""
    said = b""
    with suppress(ConnectionError):
        while data := runner.sock.recv(_CHUNK):
            said += data
    return said.rstrip(b"\n")


def _ending(runner: Runner) -> str:
    runner.handle.ended.wait(KILL_SECONDS)
    exit = runner.handle.exit
    how = "unknown" if exit is None or exit.lost else f"exit code {exit.code}"
    if exit is not None and exit.signal is not None and not exit.lost:
        how = signal.Signals(exit.signal).name
    while not runner.err.ended and runner.err.read():
        continue
    return f"{how}; {runner.err.tail()}" if runner.err.tail() else how
