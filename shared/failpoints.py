"""Failpoints: named places in the code where a fault test can make this process die, freeze or fail.

`NIGHTSHIFT_FAILPOINT=name:action@nth[,name:action@nth…]`; action is `kill` (SIGKILL to this process), `stop:s` (SIGSTOP
for s seconds, once no other thread of this process is in a transaction that writes: it would keep other processes from
writing), `raise` (FailpointError) or `enospc` (OSError ENOSPC). Only the nth pass acts, counted from 1 (the default).
Without the variable a failpoint costs one check; it is refused in production.
"""

from __future__ import annotations

import errno
import os
import re
import signal
import subprocess
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

_VARIABLE = "NIGHTSHIFT_FAILPOINT"
_SYNTAX = re.compile(r"(?P<name>[a-z_.]+):(?P<action>kill|raise|enospc|stop:(?P<seconds>[0-9.]+))(@(?P<nth>[0-9]+))?")


class FailpointError(Exception):
    """Raised by the action `raise`; no code catches it by name."""


@dataclass
class _Armed:
    action: str
    seconds: float
    nth: int
    passes: int = 0


def _parse(text: str) -> dict[str, _Armed]:
    armed: dict[str, _Armed] = {}
    for part in filter(None, text.split(",")):
        found = _SYNTAX.fullmatch(part.strip())
        if found is None:
            raise ValueError(f"{_VARIABLE}: {part!r} is not name:action@nth (kill, stop:s, raise, enospc)")
        armed[found["name"]] = _Armed(
            found["action"].partition(":")[0], float(found["seconds"] or 0), int(found["nth"] or 1)
        )
    return armed


def _from_environment() -> dict[str, _Armed]:
    text = os.environ.get(_VARIABLE, "")
    if text and os.environ.get("NIGHTSHIFT_ENVIRONMENT") == "production":
        raise ValueError(f"{_VARIABLE} is for fault tests; unset it in production")
    return _parse(text)


_armed = _from_environment()
_lock = threading.Lock()
_while_stopped: Callable[[], AbstractContextManager[None]] = nullcontext


def may_stop() -> bool:
    """Return whether a failpoint that is armed suspends this process."""
    return any(armed.action == "stop" for armed in _armed.values())


def hold_while_stopped(held: Callable[[], AbstractContextManager[None]]) -> None:
    """Register what `stop` holds: locks that other threads must not have while the process is suspended."""
    global _while_stopped
    _while_stopped = held


def failpoint(name: str) -> None:
    """Act if `name` is armed and this is its nth pass."""
    if not _armed:
        return
    armed = _armed.get(name)
    if armed is None:
        return
    with _lock:
        armed.passes += 1
        due = armed.passes == armed.nth
    if due:
        _act(name, armed)


def arm(text: str) -> None:
    """Replace the armed failpoints of this process (for in-process tests); an empty text disarms all."""
    global _armed
    _armed = _parse(text)


def _act(name: str, armed: _Armed) -> None:
    if armed.action == "raise":
        raise FailpointError(name)
    if armed.action == "enospc":
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), name)
    if armed.action == "stop":
        with _while_stopped():
            _stop(armed.seconds)
    else:
        os.kill(os.getpid(), signal.SIGKILL)


def _stop(seconds: float) -> None:
    # Another process must send SIGCONT once this one is stopped: an earlier SIGCONT has no effect. It has its own
    # session, so that signals of a test to our process group do not reach it, and it ends with this one.
    pid = os.getpid()
    stopped = f"until ! [ -d /proc/{pid} ] || grep -q '^State:.T' /proc/{pid}/status; do sleep 0.01; done"
    wait = f"timeout {seconds} tail --pid={pid} -f /dev/null"
    command = ["/bin/sh", "-c", f"{stopped}; {wait}; kill -CONT {pid}"]
    subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    # Sent to this thread, which stops first then: one to the process is taken by its main thread while this one goes on
    signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)
