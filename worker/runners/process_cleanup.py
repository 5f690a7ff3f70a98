"""Finds and ends what is left of runners whose parents are gone, wherever in the process tree it went.

Everything below a forkserver carries a mark in its environment: the slot (its lock's path) and the family, which names
the worker by pid and start time. Sessions, double forks and exec keep the mark; pids that are used again do not have
it. A process is ours to kill only if its mark names a family that is known to be dead.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import psutil

from shared.events import emit

SLOT, FAMILY = "NIGHTSHIFT_SLOT", "NIGHTSHIFT_FAMILY"
#: How long killed processes may take to be gone (seconds); one can hang in the kernel.
GONE_SECONDS = 5.0


@dataclass(frozen=True)
class ProcessTag:
    slot: str
    family: str  # <pid of the worker>:<its start, in clock ticks>:<its pid namespace>:<number of the forkserver>


def tag_name(number: int) -> str:
    """Of a forkserver that this process starts."""
    return f"{os.getpid()}:{_started(os.getpid())}:{_namespace()}:{number}"


def kill_tagged(family: str) -> list[int]:
    """Of a forkserver of this worker that has died: what its runners left behind."""
    return _end(lambda mark: mark.family == family)


def kill_orphans(slot: str) -> list[int]:
    """Of earlier workers of this slot that are dead: what their runners left behind."""
    return _end(lambda mark: mark.slot == slot and not _worker_lives(mark.family))


def _end(ours: Callable[[ProcessTag], bool]) -> list[int]:
    """Kill until nobody is found any more: who forks while he is looked for leaves children with the same mark."""
    ended: set[int] = set()
    give_up = time.monotonic() + GONE_SECONDS
    while found := list(_marked(ours)):
        for pid in found:
            _kill(pid, ours)
        ended |= set(found)
        if time.monotonic() > give_up:
            break
        time.sleep(0.01)
    if ended:
        emit("orphans.ended", pids=sorted(ended))
    return sorted(ended)


def _marked(ours: Callable[[ProcessTag], bool]) -> Iterator[int]:
    for pid in psutil.pids():
        if pid != os.getpid() and (mark := _mark(pid)) is not None and ours(mark):
            yield pid


def _kill(pid: int, ours: Callable[[ProcessTag], bool]) -> None:
    """By a descriptor of the process, looked at once more: its number may be another's by now."""
    with contextlib.suppress(OSError):
        descriptor = os.pidfd_open(pid)
        try:
            mark = _mark(pid)
            if mark is not None and ours(mark):
                signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        finally:
            os.close(descriptor)


def _mark(pid: int) -> ProcessTag | None:
    """None: it has none, is not ours to look at, or is a zombie (whose memory, and mark, are gone)."""
    try:
        found = psutil.Process(pid).environ()
    except psutil.Error:
        return None
    slot, family = found.get(SLOT), found.get(FAMILY)
    return ProcessTag(slot, family) if slot and family else None


def _worker_lives(family: str) -> bool:
    """In another container its pid means nothing here: then it is not ours to say."""
    pid, started, namespace, _ = family.split(":")
    return int(namespace) != _namespace() or _started(int(pid)) == int(started)


def _namespace() -> int:
    return os.stat("/proc/self/ns/pid").st_ino


def _started(pid: int) -> int | None:
    """When a process began, in clock ticks since boot; None: there is none, or it is dead and not yet reaped.

    psutil knows it by the wall clock only: after that was set, a living worker would be taken for another process.
    """
    try:
        with open(f"/proc/{pid}/stat") as file:
            fields = file.read().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in ("Z", "X") else int(fields[19])
