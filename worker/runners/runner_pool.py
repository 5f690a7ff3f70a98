"""A spare runner, so that a first step starts at once: forked while a job writes its model, warm if the worker is idle.

It is not warmed up between consecutive jobs, where that costs more processor time than it saves the next one. It holds
nothing of the device: the lock comes with the assignment, and for a GPU it is forked only, because a warm-up would
leave a CUDA context there for ever, which other installations on this host miss.

Like any other runner it serves one job only. There is at most one spare, for the framework used last, and none while a
job trains, which needs the memory and cores. It ends with its forkserver. A job that resumes from a checkpoint gets a
cold runner: it must not differ in anything from the one that wrote the checkpoint, and a tenth of a second does not
matter there.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

from nightshift.errors import Unavailable
from worker.runners.device_lock import DeviceLock
from worker.runners.forkserver_client import START_SECONDS, ForkserverClient, ForkserverUnavailable, RunnerHandle
from worker.runners.forkservers import Forkservers
from worker.runners.messages import WarmUp, encode
from worker.runners.output_capture import LineReader
from worker.runners.probe_answer import answer_of

#: Idle seconds before a spare warms up: between consecutive jobs that would only delay the next.
IDLE_SECONDS = 0.2
#: Lines of stderr that go into the error of a runner that died.
TAIL_LINES = 5


def _nothing() -> None:
    return None


@dataclass
class Runner:
    """A forked runner with the worker's ends of its socket and pipes, and the lock that its assignment brings."""

    framework: str
    handle: RunnerHandle
    sock: socket.socket
    out: LineReader
    err: LineReader
    lock: int | None = None
    #: Those of the other devices of a gang.
    more_locks: list[int] = field(default_factory=list)
    #: Of a spare: it has been asked to warm up.
    is_warm: bool = False
    #: Called once, when the runner is closed.
    on_close: Callable[[], None] = _nothing

    def assign(self, assignment: bytes) -> None:
        """Send the assignment; from then on the runner holds the lock. Raises OSError if it died."""
        try:
            locks = [*([] if self.lock is None else [self.lock]), *self.more_locks]
            sent = socket.send_fds(self.sock, [assignment], locks) if locks else 0
            self.sock.sendall(assignment[sent:])
        finally:
            self._release()

    def warm_up(self, asked: WarmUp) -> None:
        """Let a spare warm up; an assignment that comes meanwhile waits. Raises OSError if it died."""
        self.is_warm = True
        self.sock.sendall(encode(asked))

    def _release(self) -> None:
        """Close this process's copies of the locks."""
        for lock in (self.lock, *self.more_locks):
            if lock is not None:
                os.close(lock)
        self.lock, self.more_locks = None, []

    def close(self) -> None:
        """Kill the runner with all its processes, and close the descriptors."""
        if self.handle.exit is None:
            self.handle.kill()
        self._release()
        self.sock.close()
        self.out.close()
        self.err.close()
        on_close, self.on_close = self.on_close, _nothing
        on_close()


@dataclass(frozen=True)
class RunnerSettings:
    """Settings common to all runners of a worker."""

    device: Literal["cpu", "gpu"]
    threads: int | None
    memory_limit_bytes: int | None
    slot: DeviceLock | None = None  # the lock of the device, which every runner holds


def fork_runner(
    framework: str,
    forkserver: ForkserverClient,
    settings: RunnerSettings,
    options: Mapping[str, Any],
) -> Runner:
    """Fork a runner that waits for its assignment. Raises ForkserverUnavailable."""
    own, remote = socket.socketpair()
    out_read, out_write = os.pipe()
    err_read, err_write = os.pipe()
    request = {"memory_limit_bytes": settings.memory_limit_bytes, **options}
    try:
        handle = forkserver.fork(remote, out_write, err_write, lambda: None, request)
    except BaseException:
        for descriptor in (own.detach(), out_read, err_read):
            os.close(descriptor)
        raise
    finally:
        remote.close()
        os.close(out_write)
        os.close(err_write)
    return Runner(framework, handle, own, LineReader(out_read), LineReader(err_read, TAIL_LINES))


class RunnerPool:
    """Provides runners to attempts."""

    def __init__(self, forkservers: Forkservers, settings: RunnerSettings, keep_spare: bool = True) -> None:
        self._forkservers, self._settings, self._keep_spare = forkservers, settings, keep_spare
        forkservers.on_end = self._drop_spare
        self._lock = threading.Lock()
        self._spare: Runner | None = None
        self._timer: threading.Timer | None = None
        #: The framework of the spare: that of the last job, or the one that is warmed at the start; empty: none yet.
        self._framework = ""
        self._busy = False
        self._fails_on_device: dict[str, str] = {}

    @property
    def installed(self) -> list[str]:
        """Return the frameworks that there are forkservers of."""
        return self._forkservers.frameworks

    @property
    def warm(self) -> list[str]:
        """Return the frameworks whose next runner is forked at once."""
        return self._forkservers.warm

    @property
    def unusable(self) -> dict[str, str]:
        """Return the frameworks that do not work on the device, or cannot be loaded at all, with the reason."""
        return {**self._forkservers.failed, **self._fails_on_device}

    @unusable.setter
    def unusable(self, on_device: Mapping[str, str]) -> None:
        self._fails_on_device = dict(on_device)

    def follow(self, on_change: Callable[[], None]) -> None:
        """Call a function whenever a framework cannot be loaded any more, or can be again."""
        self._forkservers.on_change = on_change

    @property
    def frameworks(self) -> frozenset[str]:
        """Return the frameworks that work on the device."""
        return frozenset(self.installed) - self.unusable.keys()

    def warm_in_background(self, framework: str) -> None:
        """Start a forkserver before the first job needs it, without waiting; the spare follows once it is warm."""
        self._framework = framework
        self._forkservers.begin(framework)
        self._forkservers.end(framework)

    def warm_up(self, framework: str, is_wanted: Callable[[], bool], report: Callable[[str], None]) -> None:
        """Wait until a runner of the framework can be forked at once. Raises as `Forkservers.warm_up`."""
        self._forkservers.warm_up(framework, is_wanted, report)

    def probe(self, framework: str, device_id: str | None = None) -> str | None:
        """Return why a framework does not work on the device, tried in a runner that is thrown away; None: it works.

        `device_id`: the UUID of another GPU of this host.
        """
        keep = self._forkservers.is_running(framework) or framework == self._framework
        self._forkservers.begin(framework)
        try:
            of = {} if device_id is None else {"of": device_id}
            runner = self._fork(framework, probe=framework, **of)
            try:
                return answer_of(runner)
            finally:
                runner.close()
        except ForkserverUnavailable as error:
            return str(error)
        finally:
            self._forkservers.end(framework, keep)

    @property
    def slot(self) -> DeviceLock | None:
        return self._settings.slot

    def take(
        self, framework: str, on_exit: Callable[[], None], lock: Callable[[], int | None], threads: int | None = None
    ) -> Runner:
        """Return a runner for one attempt, with the lock of the device: the spare if it suits, else a new one.

        `threads` is the number that the attempt needs; None: that of its checkpoint, which a spare may not have.
        Raises ForkserverUnavailable, and what `lock` raises.
        """
        self._forkservers.begin(framework)
        spare = self._take_spare(framework, threads)
        try:
            held = lock()
            runner = spare or self._fork_with(held, framework)
        except BaseException:
            if spare is not None:
                spare.close()
            self._forkservers.end(framework)
            raise
        runner.on_close = partial(self._forkservers.end, framework)
        runner.lock, runner.handle.on_exit = held, on_exit
        if runner.handle.exit is not None:  # it ended before it had its function
            on_exit()
        return runner

    def take_without_device(self, framework: str, on_exit: Callable[[], None]) -> Runner:
        """Return a new runner for the end of an attempt that needs its device no more.

        Raises ForkserverUnavailable.
        """
        self._forkservers.begin(framework)
        try:
            runner = self._fork(framework)
        except BaseException:
            self._forkservers.end(framework)
            raise
        runner.on_close = partial(self._forkservers.end, framework)
        runner.handle.on_exit = on_exit
        if runner.handle.exit is not None:  # it ended before it had its function
            on_exit()
        return runner

    def _take_spare(self, framework: str, threads: int | None) -> Runner | None:
        """Return the spare if it suits, and warm no other while the attempt runs; close one that does not suit."""
        with self._lock:
            self._busy = True
            self._framework = framework
            if self._timer is not None:
                self._timer.cancel()
            spare, self._spare = self._spare, None
        if spare is None:
            return None
        if threads == self._settings.threads and spare.framework == framework and spare.handle.exit is None:
            spare.out.discard()
            spare.err.discard()
            return spare
        spare.close()
        return None

    def _fork_with(self, held: int | None, framework: str) -> Runner:
        """Fork a runner; on an error close the lock that it would have got."""
        try:
            return self._fork(framework)
        except BaseException:
            if held is not None:
                os.close(held)
            raise

    def _fork(self, framework: str, **options: Any) -> Runner:
        return fork_runner(framework, self._forkservers.client(framework), self._settings, options)

    def fork_next(self) -> None:
        """Fork a spare, without waiting for it: the device will soon be free."""
        beside = {"is_beside_job": True}
        threading.Thread(target=self._prepare, kwargs=beside, name="next-runner", daemon=True).start()

    def idle(self) -> None:
        """Warm up a spare soon: the attempt is over."""
        with self._lock:
            self._busy = False
            if self._keep_spare and self._framework:
                self._timer = threading.Timer(IDLE_SECONDS, self._prepare_warm)
                self._timer.daemon = True
                self._timer.start()

    def close(self) -> None:
        """Kill the spare and prepare no more."""
        with self._lock:
            self._busy, self._keep_spare = True, False
            spare, self._spare = self._spare, None
        if spare is not None:
            spare.close()

    def _prepare_warm(self) -> None:
        """Warm up the spare, and fork it first if there is none."""
        self._prepare()
        with self._lock:
            spare = self._spare
            # A context on a GPU would stay there.
            if spare is None or self._busy or spare.is_warm or self._settings.device == "gpu":
                return
            asked = WarmUp(framework=spare.framework, device=self._settings.device, threads=self._settings.threads)
            with suppress(OSError):  # it died; it will not be taken
                spare.warm_up(asked)

    def _prepare(self, *, is_beside_job: bool = False) -> None:
        """Fork a spare if there is none and, unless it may be beside a job, the worker is idle."""
        framework = self._framework
        # Not under the lock: a job of another framework must not wait for it. One that is not running stays so.
        if not self._forkservers.client(framework).wait_ready(START_SECONDS):
            return
        with self._lock:
            is_wanted = self._keep_spare and self._spare is None and (is_beside_job or not self._busy)
            is_ready = self._forkservers.client(framework).is_ready
            if not is_wanted or framework != self._framework or not is_ready:
                return
            try:
                self._spare = self._fork(framework)
            except Unavailable:
                return  # the next attempt will get the error

    def _drop_spare(self, framework: str) -> None:
        """Close the spare of a forkserver that is about to end."""
        with self._lock:
            if self._spare is None or self._spare.framework != framework:
                return
            spare, self._spare = self._spare, None
        spare.close()
