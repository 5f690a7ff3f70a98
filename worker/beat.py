"""`python -m worker.beat`: maintenance. A small Celery worker with embedded beat, which pokes itself through Redis.

Celery beat holds no schedule of ours: it only sends `nightshift.maintain` every few seconds. When no poke arrives
(Redis is away) a timer of this process runs the same services; they are idempotent, and any number of these processes
may run.
"""

from __future__ import annotations

import argparse
import threading
from time import monotonic
from typing import Any

from celery import Celery
from celery.beat import EmbeddedService

from nightshift.errors import ConfigurationError
from shared import entrypoint, tracing
from shared.celery_app import MAINTAIN_TASK, MAINTENANCE_QUEUE, make_celery, refuse_cluster_server
from shared.console import print_error
from shared.db.engine import get_engine
from shared.logging import configure_logging
from shared.settings import Settings, get_settings
from shared.storage import refuse_unusable
from worker.celery_app import queue_guard, redis_transport, remote_control
from worker.celery_app.tasks import hush_celery, register_maintain
from worker.maintenance import run_all

#: Intervals without a poke after which maintenance runs by itself.
PATIENCE = 2


class MaintenanceRunner:
    """Runs maintenance at a poke, or without one when none came for too long."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._last = 0.0
        self._leaving = threading.Event()

    def run(self) -> None:
        self._last = monotonic()
        run_all(get_engine(), self._settings)

    def start_timer(self) -> None:
        threading.Thread(target=self._watch, name="upkeep", daemon=True).start()

    def _watch(self) -> None:
        while not self._leaving.wait(self._settings.maintenance_seconds):
            if monotonic() - self._last > PATIENCE * self._settings.maintenance_seconds:
                self.run()


def main() -> int:
    argparse.ArgumentParser(prog="nightshift beat", description="Maintenance; any number may run.").parse_args()
    settings = get_settings()
    configure_logging(settings, "beat")
    tracing.setup("beat")
    try:
        refuse_cluster_server(settings)
        refuse_unusable(settings)
        redis_transport.install()
        remote_control.install()
        app = make_celery(settings, "worker")
    except ConfigurationError as error:
        print_error(f"nightshift beat: {error}")
        return 2
    upkeep = MaintenanceRunner(settings)
    register_maintain(app, upkeep.run)
    hush_celery()
    upkeep.start_timer()
    worker = make_worker(app, settings)
    start_timer(app)
    worker.start()
    return int(worker.exitcode or 0)


def start_timer(app: Celery) -> None:
    """Celery's beat as a thread. As the worker's option it would be a process of its own, which outlives a `kill
    -9`."""
    EmbeddedService(
        app,
        thread=True,
        scheduler_cls="celery.beat:Scheduler",  # in memory: there is nothing worth a file
    ).start()


def make_worker(app: Celery, settings: Settings) -> Any:
    queue_guard.install(app, settings.maintenance_seconds)
    app.conf.beat_schedule = {
        "maintenance": {
            "task": MAINTAIN_TASK,
            "schedule": settings.maintenance_seconds,
            "options": {"queue": MAINTENANCE_QUEUE},
        }
    }
    return app.Worker(
        hostname=f"beat@{settings.host_name}",
        pool_cls="threads",
        concurrency=1,
        queues=[MAINTENANCE_QUEUE],
        task_events=True,
        without_mingle=True,
        without_gossip=True,
        quiet=True,
    )


if __name__ == "__main__":
    entrypoint.run("beat", main)
