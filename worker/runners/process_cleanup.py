"""Finds and kills processes that outlived their runner, anywhere in the process tree.

All processes below a forkserver carry a tag in their environment: the slot (path of its device lock) and the family,
which names the worker by pid and start time. Sessions, double forks and exec keep the tag; a reused pid does not have
it. A process is killed only if its tag names a family that is known to be dead.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import psutil

from shared.events import emit

SLOT, FAMILY = "NIGHTSHIFT_SLOT", "NIGHTSHIFT_FAMILY"
#: Seconds that killed processes may take to end; one can hang in the kernel.
GONE_SECONDS = 5.0


@dataclass(frozen=True)
class ProcessTag:
    """The tag of a process: its device slot and its family."""

    slot: str
    family: str  # <pid of the worker>:<its start, in clock ticks>:<its pid namespace>:<number of the forkserver>


def tag_name(number: int) -> str:
    """Return the family of a forkserver that this process starts."""
    return f"{os.getpid()}:{_start_time(os.getpid())}:{_namespace()}:{number}"


def kill_tagged(family: str) -> list[int]:
    """Kill all processes of a dead forkserver of this worker."""
    return _kill_all(lambda tag: tag.family == family)


def kill_orphans(slot: str, holders: Sequence[int] = ()) -> list[int]:
    """Kill all processes of dead workers of this slot, and those of dead workers among the holders of its lock.

    The ranks of a gang hold several devices, and have the tag of one.
    """
    others = {tag for pid in holders if (tag := _tag(pid)) is not None}
    return _kill_all(lambda tag: (tag.slot == slot or tag in others) and not _worker_lives(tag.family))


def _kill_all(matches: Callable[[ProcessTag], bool]) -> list[int]:
    """Kill matching processes until none is found: one that forks meanwhile leaves children with the tag."""
    killed: set[int] = set()
    give_up = time.monotonic() + GONE_SECONDS
    while found := list(_matching(matches)):
        for pid in found:
            _kill(pid, matches)
        killed |= set(found)
        if time.monotonic() > give_up:
            break
        time.sleep(0.01)
    if killed:
        emit("orphans.ended", pids=sorted(killed))
    return sorted(killed)


def _matching(matches: Callable[[ProcessTag], bool]) -> Iterator[int]:
    for pid in psutil.pids():
        if pid != os.getpid() and (tag := _tag(pid)) is not None and matches(tag):
            yield pid


def _kill(pid: int, matches: Callable[[ProcessTag], bool]) -> None:
    """Kill by a pidfd after checking the tag again, because the pid may have been reused."""
    with contextlib.suppress(OSError):
        descriptor = os.pidfd_open(pid)
        try:
            tag = _tag(pid)
            if tag is not None and matches(tag):
                signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        finally:
            os.close(descriptor)


def _tag(pid: int) -> ProcessTag | None:
    """Return the tag of a process. None: it has none, is not readable, or is a zombie."""
    try:
        found = psutil.Process(pid).environ()
    except psutil.Error:
        return None
    slot, family = found.get(SLOT), found.get(FAMILY)
    return ProcessTag(slot, family) if slot and family else None


def _worker_lives(family: str) -> bool:
    """Return whether the worker of a family may still run.

    In another container its pid has no meaning here, and it counts as running.
    """
    pid, started, namespace, _ = family.split(":")
    return int(namespace) != _namespace() or _start_time(int(pid)) == int(started)


def _namespace() -> int:
    return os.stat("/proc/self/ns/pid").st_ino


def _start_time(pid: int) -> int | None:
    """Return when a process started, in clock ticks since boot, or None if it does not run.

    psutil converts it to the wall clock: after that was set, a living worker would be taken for another process.
    """
    try:
        with open(f"/proc/{pid}/stat") as file:
            fields = file.read().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in ("Z", "X") else int(fields[19])
