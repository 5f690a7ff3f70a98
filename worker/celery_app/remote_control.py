"""Which commands a Celery process of ours obeys when they come through Redis (`celery control`, Flower's API).

Whoever reaches Redis can send them, so what would stop the service, change its limits or write files is refused.
Looking stays, and ending a task, which cancels its job. A change of queues is obeyed and undone soon after
(listening.py).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from celery.worker.control import Panel, nok

from shared.events import emit

#: What Flower and people look with.
LOOKING = frozenset(
    {"ping", "stats", "active", "active_queues", "reserved", "scheduled", "revoked", "registered", "conf", "clock",
     "report", "query_task", "dump_active", "dump_reserved", "dump_schedule", "dump_revoked", "dump_tasks", "dump_conf"}
)  # fmt: skip
OBEYED = LOOKING | {"revoke", "terminate", "enable_events", "heartbeat", "add_consumer", "cancel_consumer"}


def install() -> None:
    """Refuse every other command in this process, those of later versions of Celery too."""
    for name in Panel.data.keys() - OBEYED:
        Panel.data[name] = _refusal(name)


def _refusal(name: str) -> Callable[..., dict[str, Any]]:
    def refuse(state: Any, **arguments: Any) -> dict[str, Any]:
        emit("command.refused", command=name)
        return dict(nok(f"{name} is refused: a worker is stopped by SIGTERM, and has one thread and its own queues"))

    return refuse
