"""The parts of a worker that its attempts share."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Engine

from shared.fleet.plugins import InstalledPlugin
from shared.settings import Settings
from worker.hardware.devices import Device
from worker.runners.runner_pool import RunnerPool
from worker.supervisor.device_health import DeviceHealth, summary


@dataclass(frozen=True)
class WorkerContext:
    """A worker, its device and its connections."""

    name: str  # gpu0@host
    device: Device
    engine: Engine
    settings: Settings
    runners: RunnerPool
    plugins: tuple[InstalledPlugin, ...] = ()
    health: DeviceHealth | None = None  # of a GPU
    takes_auto: bool = True  # else only jobs that require its device

    @property
    def left_because(self) -> str | None:
        """Return why the worker left its device: no framework works there, or none can be loaded; None: one works."""
        by_trial = self.health.left_because if self.health else None
        return by_trial or (None if self.runners.frameworks else summary(self.runners.unusable))
