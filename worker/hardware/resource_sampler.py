"""Samples of what a runner uses, by a thread of its supervisor's: the training knows nothing of it and waits for nothing."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from time import monotonic
from types import TracebackType

from shared.jobs.transitions import SampleRow
from worker.hardware.devices import Device
from worker.hardware.resource_usage import ResourceMonitor

#: Seconds to the first sample, and between two at least. Too low: rows nobody looks at. Too high: a peak is missed.
FIRST, LEAST = 1.0, 5.0
#: As a run gets longer its samples get rarer, one in so many parts of the time it has taken: a day leaves some 3,000.
PARTS = 500
#: Samples that wait to be written; a database that is away for long costs the oldest.
MOST_WAITING = 200

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


class ResourceSampler:
    """`with Sampler(pid, device) as sampler:` … `sampler.take()`."""

    def __init__(
        self, pid: int | None, device: Device, proc: Path = Path("/proc"), clock: Callable[[], float] = monotonic
    ) -> None:
        self._folder, self._clock = proc / str(pid), clock
        self._gpu = ResourceMonitor(device, proc) if device.kind == "gpu" else None
        self._began = clock()
        self._before = self._cpu_seconds(), self._began
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
        seconds, memory = self._cpu_seconds(), self._memory()
        if seconds is None or memory is None:
            return
        now = self._clock()
        row = SampleRow(0.0, self._cpu_percent(seconds, now), memory, *self._of_gpu())
        with self._lock:
            self._waiting = [*self._waiting, (now, row)][-MOST_WAITING:]

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

    def _cpu_seconds(self) -> float | None:
        """User and system time of all its threads."""
        with suppress(OSError, ValueError, IndexError):
            # The name, in parentheses, may hold anything; what is counted begins behind it.
            fields = (self._folder / "stat").read_text().rpartition(")")[2].split()
            return (int(fields[11]) + int(fields[12])) / _TICKS
        return None

    def _memory(self) -> int | None:
        with suppress(OSError, ValueError, IndexError):
            return int((self._folder / "statm").read_text().split()[1]) * _PAGE
        return None

    def _of_gpu(self) -> tuple[float | None, int | None]:
        """Of the whole device, which is this runner's alone."""
        if self._gpu is None:
            return None, None
        usage = self._gpu.read()
        return usage.busy_percent, usage.memory_used_bytes


def _values(row: SampleRow) -> tuple[float | None, int | None, float | None, int | None]:
    return row.cpu_percent, row.memory_bytes, row.gpu_percent, row.gpu_memory_bytes
