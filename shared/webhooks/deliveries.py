"""All writes to deliveries in the outbox: claim, settle, send_again, prune.

Delivery is at least once: a claim is a lease, and if a sender dies between sending and settling, the delivery becomes
due again. The receiver sees the same `webhook-id` and can drop duplicates. `attempts` is the fence.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    Select,
    and_,
    case,
    delete,
    exists,
    literal_column,
    not_,
    or_,
    select,
    update,
)

from nightshift.errors import Conflict
from shared.clock import db_now
from shared.db.rows import existing
from shared.db.schema import webhook_deliveries, webhooks
from shared.jobs.retry import Backoff
from shared.webhooks.models import DeliveryState

#: Duration of a claim (seconds): longer than any attempt at sending. Too low: two senders send the same delivery. Too
#: high: deliveries of a dead sender are delayed as long.
LEASE_SECONDS = 60.0
#: Concurrent deliveries per webhook. Too low: a fast receiver waits. Too high: a slow receiver occupies all senders.
PER_WEBHOOK = 2
#: Delays between attempts: 10 s, 30 s, 90 s, … up to 6 hours. Ten attempts take about 15 hours.
BACKOFF = Backoff(first=10.0, factor=3.0, most=6 * 3600.0, jitter=0.25)
#: Consecutive failed deliveries after which a webhook is disabled.
DISABLE_AFTER = 5
#: How long settled deliveries are kept (seconds).
KEEP_SECONDS = 30 * 86_400.0

_PENDING = DeliveryState.PENDING.value
#: Written as a literal so that SQLite may use the partial index.
_PENDING_LITERAL: ColumnElement[str] = literal_column("'pending'")


@dataclass(frozen=True)
class Claim:
    """A delivery leased to this process for sending."""

    id: str
    webhook_id: str
    fence: int
    attempt: int
    event_id: str
    url: str
    body: str
    secrets: tuple[str, ...]
    timestamp: int


@dataclass(frozen=True)
class Answer:
    """Result of an attempt at sending. `error` is None if it was delivered."""

    status: int | None
    error: str | None
    milliseconds: float
    #: The receiver answered 410 Gone: the webhook is disabled.
    gone: bool = False


def _due(conn: Connection) -> Select[Any]:
    """Select the due deliveries of webhooks that are enabled and not busy, the longest due first.

    There is no join, with which SQLite would sort all due rows each time.
    """
    free = or_(webhook_deliveries.c.lease_until.is_(None), webhook_deliveries.c.lease_until < db_now())
    return (
        select(webhook_deliveries.c.id, webhook_deliveries.c.webhook_id)
        .where(webhook_deliveries.c.state == _PENDING_LITERAL, webhook_deliveries.c.next_at <= db_now(), free)
        .where(webhook_deliveries.c.webhook_id.not_in(_resting(conn)), _is_wanted())
        .order_by(webhook_deliveries.c.next_at)
    )


def _is_wanted() -> ColumnElement[bool]:
    """Match deliveries whose webhook exists: those of a deleted one are removed later."""
    return exists().where(webhooks.c.id == webhook_deliveries.c.webhook_id)


def _resting(conn: Connection) -> list[str]:
    """Return the webhooks that are paused or at their limit of concurrent deliveries."""
    leased = and_(webhook_deliveries.c.lease_until >= db_now(), webhook_deliveries.c.lease_until.is_not(None))
    in_flight = Counter(conn.scalars(select(webhook_deliveries.c.webhook_id).where(leased)))
    paused = conn.scalars(select(webhooks.c.id).where(not_(webhooks.c.enabled)))
    return [*paused, *(webhook_id for webhook_id, count in in_flight.items() if count >= PER_WEBHOOK)]


def count_due(conn: Connection, most: int) -> int:
    """Return the number of due deliveries, at most `most`."""
    return len(conn.execute(_due(conn).limit(most)).all())


def claim(conn: Connection) -> Claim | None:
    """Claim the longest due delivery of a webhook that is enabled and not busy."""
    found = conn.execute(_due(conn).limit(1).with_for_update(skip_locked=True)).one_or_none()
    if found is None:
        return None
    claimed = conn.execute(
        update(webhook_deliveries)
        .where(webhook_deliveries.c.id == found.id)
        .values(attempts=webhook_deliveries.c.attempts + 1, lease_until=db_now() + LEASE_SECONDS)
        .returning(webhook_deliveries, db_now().label("now"))
    ).one()
    return _claim_of(claimed, conn.execute(select(webhooks).where(webhooks.c.id == found.webhook_id)).one())


def _claim_of(row: Row[*tuple[Any, ...]], webhook: Row[*tuple[Any, ...]]) -> Claim:
    secrets = [webhook.secret]
    if webhook.old_secret is not None and webhook.old_secret_until > row.now:
        secrets.append(webhook.old_secret)
    attempt = row.attempts - row.attempts_before
    return Claim(
        row.id, row.webhook_id, row.attempts, attempt, row.event_id, webhook.url, row.body, tuple(secrets), int(row.now)
    )


def settle(conn: Connection, claimed: Claim, answer: Answer, max_attempts: int) -> DeliveryState | None:
    """Record the result of an attempt: delivered, pending until the next attempt, or dead.

    Returns the new state, or None if another sender has claimed the delivery since.
    """
    state = _state_after(claimed, answer, max_attempts)
    values: dict[str, Any] = {
        "state": state.value,
        "status": answer.status,
        "error": answer.error,
        "milliseconds": answer.milliseconds,
        "lease_until": None,
    }
    if state is DeliveryState.PENDING:
        values["next_at"] = db_now() + BACKOFF.delay(claimed.attempt)
    else:
        values["settled_at"] = db_now()
    mine = and_(
        webhook_deliveries.c.id == claimed.id,
        webhook_deliveries.c.attempts == claimed.fence,
        webhook_deliveries.c.state == _PENDING,
    )
    if not conn.execute(update(webhook_deliveries).where(mine).values(**values)).rowcount:
        return None
    if state is not DeliveryState.PENDING:
        _count_failure(conn, claimed, answer, state)
    return state


def _state_after(claimed: Claim, answer: Answer, max_attempts: int) -> DeliveryState:
    if answer.error is None:
        return DeliveryState.DELIVERED
    return DeliveryState.DEAD if answer.gone or claimed.attempt >= max_attempts else DeliveryState.PENDING


def _count_failure(conn: Connection, claimed: Claim, answer: Answer, state: DeliveryState) -> None:
    """Disable a webhook after too many consecutive failures, so that the outbox does not grow without bound."""
    this = webhooks.c.id == claimed.webhook_id
    if state is DeliveryState.DELIVERED:
        conn.execute(update(webhooks).where(this, webhooks.c.dead_streak > 0).values(dead_streak=0))
        return
    streak = webhooks.c.dead_streak + 1
    why = "the receiver answered 410 Gone" if answer.gone else f"{DISABLE_AFTER} deliveries in a row failed"
    ends = webhooks.c.enabled if answer.gone else and_(webhooks.c.enabled, streak >= DISABLE_AFTER)
    reason = f"{why}; last error: {answer.error}"[:500]
    values = {
        "dead_streak": streak,
        "enabled": case((ends, False), else_=webhooks.c.enabled),
        "disabled_reason": case((ends, reason), else_=webhooks.c.disabled_reason),
    }
    conn.execute(update(webhooks).where(this).values(**values))


def send_again(conn: Connection, webhook_id: str, delivery_id: str) -> None:
    """Make a settled delivery due now, with as many attempts as a new one.

    Raises NotFound, Conflict (still pending).
    """
    this = and_(webhook_deliveries.c.id == delivery_id, webhook_deliveries.c.webhook_id == webhook_id)
    statement = select(webhook_deliveries.c.state).where(this).with_for_update()
    row = existing(conn.execute(statement).one_or_none(), "delivery", delivery_id)
    if row.state == _PENDING:
        raise Conflict(f"Delivery {delivery_id} is still pending and will be sent anyway.")
    values = {
        "state": _PENDING,
        "next_at": db_now(),
        "settled_at": None,
        "attempts_before": webhook_deliveries.c.attempts,
    }
    conn.execute(update(webhook_deliveries).where(this).values(**values))


def prune(conn: Connection, limit: int = 1000) -> int:
    """Delete old deliveries that are settled or whose webhook no longer exists; return how many."""
    settled = [state.value for state in DeliveryState if state is not DeliveryState.PENDING]
    old = (
        select(webhook_deliveries.c.id)
        .where(or_(webhook_deliveries.c.state.in_(settled), not_(_is_wanted())))
        .where(webhook_deliveries.c.created_at < db_now() - KEEP_SECONDS)
        .limit(limit)
    )
    return conn.execute(delete(webhook_deliveries).where(webhook_deliveries.c.id.in_(old))).rowcount
