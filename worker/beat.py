"""`python -m worker.beat`: a small Celery worker with embedded beat that runs maintenance.

Celery beat only sends `nightshift.maintain` every few seconds; it has no schedules of ours. If no message arrives
(Redis is down), a timer of this process runs the same services; they are idempotent, and any number of these processes
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
from shared.plugins import load_plugins
from shared.settings import Settings, get_settings
from shared.storage import refuse_unusable
from worker.celery_app import queue_guard, redis_transport, remote_control
from worker.celery_app.tasks import register_maintain, silence_celery
from worker.maintenance import run_all

#: Intervals without a message after which the timer runs maintenance.
MISSED_INTERVALS = 2


class MaintenanceRunner:
    """Runs maintenance when asked, or by a timer if it was not asked for too long."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._last = 0.0
        self._leaving = threading.Event()

    def run(self) -> None:
        """Run one pass of maintenance."""
        self._last = monotonic()
        run_all(get_engine(), self._settings)

    def start_timer(self) -> None:
        """Start the timer thread."""
        threading.Thread(target=self._watch, name="maintenance-timer", daemon=True).start()

    def _watch(self) -> None:
        while not self._leaving.wait(self._settings.maintenance_seconds):
            if monotonic() - self._last > MISSED_INTERVALS * self._settings.maintenance_seconds:
                self.run()


def main() -> int:
    """Run maintenance until the process is stopped, and return the exit code."""
    argparse.ArgumentParser(prog="nightshift beat", description="Maintenance; any number may run.").parse_args()
    settings = get_settings()
    configure_logging(settings, "beat")
    tracing.setup("beat")
    try:
        load_plugins(settings)
        refuse_cluster_server(settings)
        refuse_unusable(settings)
        redis_transport.install()
        remote_control.install()
        app = make_celery(settings, "worker")
    except ConfigurationError as error:
        print_error(f"nightshift beat: {error}")
        return 2
    maintenance = MaintenanceRunner(settings)
    register_maintain(app, maintenance.run)
    silence_celery()
    maintenance.start_timer()
    worker = make_worker(app, settings)
    start_beat(app)
    worker.start()
    return int(worker.exitcode or 0)


def start_beat(app: Celery) -> None:
    """Run Celery's beat as a thread.

    As an option of the worker it would be a separate process, which outlives `kill -9`.
    """
    EmbeddedService(
        app,
        thread=True,
        scheduler_cls="celery.beat:Scheduler",  # in memory: there is no state to keep
    ).start()


def make_worker(app: Celery, settings: Settings) -> Any:
    """Return the Celery worker that consumes the maintenance queue."""
    app.conf.beat_schedule = {
        "maintenance": {
            "task": MAINTAIN_TASK,
            "schedule": settings.maintenance_seconds,
            "options": {"queue": MAINTENANCE_QUEUE},
        }
    }
    name = f"beat@{settings.host_name}"
    return queue_guard.make_worker(app, name, [MAINTENANCE_QUEUE], "threads", settings.maintenance_seconds)


if __name__ == "__main__":
    entrypoint.run("beat", main)
