"""Periodic maintenance: `run_all` runs every `maintenance_seconds`."""

from __future__ import annotations

from sqlalchemy import Engine

from shared.settings import Settings
from worker.maintenance import (
    counter,
    deadline_enforcer,
    dispatcher,
    preemptor,
    pruner,
    remover,
    rescuer,
    reserver,
    scheduler,
    sweeper,
    webhook_sender,
)
from worker.maintenance.service import Counts, Service, run_services

#: In this order, so that jobs returned to the queue get a doorbell in the same pass.
SERVICES = (
    Service("rescuer", rescuer.run_once),
    Service("deadline_enforcer", deadline_enforcer.run_once),
    Service("scheduler", scheduler.run_once),
    Service("sweeper", sweeper.run_once),
    Service("preemptor", preemptor.run_once),
    Service("reserver", reserver.run_once),
    Service("dispatcher", dispatcher.run_once),
    Service("webhook_sender", webhook_sender.run_once),
    Service("remover", remover.run_once),
    Service("counter", counter.run_once, every_seconds=5.0),
    Service("pruner", pruner.run_once, every_seconds=60.0),
)


def run_all(engine: Engine, settings: Settings) -> dict[str, Counts]:
    """Run every service that is due and return what each did. Never raises."""
    return run_services(SERVICES, engine, settings)
