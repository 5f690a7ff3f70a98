"""What every attempt of a worker shares."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Engine

from shared.settings import Settings
from worker.devices import Device
from worker.spare import Runners


@dataclass(frozen=True)
class Workplace:
    name: str  # gpu0@host
    device: Device
    engine: Engine
    settings: Settings
    runners: Runners
