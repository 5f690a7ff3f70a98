"""All writes to webhooks, and their queries. Functions take an open connection of `shared.db.engine`.

create, change, remove, rotate      requests of users
send_test                           a test delivery
find_id, list_webhooks, history     queries; they never return a secret
"""

from __future__ import annotations

import secrets
from typing import Any

from sqlalchemy import Connection, RowMapping, delete, or_, select

from nightshift.errors import Conflict
from shared.clock import db_now, iso, read_clock
from shared.db import removals
from shared.db.counters import DELIVERIES, counted
from shared.db.removals import Kind
from shared.db.rows import NamedRows, existing
from shared.db.schema import webhook_deliveries, webhooks
from shared.jobs.queries import cursors
from shared.jobs.queries.cursors import Page
from shared.specs.webhooks import WebhookSpec
from shared.webhooks import outbox, signature, url_policy
from shared.webhooks.models import DeliveryState

#: How long an old secret is still used for signing after a rotation (seconds).
OVERLAP_SECONDS = 86_400.0

_WEBHOOKS = NamedRows(webhooks, "webhook")


def create(conn: Connection, owner_id: str, spec: WebhookSpec, *, allow_private: bool) -> tuple[str, str]:
    """Create a webhook; return (id, secret), the secret for the only time.

    Raises InvalidRequest (url), Conflict (name taken).
    """
    now = read_clock(conn)
    values = spec.model_dump() | {
        "id": secrets.token_hex(8),
        "owner_id": owner_id,
        "url": url_policy.check_url(spec.url, allow_private=allow_private),
        "events": sorted(set(spec.events)),
        "secret": signature.make_secret(),
        "dead_streak": 0,
        "created_at": now,
        "updated_at": now,
    }
    return _WEBHOOKS.create(conn, values), values["secret"]


def change(conn: Connection, webhook_id: str, owner_id: str, changes: dict[str, Any], *, allow_private: bool) -> None:
    """Change a webhook; enabling it resets its failures.

    Raises NotFound, InvalidRequest (url), Conflict (name taken).
    """
    row = _WEBHOOKS.lock(conn, webhook_id, owner_id)
    values: dict[str, Any] = {**changes, "updated_at": db_now()}
    if "url" in changes:
        values["url"] = url_policy.check_url(changes["url"], allow_private=allow_private)
    if "events" in changes:
        values["events"] = sorted(set(changes["events"]))
    if "enabled" in changes:
        values |= {"disabled_reason": None, "dead_streak": 0}
    _WEBHOOKS.change(conn, row, values)


def remove(conn: Connection, webhook_id: str, owner_id: str) -> None:
    """Delete a webhook with all its deliveries. Raises NotFound."""
    _WEBHOOKS.lock(conn, webhook_id, owner_id)
    removals.note(conn, Kind.WEBHOOK, webhook_id)
    conn.execute(delete(webhooks).where(webhooks.c.id == webhook_id))


def rotate(conn: Connection, webhook_id: str, owner_id: str) -> str:
    """Return a new secret; the old one is also used for signing for `OVERLAP_SECONDS`. Raises NotFound."""
    row = _WEBHOOKS.lock(conn, webhook_id, owner_id)
    secret = signature.make_secret()
    until = db_now() + OVERLAP_SECONDS
    values = {"secret": secret, "old_secret": row.secret, "old_secret_until": until, "updated_at": db_now()}
    _WEBHOOKS.change(conn, row, values)
    return secret


def send_test(conn: Connection, webhook_id: str, owner_id: str) -> str:
    """Add a test delivery to the outbox and return its id. Raises NotFound, Conflict (paused)."""
    row = _WEBHOOKS.lock(conn, webhook_id, owner_id)
    if not row.enabled:
        raise Conflict(f"Webhook {row.name!r} is paused and nothing is sent to it; resume it first.")
    return outbox.add_test(conn, row, read_clock(conn))


# -- queries --------------------------------------------------------------------------------------


def find_id(conn: Connection, reference: str, owner_id: str) -> str:
    """Return a webhook's id by id or name. Raises NotFound, also for another owner's."""
    return _WEBHOOKS.find_id(conn, reference, webhooks.c.owner_id == owner_id)


def show(conn: Connection, webhook_id: str) -> dict[str, Any]:
    """Return a webhook in the API's format."""
    return _view(conn.execute(select(webhooks).where(webhooks.c.id == webhook_id)).mappings().one())


def list_webhooks(conn: Connection, owner_id: str) -> list[dict[str, Any]]:
    """Return an owner's webhooks, sorted by name."""
    statement = select(webhooks).where(webhooks.c.owner_id == owner_id).order_by(webhooks.c.name)
    return [_view(row) for row in conn.execute(statement).mappings()]


def history(
    conn: Connection, webhook_id: str, state: DeliveryState | None = None, cursor: str | None = None, limit: int = 50
) -> Page:
    """Return a page of deliveries, newest first. Raises MalformedRequest for a bad cursor."""
    order = (webhook_deliveries.c.created_at.desc(), webhook_deliveries.c.id.desc())
    statement = select(webhook_deliveries).where(webhook_deliveries.c.webhook_id == webhook_id).order_by(*order)
    if state is not None:
        statement = statement.where(webhook_deliveries.c.state == state.value)
    if cursor is not None:
        at, last = cursors.decode("hooks", cursor, float, str)
        older = webhook_deliveries.c.created_at < at
        same = (webhook_deliveries.c.created_at == at) & (webhook_deliveries.c.id < last)
        statement = statement.where(or_(older, same))
    rows = conn.execute(statement.limit(limit + 1)).mappings().all()
    return cursors.page("hooks", rows, limit, ("created_at", "id"), _delivery_view)


def delivery(conn: Connection, webhook_id: str, delivery_id: str) -> dict[str, Any]:
    """Return one delivery with its body. Raises NotFound."""
    this = select(webhook_deliveries).where(
        webhook_deliveries.c.id == delivery_id, webhook_deliveries.c.webhook_id == webhook_id
    )
    row = existing(conn.execute(this).mappings().one_or_none(), "delivery", delivery_id)
    return {**_delivery_view(row), "body": row["body"]}


def counts(conn: Connection) -> dict[str, int]:
    """Count the deliveries of all owners by state."""
    none = dict.fromkeys((state.value for state in DeliveryState), 0)
    return none | {row.label: row.n for row in counted(conn, DELIVERIES, "label")}


_SHOWN_AS_IS = ("id", "name", "url", "events", "tags", "match", "format", "enabled", "disabled_reason")
_DELIVERY_AS_IS = ("id", "event_id", "event_type", "state", "attempts", "status", "error", "milliseconds")


def _view(row: RowMapping) -> dict[str, Any]:
    times = {name: iso(row[name]) for name in ("old_secret_until", "created_at", "updated_at")}
    return {**{column: row[column] for column in _SHOWN_AS_IS}, **times}


def _delivery_view(row: RowMapping) -> dict[str, Any]:
    pending = row["state"] == DeliveryState.PENDING.value
    return {
        **{column: row[column] for column in _DELIVERY_AS_IS},
        "created_at": iso(row["created_at"]),
        "next_at": iso(row["next_at"]) if pending else None,
        "settled_at": iso(row["settled_at"]),
    }
