"""The launcher's side of `api.launcher.checks`: starts that process and keeps what it has told."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from api.launcher.process import die_with, ending
from nightshift.errors import ConfigurationError

_CHUNK = 65_536


class CheckProcess:
    """A process that checks the parts during a start. `poll` reads what it has written since; nothing blocks."""

    def __init__(self, arguments: Sequence[str], env: Mapping[str, str]) -> None:
        self._arguments, self._env = list(arguments), dict(env)
        self._process: subprocess.Popen[bytes] | None = None
        self._unread = b""
        self.is_prepared = False
        self.answering: set[str] = set()
        #: Worker -> the frameworks that it has loaded.
        self.loaded: dict[str, list[str]] = {}

    def start(self) -> None:
        """Start it in a new session, because Ctrl-C is for the launcher."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "api.launcher.checks", *self._arguments],
            env=self._env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            start_new_session=True,
            preexec_fn=die_with(os.getpid()),
        )
        assert self._process.stdout is not None
        os.set_blocking(self._process.stdout.fileno(), False)

    @property
    def pid(self) -> int | None:
        """Return its process id, while it runs."""
        return self._process.pid if self._process else None

    def poll(self) -> None:
        """Read what it has told. Raises ConfigurationError with its error, or if it ended before it was done."""
        if self._process is None or self._process.stdout is None:
            return
        code = self._process.poll()  # before its last lines are read
        self._read(self._process.stdout.fileno())
        if code is not None:
            self._process.stdout.close()
            self._process = None
            if code != 0:
                raise ConfigurationError(f"the checks of the start ended ({ending(code)})")

    def _read(self, pipe: int) -> None:
        while True:
            try:
                data = os.read(pipe, _CHUNK)
            except BlockingIOError:
                break
            if not data:
                break
            self._unread += data
        *lines, self._unread = self._unread.split(b"\n")
        for line in lines:
            self._take(json.loads(line))

    def _take(self, told: dict[str, Any]) -> None:
        if "error" in told:
            raise ConfigurationError(told["error"])
        self.is_prepared |= "prepared" in told
        if "answers" in told:
            self.answering.add(told["answers"])
        if "loaded" in told:
            self.loaded[told["loaded"]] = told["frameworks"]

    def stop(self) -> None:
        """End it, if it runs."""
        if self._process is not None and self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
