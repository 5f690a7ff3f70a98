"""Runs a worker process per device, because CUDA_VISIBLE_DEVICES is read once per process.

A process that ends is started again after a delay that grows in a crash loop, whichever it is; the others go on.
"""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from time import monotonic

from shared.events import emit
from shared.fleet.cores import share
from shared.restarts import deaths_after, restart_delay
from shared.settings import Settings
from worker.hardware.devices import Device
from worker.supervisor.self_pipe import SelfPipe


class DeviceProcess:
    """The worker process of one device."""

    def __init__(self, device: Device, environment: Mapping[str, str], options: Sequence[str]) -> None:
        self.device, self._options = device, options
        self._environment = environment
        self._deaths, self._started_at = 0, 0.0
        self.process: subprocess.Popen[bytes] | None = None
        self.start_again_at: float | None = None

    def start(self) -> None:
        """Start the process."""
        kind, index = self.device.kind, str(self.device.index)
        arguments = [sys.executable, "-m", "worker.main", "--device", kind, "--index", index, *self._options]
        self.process = subprocess.Popen(arguments, env={**os.environ, **self._environment, **self.device.environment()})
        self._started_at, self.start_again_at = monotonic(), None

    def notice_death(self) -> None:
        """Schedule the next start if the process has ended."""
        if self.start_again_at is not None or self.process is None or self.process.poll() is None:
            return
        now = monotonic()
        self._deaths = deaths_after(self._deaths, now - self._started_at)
        delay = restart_delay(self._deaths)
        self.start_again_at = now + delay
        emit("worker.ended", device=self.device.name, exit_code=self.process.returncode, starts_again_in=delay)

    def start_if_due(self) -> None:
        """Start the process again once the delay has passed."""
        if self.start_again_at is not None and monotonic() >= self.start_again_at:
            self.start()

    def send(self, number: int) -> None:
        """Send a signal, if it runs."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(number)

    def wait(self) -> int:
        """Wait for the end and return the exit code; 0 for one that waits for its next start."""
        return 0 if self.process is None or self.start_again_at is not None else abs(self.process.wait())


class DeviceProcesses:
    """All worker processes of this host; `run` returns after a signal, when all have ended."""

    def __init__(self, devices: Sequence[Device], settings: Settings, takes_auto: bool = True) -> None:
        threads = settings.torch_threads or share(len(devices))
        environment = {"NIGHTSHIFT_TORCH_THREADS": str(threads)}
        options = [] if takes_auto else ["--required-only"]
        if devices[0].kind == "cpu":
            options += ["--slots", str(len(devices))]
        self._all = [DeviceProcess(device, environment, options) for device in devices]
        self._wake = SelfPipe()
        self._asked: int | None = None
        self._is_stopping = False

    def run(self) -> int:
        """Run until SIGTERM or SIGINT, which is forwarded; return the largest exit code."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        signal.signal(signal.SIGCHLD, lambda *_: self._wake())
        for one in self._all:
            one.start()
        with selectors.DefaultSelector() as selector:
            selector.register(self._wake, selectors.EVENT_READ)
            while self._asked is None:
                for one in self._all:
                    one.notice_death()
                    one.start_if_due()
                if selector.select(self._seconds()):
                    self._wake.clear()
        self._is_stopping = True
        self._send(self._asked)
        return max(one.wait() for one in self._all)

    def _on_signal(self, number: int, _frame: object) -> None:
        """Note the first signal, which the loop forwards once it starts no process any more; forward others at once."""
        self._asked = number
        if self._is_stopping:
            self._send(number)
        self._wake()

    def _send(self, number: int) -> None:
        for one in self._all:
            one.send(number)

    def _seconds(self) -> float | None:
        """Return the seconds until the next start; None without one."""
        due = [one.start_again_at for one in self._all if one.start_again_at is not None]
        return max(0.0, min(due) - monotonic()) if due else None
