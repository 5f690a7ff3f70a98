"""Transactional outbox: deliveries are written in the transaction of their event.

Called only where event rows are written: `shared.jobs.transitions.statements.add_event` for jobs, the audit log of
`shared.models.aliases` for models. Nothing is sent here. If the transaction is rolled back, so is the delivery; once it
is committed, maintenance sends it, even if this process dies.

An event of a job goes to its owner's webhooks; one of a model, which has no single owner, to those of all owners.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from sqlalchemy import Connection, Row, and_, bindparam, select
from sqlalchemy import insert as plain_insert

from shared.db.schema import jobs, webhook_deliveries, webhooks
from shared.webhooks import payload
from shared.webhooks.models import TEST, EventType

#: State of a job -> event type. Submission is not an event: the client that submitted the job has its answer.
_STATES = {
    "running": EventType.JOB_STARTED,
    "paused": EventType.JOB_PAUSED,
    "succeeded": EventType.JOB_SUCCEEDED,
    "failed": EventType.JOB_FAILED,
    "cancelled": EventType.JOB_CANCELLED,
}
_CHANGES = {
    "set": EventType.MODEL_ALIAS_MOVED,
    "rollback": EventType.MODEL_ROLLED_BACK,
    "delete": EventType.MODEL_VERSION_DELETED,
}
_JOB_COLUMNS = ("id", "kind", "name", "family", "framework", "dataset", "tags")
#: The webhooks of a job's owner, with the job's columns; none for a shard, whose whole is notified of. Built once,
#: because every change of a state executes it.
_OF_JOB = (
    select(webhooks, *(jobs.c[name].label(f"job_{name}") for name in _JOB_COLUMNS))
    .join(jobs, and_(jobs.c.id == bindparam("job_id"), jobs.c.owner_id == webhooks.c.owner_id))
    .where(webhooks.c.enabled, jobs.c.part_of.is_(None))
)


@dataclass(frozen=True)
class Event:
    """An event to deliver. All attempts have the same `id`, so that a receiver can drop duplicates."""

    id: str
    type: str
    at: float
    data: dict[str, Any]
    #: Names that a webhook's pattern is compared with.
    names: tuple[str, ...] = ()
    tags: dict[str, str] = field(default_factory=dict)


def add_job_event(conn: Connection, job_id: str, seq: int, at: float, kind: str, data: dict[str, Any]) -> None:
    """Add deliveries of a job's event to its owner's webhooks that subscribe to it; one query if there are none."""
    event_type = _type_of(kind, data)
    if event_type is None:
        return
    wanted = [row for row in conn.execute(_OF_JOB, {"job_id": job_id}) if event_type in row.events]
    if wanted:
        job = {name: getattr(wanted[0], f"job_{name}") for name in _JOB_COLUMNS}
        _deliver(conn, wanted, _job_event(event_type, job, seq, at, data))


def _type_of(kind: str, data: dict[str, Any]) -> EventType | None:
    if kind == "promotion":
        return EventType.MODEL_PROMOTED if data.get("promoted") else EventType.MODEL_PROMOTION_REFUSED
    if kind != "state":
        return None
    if data.get("state") == "queued":
        return EventType.JOB_RETRIED if data.get("error") else None
    return _STATES.get(str(data.get("state")))


def _job_event(event_type: str, job: dict[str, Any], seq: int, at: float, data: dict[str, Any]) -> Event:
    state = {name: data[name] for name in ("state", "attempt") if name in data}
    facts = {name: value for name, value in data.items() if name not in state}
    if "result" in facts:  # its files can be listed over the API
        facts["result"] = {name: value for name, value in facts["result"].items() if name != "artifacts"}
    if "promoted" in facts:
        facts = {"model": facts.pop("name"), **facts}
    names = tuple(name for name in (job["name"], facts.get("model")) if isinstance(name, str))
    return Event(f"evt_{job['id']}_{seq}", event_type, at, {"job": {**job, **state}, **facts}, names, job["tags"])


def add_model_change(conn: Connection, name: str, change: str, at: float, facts: dict[str, Any]) -> None:
    """Add deliveries of an entry of the models' audit log."""
    event_type = _CHANGES.get(change)
    if event_type is None:
        return
    wanted = [row for row in conn.execute(select(webhooks).where(webhooks.c.enabled)) if event_type in row.events]
    data = {"model": name, **{key: fact for key, fact in facts.items() if fact is not None}}
    _deliver(conn, wanted, Event(_any_id(), event_type, at, data, (name,)))


def add_test(conn: Connection, webhook: Row[*tuple[Any, ...]], at: float) -> str:
    """Add a test delivery and return its id."""
    event = Event(_any_id(), TEST, at, {"webhook": {"id": webhook.id, "name": webhook.name}})
    return _insert(conn, [webhook], event)[0]


def _any_id() -> str:
    return f"evt_{secrets.token_hex(12)}"


def _deliver(conn: Connection, candidates: Iterable[Row[*tuple[Any, ...]]], event: Event) -> None:
    _insert(conn, [webhook for webhook in candidates if _fits(webhook, event)], event)


def _fits(webhook: Row[*tuple[Any, ...]], event: Event) -> bool:
    if webhook.match is not None and not any(fnmatchcase(name, webhook.match) for name in event.names):
        return False
    return all(event.tags.get(key) == value for key, value in webhook.tags.items())


def _insert(conn: Connection, wanted: list[Row[*tuple[Any, ...]]], event: Event) -> list[str]:
    rows = [
        {
            "id": secrets.token_hex(8),
            "webhook_id": webhook.id,
            "event_id": event.id,
            "event_type": event.type,
            "body": payload.body(webhook.format, event.id, event.type, event.at, event.data),
            "state": "pending",
            "attempts": 0,
            "attempts_before": 0,
            "next_at": event.at,
            "created_at": event.at,
        }
        for webhook in wanted
    ]
    if rows:
        conn.execute(plain_insert(webhook_deliveries), rows)
    return [str(row["id"]) for row in rows]
