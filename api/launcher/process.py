"""One child process of the launcher: started, watched, restarted with back-off, stopped. It dies with the launcher."""

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

#: Seconds before a part that died is started again: the first restart is quick, a crash loop slows down.
FIRST_DELAY = 0.5
LONGEST_DELAY = 30.0
#: A part that ran so long (seconds) has recovered: its next death counts as the first.
HEALTHY_AFTER = 60.0
#: A log larger than this (bytes) is set aside as `.1` when its part starts.
MAX_LOG_BYTES = 10_000_000
#: How long the last lines of a part that ended may take to reach its log (seconds); they are in a pipe already.
LAST_WORDS_SECONDS = 2.0

_PR_SET_PDEATHSIG = 1
# Loaded before any fork: the child must not import between fork and exec.
_libc = ctypes.CDLL(None, use_errno=True)


def die_with(parent: int) -> Callable[[], None]:
    """What a child runs before exec: the kernel kills it when `parent` dies, however that happens (Linux)."""

    def in_child() -> None:
        if hasattr(_libc, "prctl"):
            _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
            if os.getppid() != parent:  # it died before the request was heard
                os._exit(1)

    return in_child


def restart_delay(deaths: int) -> float:
    """Seconds to wait after the `deaths`-th death in a row (1, 2, …)."""
    return float(min(LONGEST_DELAY, FIRST_DELAY * 2 ** min(deaths - 1, 10)))


@dataclass
class ManagedProcess:
    """`ready` says whether it answers; it is asked only while the process lives, and must not block for long."""

    name: str
    argv: Sequence[str]
    env: Mapping[str, str]
    log: Path
    ready: Callable[[], bool]
    #: Makes a line of our log out of one of its own (without the newline); None: it writes them itself.
    render: Callable[[str], str] | None = None
    process: subprocess.Popen[bytes] | None = None
    deaths: int = 0
    log_begins: int = 0  # where in the log the present process began (bytes)
    started_at: float = 0.0
    start_again_at: float | None = field(default=None)
    copier: threading.Thread | None = field(default=None)

    def start(self) -> None:
        """Its own session: a Ctrl-C in the terminal reaches the launcher alone, which then stops parts in order."""
        self._set_old_log_aside()
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

    def _copy(self, said: IO[bytes], render: Callable[[str], str]) -> None:
        """Until it has nothing more to say."""
        with said, self.log.open("a", buffering=1) as log:
            for line in said:
                log.write(render(line.decode(errors="replace").rstrip("\n")) + "\n")

    def _heard_out(self) -> None:
        """What it said last is in the log."""
        if self.copier is not None:
            self.copier.join(LAST_WORDS_SECONDS)

    def _set_old_log_aside(self) -> None:
        if self.log.exists() and self.log.stat().st_size > MAX_LOG_BYTES:
            self.log.replace(self.log.with_suffix(".log.1"))

    @property
    def pid(self) -> int | None:
        return self.process.pid if self.process else None

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def notice_death(self) -> str | None:
        """How it ended, once per death; schedules the restart."""
        if self.start_again_at is not None or self.process is None or self.process.poll() is None:
            return None
        self._heard_out()
        now = time.monotonic()
        self.deaths = 1 if now - self.started_at > HEALTHY_AFTER else self.deaths + 1
        self.start_again_at = now + restart_delay(self.deaths)
        return ending(self.process.returncode)

    def restart_if_due(self) -> bool:
        if self.start_again_at is None or time.monotonic() < self.start_again_at:
            return False
        self.start()
        return True

    def signal(self, number: signal.Signals) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(number)

    def kill_group(self) -> None:
        """SIGKILL for the part and whatever it started in its session."""
        if self.process is not None and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        self._heard_out()

    def last_words(self, lines: int = 12) -> str:
        """The end of what the present (or last) process wrote."""
        try:
            with self.log.open("rb") as log:
                log.seek(self.log_begins)
                return "\n".join(log.read().decode(errors="replace").splitlines()[-lines:])
        except OSError:
            return ""


def ending(returncode: int) -> str:
    """`exit code 3`, `SIGKILL`."""
    if returncode >= 0:
        return f"exit code {returncode}"
    try:
        return signal.Signals(-returncode).name
    except ValueError:
        return f"signal {-returncode}"
