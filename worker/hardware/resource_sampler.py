"""Resource samples of a runner, taken by a thread of the supervisor, so that training is not slowed down."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from time import monotonic
from types import TracebackType

import psutil

from shared.fleet.gpu_usage import GpuReader
from shared.jobs.transitions import SampleRow
from worker.hardware.devices import Device
from worker.hardware.resource_usage import process_seconds

#: Seconds to the first sample, and least seconds between two. Too low: needless rows. Too high: peaks are missed.
FIRST, LEAST = 1.0, 5.0
#: The interval grows with the run to its elapsed time divided by this: about 3,000 samples in a day.
PARTS = 500
#: Most samples that wait to be written. While the database is down for long, the oldest are dropped.
MOST_WAITING = 200


class ResourceSampler:
    """Samples a process and its device within a `with` block; `take` returns the samples."""

    def __init__(self, pid: int | None, device: Device, clock: Callable[[], float] = monotonic) -> None:
        self._process, self._clock = _process(pid), clock
        self._gpu = GpuReader(device.uuid) if device.uuid else None
        self._began = clock()
        self._before = self._used()[0], self._began
        self._waiting: list[tuple[float, SampleRow]] = []
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sampler", daemon=True)

    def __enter__(self) -> ResourceSampler:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()

    def take(self) -> list[SampleRow]:
        """Return the samples since the last call, oldest first, each with its age."""
        now = self._clock()
        with self._lock:
            waiting, self._waiting = self._waiting, []
        return [replace(row, age=max(0.0, now - at)) for at, row in waiting]

    def sample(self) -> None:
        """Take a sample, unless the runner has ended."""
        seconds, memory = self._used()
        if seconds is None:
            return
        now = self._clock()
        row = SampleRow(0.0, self._cpu_percent(seconds, now), memory, *self._of_gpu())
        with self._lock:
            self._waiting = [*self._waiting, (now, row)][-MOST_WAITING:]

    def _used(self) -> tuple[float | None, int | None]:
        """Return the processor time (seconds) and the resident memory (bytes) of the runner; None when it is gone."""
        with suppress(psutil.Error):
            if self._process is not None:
                return process_seconds(self._process), self._process.memory_info().rss
        return None, None

    def _run(self) -> None:
        wait = FIRST
        while not self._stop.wait(wait):
            self.sample()
            wait = max(LEAST, (self._clock() - self._began) / PARTS)

    def _cpu_percent(self, seconds: float, now: float) -> float | None:
        (before, at), self._before = self._before, (seconds, now)
        if before is None or now <= at:
            return None
        return round(max(0.0, 100.0 * (seconds - before) / (now - at)), 1)

    def _of_gpu(self) -> tuple[float | None, int | None]:
        """Return load and memory of the whole device, which only this runner uses."""
        usage = self._gpu.read() if self._gpu is not None else None
        return (usage.busy_percent, usage.memory_used_bytes) if usage else (None, None)


def _process(pid: int | None) -> psutil.Process | None:
    with suppress(psutil.Error):
        return psutil.Process(pid) if pid is not None else None
    return None
