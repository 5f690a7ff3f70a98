"""What keeps the house in order whatever dies: `run_all` is poked every `maintenance_seconds`."""

from __future__ import annotations

from sqlalchemy import Engine

from shared.settings import Settings
from worker.maintenance import (
    deadline_enforcer,
    dispatcher,
    preemptor,
    pruner,
    remover,
    rescuer,
    scheduler,
    webhook_sender,
)
from worker.maintenance.service import Counts, Service, run_services

#: In this order: what comes back to the queue is rung for in the same pass.
SERVICES = (
    Service("rescuer", rescuer.run_once),
    Service("reaper", deadline_enforcer.run_once),
    Service("scheduler", scheduler.run_once),
    Service("preemptor", preemptor.run_once),
    Service("dispatcher", dispatcher.run_once),
    Service("courier", webhook_sender.run_once),
    Service("remover", remover.run_once),
    Service("pruner", pruner.run_once, every_seconds=60.0),
)


def run_all(engine: Engine, settings: Settings) -> dict[str, Counts]:
    """One pass of every service that is due; never raises. Returns what each did."""
    return run_services(SERVICES, engine, settings)
