"""Change sweeps, for the API and Flower's pages. Durable on return; workers are woken for the jobs that are due."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection

from api.dependencies import Service
from shared.db.engine import write
from shared.sweeps import queries, transitions

#: What is done to a sweep by name; each raises Conflict where its state does not allow it.
_ACTIONS: dict[str, Callable[[Connection, str, str | None], None]] = {
    "pause": transitions.pause,
    "resume": transitions.resume,
    "stop": transitions.stop,
    "cancel": transitions.cancel,
    "delete": transitions.delete_sweep,
}


def act(service: Service, sweep_id: str, owner: str | None, action: str) -> None:
    """Pause, resume, stop, cancel or delete a sweep. Raises NotFound; Conflict."""
    with write(service.engine) as conn:
        _ACTIONS[action](conn, sweep_id, owner)
        due = queries.queued_jobs(conn, sweep_id) if action in ("resume", "stop") else {}
    for device, job_id in due.items():
        service.ring(device, job_id)


def add_trials(service: Service, sweep_id: str, owner: str | None, count: int) -> None:
    """Add trials to a sweep. Raises NotFound; Conflict; InvalidRequest."""
    with write(service.engine) as conn:
        transitions.add_trials(conn, sweep_id, owner, count)


def detail(conn: Connection, sweep_id: str, owner: str | None) -> dict[str, Any]:
    """Return a sweep with its trials and newest events. Raises NotFound."""
    shown = queries.sweep_view(queries.get_sweep(conn, sweep_id, owner))
    return {**shown, "trial_list": queries.trials(conn, sweep_id), "events": queries.events(conn, sweep_id)}
