"""The parts of a worker that its attempts share."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Engine

from shared.fleet.plugins import InstalledPlugin
from shared.settings import Settings
from worker.hardware.devices import Device
from worker.runners.runner_pool import RunnerPool
from worker.supervisor.device_health import DeviceHealth


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
