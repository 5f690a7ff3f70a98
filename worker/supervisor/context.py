"""What every attempt of a worker shares."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Engine

from shared.settings import Settings
from worker.hardware.devices import Device
from worker.runners.runner_pool import RunnerPool


@dataclass(frozen=True)
class WorkerContext:
    name: str  # gpu0@host
    device: Device
    engine: Engine
    settings: Settings
    runners: RunnerPool
