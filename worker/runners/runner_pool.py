"""A spare runner, forked and warmed up while the worker is idle, so that a first step starts at once.

Like any other runner it serves one job only. There is at most one spare, for the framework used last, and none while a
job runs, which needs the memory and cores. A job that resumes from a checkpoint gets a cold runner: it must not differ
in anything from the one that wrote the checkpoint, and a tenth of a second does not matter there.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from nightshift.errors import Unavailable
from worker.runners.device_lock import DeviceLock
from worker.runners.forkserver_client import ForkserverClient, RunnerHandle
from worker.runners.output_capture import LineReader

#: Idle seconds before a spare is made: between consecutive jobs it would only delay the next.
IDLE_SECONDS = 0.2
#: Lines of stderr that go into the error of a runner that died.
TAIL_LINES = 5


@dataclass(frozen=True)
class Runner:
    """A forked runner with the worker's ends of its socket and pipes."""

    framework: str
    handle: RunnerHandle
    sock: socket.socket
    out: LineReader
    err: LineReader

    def close(self) -> None:
        """Kill the runner with all its processes, and close the descriptors."""
        if self.handle.exit is None:
            self.handle.kill()
        self.sock.close()
        self.out.close()
        self.err.close()


@dataclass(frozen=True)
class RunnerSettings:
    """Settings common to all runners of a worker."""

    device: str
    threads: int | None
    memory_limit_bytes: int | None
    slot: DeviceLock | None = None  # the lock of the device, which every runner holds


def fork_runner(
    framework: str,
    forkserver: ForkserverClient,
    settings: RunnerSettings,
    on_exit: Callable[[], None],
    warm: bool,
    lock: int | None,
) -> Runner:
    """Fork a runner that waits for its assignment and holds `lock`, which is closed here.

    Raises ForkserverUnavailable.
    """
    own, remote = socket.socketpair()
    out_read, out_write = os.pipe()
    err_read, err_write = os.pipe()
    request = {"memory_limit_bytes": settings.memory_limit_bytes}
    if warm:
        request |= {"warm": framework, "device": settings.device, "threads": settings.threads}  # type: ignore[dict-item]
    try:
        handle = forkserver.fork(remote, out_write, err_write, on_exit, request, lock)
    except BaseException:
        for descriptor in (own.detach(), out_read, err_read):
            os.close(descriptor)
        raise
    finally:
        remote.close()
        os.close(out_write)
        os.close(err_write)
        if lock is not None:
            os.close(lock)
    return Runner(framework, handle, own, LineReader(out_read), LineReader(err_read, TAIL_LINES))


class RunnerPool:
    """Provides runners to attempts."""

    def __init__(
        self, forkservers: Mapping[str, ForkserverClient], settings: RunnerSettings, keep_spare: bool = True
    ) -> None:
        self._forkservers, self._settings, self._keep_spare = forkservers, settings, keep_spare
        self._lock = threading.Lock()
        self._spare: Runner | None = None
        self._timer: threading.Timer | None = None
        self._framework = next(iter(forkservers), "")
        self._busy = False

    @property
    def frameworks(self) -> frozenset[str]:
        return frozenset(self._forkservers)

    @property
    def slot(self) -> DeviceLock | None:
        return self._settings.slot

    def take(
        self, framework: str, on_exit: Callable[[], None], fresh_start: bool, lock: Callable[[], int | None]
    ) -> Runner:
        """Return a runner for one attempt: the spare if it suits, else a new one.

        The spare already holds the device; for a new one, `lock` acquires it. Raises ForkserverUnavailable, and what
        `lock` raises.
        """
        with self._lock:
            self._busy = True
            self._framework = framework
            if self._timer is not None:
                self._timer.cancel()
            spare, self._spare = self._spare, None
        if spare is not None:
            spare.handle.on_exit = on_exit
            if fresh_start and spare.framework == framework and spare.handle.exit is None:
                spare.out.discard()
                spare.err.discard()
                return spare
            spare.close()
        return fork_runner(framework, self._forkservers[framework], self._settings, on_exit, False, lock())

    def idle(self) -> None:
        """Prepare a spare soon: the attempt is over."""
        with self._lock:
            self._busy = False
            if self._keep_spare and self._framework:
                self._timer = threading.Timer(IDLE_SECONDS, self._prepare)
                self._timer.daemon = True
                self._timer.start()

    def close(self) -> None:
        """Kill the spare and prepare no more."""
        with self._lock:
            self._busy, self._keep_spare = True, False
            spare, self._spare = self._spare, None
        if spare is not None:
            spare.close()

    def _prepare(self) -> None:
        with self._lock:
            if self._busy or self._spare is not None:
                return
            try:
                lock = self._settings.slot.take() if self._settings.slot else None
                self._spare = fork_runner(
                    self._framework, self._forkservers[self._framework], self._settings, lambda: None, True, lock
                )
            except Unavailable:
                return  # the next attempt will get the error
