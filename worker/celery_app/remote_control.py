"""The remote control commands that our Celery processes accept (`celery control`, Flower's API).

Any client of Redis can send commands, so those that would stop the service, change its limits or write files are
refused. Inspection is allowed, and ending a task, which cancels its job. A change of queues is accepted and soon undone
(queue_guard.py).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from celery.worker.control import Panel, nok

from shared.events import emit

#: Commands of Flower and people that only read.
INSPECTION = frozenset(
    {"ping", "stats", "active", "active_queues", "reserved", "scheduled", "revoked", "registered", "conf", "clock",
     "report", "query_task", "dump_active", "dump_reserved", "dump_schedule", "dump_revoked", "dump_tasks", "dump_conf"}
)  # fmt: skip
ALLOWED = INSPECTION | {"revoke", "terminate", "enable_events", "heartbeat", "add_consumer", "cancel_consumer"}


def install() -> None:
    """Refuse all other commands in this process, including those of later versions of Celery."""
    for name in Panel.data.keys() - ALLOWED:
        Panel.data[name] = _refusal(name)


def _refusal(name: str) -> Callable[..., dict[str, Any]]:
    def refuse(state: Any, **arguments: Any) -> dict[str, Any]:
        emit("command.refused", command=name)
        return dict(nok(f"{name} is refused: a worker is stopped by SIGTERM, and has one thread and its own queues"))

    return refuse
