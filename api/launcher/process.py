"""One child process of the launcher: start, watch, restart with back-off, stop. It dies with the launcher."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from shared.restarts import deaths_after, restart_delay

#: A log larger than this (bytes) is renamed to `.1` when its part starts.
MAX_LOG_BYTES = 10_000_000
#: Time for the last output of an ended part to be copied from its pipe to its log (seconds).
COPY_SECONDS = 2.0

_PR_SET_PDEATHSIG = 1
# Loaded before any fork: the child must not import between fork and exec.
_libc = ctypes.CDLL(None, use_errno=True)


def die_with(parent: int) -> Callable[[], None]:
    """Return a function for a child to call before exec: the kernel kills it when `parent` dies (Linux)."""

    def in_child() -> None:
        if hasattr(_libc, "prctl"):
            _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
            if os.getppid() != parent:  # the parent died before prctl
                os._exit(1)

    return in_child


@dataclass
class ManagedProcess:
    """A part as a child process. `ready` returns whether it answers, is called only while it lives, and is quick."""

    name: str
    argv: Sequence[str]
    env: Mapping[str, str]
    log: Path
    ready: Callable[[], bool]
    #: Converts a line of its output (without newline) to a line of our log; None: it writes its log itself.
    render: Callable[[str], str] | None = None
    process: subprocess.Popen[bytes] | None = None
    deaths: int = 0
    log_begins: int = 0  # length of the log when the current process started (bytes)
    started_at: float = 0.0
    start_again_at: float | None = field(default=None)
    copier: threading.Thread | None = field(default=None)

    def start(self) -> None:
        """Start it in a new session, so that Ctrl-C reaches only the launcher, which stops the parts in order."""
        self._rotate_log()
        with self.log.open("ab") as log:
            self.log_begins = log.tell()
            self.process = subprocess.Popen(
                list(self.argv),
                env=dict(self.env),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE if self.render else log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=die_with(os.getpid()),
            )
        self.started_at, self.start_again_at = time.monotonic(), None
        if self.render:
            self.copier = threading.Thread(target=self._copy, args=(self.process.stdout, self.render), daemon=True)
            self.copier.start()

    def _copy(self, output: IO[bytes], render: Callable[[str], str]) -> None:
        """Copy its output to the log until the end of the output."""
        with output, self.log.open("a", buffering=1) as log:
            for line in output:
                log.write(render(line.decode(errors="replace").rstrip("\n")) + "\n")

    def _finish_log(self) -> None:
        """Wait until its last output is in the log."""
        if self.copier is not None:
            self.copier.join(COPY_SECONDS)

    def _rotate_log(self) -> None:
        if self.log.exists() and self.log.stat().st_size > MAX_LOG_BYTES:
            self.log.replace(self.log.with_suffix(".log.1"))

    @property
    def pid(self) -> int | None:
        """Return the process id of the current or last process."""
        return self.process.pid if self.process else None

    @property
    def alive(self) -> bool:
        """Return whether the process is running."""
        return self.process is not None and self.process.poll() is None

    def notice_death(self) -> str | None:
        """Return how it ended, once per death, and schedule the restart; None while it runs."""
        if self.start_again_at is not None or self.process is None or self.process.poll() is None:
            return None
        self._finish_log()
        now = time.monotonic()
        self.deaths = deaths_after(self.deaths, now - self.started_at)
        self.start_again_at = now + restart_delay(self.deaths)
        return ending(self.process.returncode)

    def restart_if_due(self) -> bool:
        """Start it again once the delay has passed; return whether it was started."""
        if self.start_again_at is None or time.monotonic() < self.start_again_at:
            return False
        self.start()
        return True

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, if it is running."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(number)

    def kill_group(self) -> None:
        """Send SIGKILL to the part and its process group, and wait for it."""
        if self.process is not None and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        self._finish_log()

    def log_tail(self, lines: int = 12) -> str:
        """Return the last lines that the current or last process wrote."""
        try:
            with self.log.open("rb") as log:
                log.seek(self.log_begins)
                return "\n".join(log.read().decode(errors="replace").splitlines()[-lines:])
        except OSError:
            return ""


def ending(returncode: int) -> str:
    """Describe an exit status: `exit code 3`, `SIGKILL`."""
    if returncode >= 0:
        return f"exit code {returncode}"
    try:
        return signal.Signals(-returncode).name
    except ValueError:
        return f"signal {-returncode}"
