"""Which frameworks work on a worker's GPU: tried at the start and after each failure that the GPU may have caused.

When none works, the worker leaves its device: it keeps its row and says why, takes no job and no doorbell, and looks
again from time to time. All other workers of the host go on.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager

from shared.events import emit
from shared.settings import Settings
from worker.runners.device_lock import DeviceBusy, DeviceLock
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
        #: Whether a thread looks again.
        self._is_watched = False
        #: Whether a thread tries what another worker suspects.
        self._is_suspected = False
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

    def try_peers(self, framework: str, device_ids: Sequence[str]) -> str | None:
        """Try the framework on the other devices of a gang; return why it does not work on one, or None: it works.

        The worker of that device is told to try it, too. One that something else uses counts as working.
        """
        for device_id in device_ids:
            slot = DeviceLock.of_id(device_id, self._settings)
            with contextlib.suppress(DeviceBusy), self._held(slot, self._settings.slot_wait_seconds):
                problem = self._runners.probe(framework, device_id)
                if problem is not None:
                    slot.suspicion.touch()
                    emit("device.suspected", worker=self._name, device=device_id, problem=problem)
                    return f"{device_id}: {problem}"
        return None

    def hear_peers(self) -> None:
        """Try this worker's device soon if the worker of a gang found that it fails and the driver has it."""
        slot = self._runners.slot
        if slot is None or self._lost is not None or self._is_suspected or not slot.suspicion.exists():
            return
        self._is_suspected = True
        threading.Thread(target=self._try_suspected, args=(slot,), name="device-suspected", daemon=True).start()

    def _try_suspected(self, slot: DeviceLock) -> None:
        """Try the device unless a runner uses it now; then the next heartbeat finds the suspicion again."""
        try:
            with contextlib.suppress(DeviceBusy), self._device(0.0):
                self._try_all()
                slot.suspicion.unlink(missing_ok=True)
        finally:
            self._is_suspected = False

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
            self.left_because = None if self._runners.frameworks else summary(unusable)
            has_left = self.left_because is not None
            watch, self._is_watched = has_left and not self._is_watched, self._is_watched or has_left
        if watch:
            threading.Thread(target=self._look_again, name="device-health", daemon=True).start()
        for framework, problem in unusable.items():
            emit("framework.unusable", worker=self._name, framework=framework, problem=problem)
        if has_left and not had_left:
            emit("worker.left_device", worker=self._name, reason=self.left_because)
        elif had_left and not has_left:
            emit("worker.returned_to_device", worker=self._name, frameworks=sorted(self._runners.frameworks))
        self.on_change()

    def _look_again(self) -> None:
        while self._stays_watched() and not self._closed.wait(self._settings.device_retry_seconds):
            if self._lost is None and self.left_because is not None:
                with contextlib.suppress(DeviceBusy), self._device(0.0):
                    self._try_all()

    def _stays_watched(self) -> bool:
        with self._lock:
            self._is_watched = self.left_because is not None
            return self._is_watched

    def _device(self, seconds: float) -> AbstractContextManager[None]:
        """Hold the device's lock while frameworks are tried. Raises DeviceBusy."""
        return self._held(self._runners.slot, seconds)

    @contextlib.contextmanager
    def _held(self, slot: DeviceLock | None, seconds: float) -> Iterator[None]:
        held = slot.wait(seconds, lambda: not self._closed.is_set(), self._report_busy) if slot else None
        try:
            yield
        finally:
            if held is not None:
                os.close(held)

    def _report_busy(self, busy: DeviceBusy) -> None:
        emit("slot.busy", worker=self._name, job_id=None, pids=busy.pids)


def summary(unusable: dict[str, str]) -> str:
    """Return one reason for all frameworks, or each with its own."""
    if len(set(unusable.values())) == 1:
        return next(iter(unusable.values()))
    return "; ".join(f"{framework}: {problem}" for framework, problem in unusable.items())
