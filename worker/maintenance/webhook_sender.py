"""webhook_sender: send pending webhook deliveries.

A pass only starts a few threads, which claim, send and settle deliveries until none is due: a slow receiver occupies
one thread for some seconds, but neither maintenance nor a transaction. Any number of processes may do this.
"""

from __future__ import annotations

import threading
from collections import Counter

from sqlalchemy import Engine

from shared.db.engine import read, write
from shared.events import emit
from shared.failpoints import failpoint
from shared.settings import Settings
from shared.webhooks import deliveries, signature
from shared.webhooks.deliveries import Claim
from shared.webhooks.models import DeliveryState
from worker.maintenance.service import Counts

#: Sender threads. Too low: two slow receivers delay the rest. Too high: database connections.
SENDERS = 4

#: One claim at a time, so that each sees the deliveries in flight. Processes do not wait for each other: two of them
#: may hold twice as many deliveries of one webhook.
_claiming = threading.Lock()
_free = threading.BoundedSemaphore(SENDERS)


def run_once(engine: Engine, settings: Settings) -> Counts:
    """Return {"started": threads}."""
    with read(engine) as conn:
        due = deliveries.count_due(conn, SENDERS)
    started = 0
    while started < due and _free.acquire(blocking=False):
        threading.Thread(target=_work, args=(engine, settings), name="webhook-sender", daemon=True).start()
        started += 1
    return {"started": started}


def _work(engine: Engine, settings: Settings) -> None:
    try:
        deliver_due(engine, settings)
    except Exception as error:  # such as a database outage: claimed deliveries are due again after their lease
        emit("maintenance.failed", service="webhook_sender", error=f"{type(error).__name__}: {error}")
    finally:
        _free.release()


def deliver_due(engine: Engine, settings: Settings) -> Counts:
    """Claim, send and settle deliveries until none is due, and return counts by final state."""
    counts = Counter({state.value: 0 for state in DeliveryState})
    while (claimed := _claim(engine)) is not None:
        state = deliver(engine, settings, claimed)
        if state is not None:
            counts[state.value] += 1
    return {state.value: counts[state.value] for state in DeliveryState}


def _claim(engine: Engine) -> Claim | None:
    with _claiming, write(engine) as conn:
        return deliveries.claim(conn)


def deliver(engine: Engine, settings: Settings, claimed: Claim) -> DeliveryState | None:
    """Send one claimed delivery and settle it.

    No transaction is open while sending: only this thread waits for the receiver.
    """
    body = claimed.body.encode()
    headers = {
        "content-type": "application/json",
        "user-agent": "Nightshift-Webhooks/1",
        **signature.headers(claimed.secrets, claimed.event_id, claimed.timestamp, body),
    }
    from worker.maintenance import http_delivery  # an HTTP client, which a beat without webhooks does not need

    answer = http_delivery.post(
        claimed.url,
        headers,
        body,
        seconds=settings.webhooks_timeout_seconds,
        allow_private=settings.webhooks_allow_private,
    )
    failpoint("webhook.sent")
    with write(engine) as conn:
        state = deliveries.settle(conn, claimed, answer, settings.webhooks_max_attempts)
    if state is not None:
        facts = {"webhook_id": claimed.webhook_id, "event_id": claimed.event_id, "attempt": claimed.attempt}
        emit(f"webhook.{'retried' if state is DeliveryState.PENDING else state.value}", **facts, error=answer.error)
    return state
