"""The parts of a worker that its attempts share."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Engine

from shared.fleet.plugins import InstalledPlugin
from shared.settings import Settings
from worker.hardware.devices import Device
from worker.runners.runner_pool import RunnerPool


@dataclass(frozen=True)
class WorkerContext:
    """A worker, its device and its connections."""

    name: str  # gpu0@host
    device: Device
    engine: Engine
    settings: Settings
    runners: RunnerPool
    plugins: tuple[InstalledPlugin, ...] = ()
    takes_auto: bool = True  # else only jobs that require its device
