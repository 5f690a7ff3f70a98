"""Which frameworks work on a worker's GPU: tried at the start and after each failure that the GPU may have caused.

When none works, the worker leaves its device: it keeps its row and says why, takes no job and no doorbell, and looks
again from time to time. All other workers of the host go on.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator

from shared.events import emit
from shared.settings import Settings
from worker.runners.device_lock import DeviceBusy
from worker.runners.runner_pool import RunnerPool


def _nothing() -> None:
    return None


class DeviceHealth:
    """Tries the frameworks, and keeps the pool of runners to those that work."""

    def __init__(self, name: str, runners: RunnerPool, settings: Settings) -> None:
        self._name, self._runners, self._settings = name, runners, settings
        #: Called after each change of `left_because` or of the frameworks.
        self.on_change: Callable[[], None] = _nothing
        #: Why the worker left its device; None: it works on it.
        self.left_because: str | None = None
        #: Set once all frameworks have been tried.
        self.tried = threading.Event()
        self._lost: str | None = None
        self._lock = threading.Lock()
        self._closed = threading.Event()

    def try_first(self) -> None:
        """Try all frameworks at the start. While another installation uses the device, they count as working."""
        try:
            with contextlib.suppress(DeviceBusy), self._device(self._settings.slot_wait_seconds):
                self._try_all()
        finally:
            self.tried.set()

    def try_again(self, framework: str) -> str | None:
        """Try all frameworks after a failure; return why the failed one does not work, or None: it works."""
        if self._lost is None:
            with contextlib.suppress(DeviceBusy), self._device(self._settings.slot_wait_seconds):
                self._try_all()
        return self._runners.unusable.get(framework)

    def hear_driver(self, lost: str | None) -> None:
        """Leave the device once the driver says that it is lost; try nothing on it before the driver says else."""
        self._lost = lost
        if lost is not None and self.left_because is None:
            self._apply(dict.fromkeys(self._runners.installed, f"the NVIDIA driver says: {lost}"))

    def close(self) -> None:
        """Look no more."""
        self._closed.set()

    def _try_all(self) -> None:
        problems = {framework: self._runners.probe(framework) for framework in self._runners.installed}
        self._apply({framework: problem for framework, problem in problems.items() if problem is not None})

    def _apply(self, unusable: dict[str, str]) -> None:
        """Keep to the frameworks that work; leave the device without one, or return to it."""
        with self._lock:
            had_left = self.left_because is not None
            self._runners.unusable = unusable
            self.left_because = None if self._runners.frameworks else _summary(unusable)
            has_left = self.left_because is not None
        for framework, problem in unusable.items():
            emit("framework.unusable", worker=self._name, framework=framework, problem=problem)
        if has_left and not had_left:
            emit("worker.left_device", worker=self._name, reason=self.left_because)
            threading.Thread(target=self._look_again, name="device-health", daemon=True).start()
        elif had_left and not has_left:
            emit("worker.returned_to_device", worker=self._name, frameworks=sorted(self._runners.frameworks))
        self.on_change()

    def _look_again(self) -> None:
        while self.left_because is not None and not self._closed.wait(self._settings.device_retry_seconds):
            if self._lost is None:
                with contextlib.suppress(DeviceBusy), self._device(0.0):
                    self._try_all()

    @contextlib.contextmanager
    def _device(self, seconds: float) -> Iterator[None]:
        """Hold the device's lock while frameworks are tried. Raises DeviceBusy."""
        slot = self._runners.slot
        held = slot.wait(seconds, lambda: not self._closed.is_set(), self._report_busy) if slot else None
        try:
            yield
        finally:
            if held is not None:
                os.close(held)

    def _report_busy(self, busy: DeviceBusy) -> None:
        emit("slot.busy", worker=self._name, job_id=None, pids=busy.pids)


def _summary(unusable: dict[str, str]) -> str:
    """Return one reason for all frameworks, or each with its own."""
    if len(set(unusable.values())) == 1:
        return next(iter(unusable.values()))
    return "; ".join(f"{framework}: {problem}" for framework, problem in unusable.items())
