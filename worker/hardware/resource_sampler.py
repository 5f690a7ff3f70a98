"""Samples of what a runner uses, by a thread of its supervisor's: the training knows nothing of it and waits for
nothing."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from time import monotonic
from types import TracebackType

import psutil

from shared.fleet.nvml import GpuReader
from shared.jobs.transitions import SampleRow
from worker.hardware.devices import Device
from worker.hardware.resource_usage import process_seconds

#: Seconds to the first sample, and between two at least. Too low: rows nobody looks at. Too high: a peak is missed.
FIRST, LEAST = 1.0, 5.0
#: As a run gets longer its samples get rarer, one in so many parts of the time it has taken: a day leaves some 3,000.
PARTS = 500
#: Samples that wait to be written; a database that is away for long costs the oldest.
MOST_WAITING = 200


class ResourceSampler:
    """`with Sampler(pid, device) as sampler:` … `sampler.take()`."""

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
        """Those since it was asked last, oldest first, each with its age."""
        now = self._clock()
        with self._lock:
            waiting, self._waiting = self._waiting, []
        return [SampleRow(max(0.0, now - at), *_values(row)) for at, row in waiting]

    def sample(self) -> None:
        """Look once; nothing is noted of a runner that is gone."""
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
        """Of the whole device, which is this runner's alone."""
        usage = self._gpu.read() if self._gpu is not None else None
        return (usage.busy_percent, usage.memory_used_bytes) if usage else (None, None)


def _process(pid: int | None) -> psutil.Process | None:
    with suppress(psutil.Error):
        return psutil.Process(pid) if pid is not None else None
    return None


def _values(row: SampleRow) -> tuple[float | None, int | None, float | None, int | None]:
    return row.cpu_percent, row.memory_bytes, row.gpu_percent, row.gpu_memory_bytes
