"""Webhooks from event to receiver: written with the event, signed, retried, sent again, given up; whatever dies."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, select, update

from nightshift.states import JobState
from shared import failpoints
from shared.clock import db_now
from shared.db.engine import make_engine, read, write
from shared.db.schema import job_events, webhook_deliveries, webhooks
from shared.failpoints import FailpointError
from shared.jobs import transitions
from shared.jobs.states import AttemptOutcome, StopRequest
from shared.settings import Settings
from shared.specs.webhooks import WebhookSpec
from shared.webhooks import deliveries, subscriptions
from shared.webhooks.models import EventType
from tests.support.factories import ERROR, OWNER, job_in_state, running_job, submit_job
from tests.support.paths import ROOT
from tests.support.receiver import Receiver, receiving, reply
from tests.support.stack import eventually
from tests.unit.shared.models import test_promotions
from tests.unit.shared.models.test_registry import trained
from worker.maintenance import SERVICES, remover, webhook_sender

HOUSE = Settings(webhooks_allow_private=True, webhooks_timeout_seconds=30.0, webhooks_max_attempts=3)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


def subscribe(engine: Engine, url: str, *, owner_id: str = OWNER, **fields: Any) -> tuple[str, str]:
    """(id, secret); hears of everything unless told otherwise."""
    body = {"name": "hook", "url": url, "events": [name.value for name in EventType], **fields}
    with write(engine) as conn:
        return subscriptions.create(conn, owner_id, WebhookSpec.model_validate(body), allow_private=True)


def outbox(engine: Engine) -> list[Any]:
    with read(engine) as conn:
        order = (webhook_deliveries.c.created_at, webhook_deliveries.c.id)
        return list(conn.execute(select(webhook_deliveries).order_by(*order)))


def types(engine: Engine) -> list[str]:
    return [row.event_type for row in outbox(engine)]


def bring_forward(engine: Engine) -> None:
    """As if back-offs and leases had passed."""
    with write(engine) as conn:
        conn.execute(
            update(webhook_deliveries)
            .where(webhook_deliveries.c.state == "pending")
            .values(next_at=db_now() - 1, lease_until=None)
        )


def succeed(engine: Engine, **fields: Any) -> str:
    lease = running_job(engine, **fields)
    with write(engine) as conn:
        transitions.succeed(conn, lease, result={"metrics": {"loss": 0.1, "test_accuracy": 0.98}}, artifacts=[])
    return lease.job_id


# -- what is written ------------------------------------------------------------------------------


def test_a_life_is_told_in_order_and_submitting_is_not(engine: Engine) -> None:
    subscribe(engine, "http://127.0.0.1:1/")
    job_id = succeed(engine, name="digits nightly", tags={"team": "vision"})
    assert types(engine) == ["job.started", "job.succeeded"]
    body = json.loads(outbox(engine)[1].body)
    assert (body["type"], body["id"]) == ("job.succeeded", outbox(engine)[1].event_id)
    assert body["timestamp"].endswith("Z")
    job = body["data"]["job"]
    assert (job["id"], job["name"], job["tags"], job["state"]) == (
        job_id, "digits nightly", {"team": "vision"}, "succeeded",
    )  # fmt: skip
    assert body["data"]["result"] == {"metrics": {"loss": 0.1, "test_accuracy": 0.98}}


def test_other_ends_and_retries_are_told(engine: Engine) -> None:
    subscribe(engine, "http://127.0.0.1:1/")
    for error in ({**ERROR, "retryable": True}, ERROR):
        lease = running_job(engine)
        with write(engine) as conn:
            transitions.fail(conn, lease, outcome=AttemptOutcome.JOB_ERROR, error=error)
    assert types(engine) == ["job.started", "job.retried", "job.started", "job.failed"]
    assert json.loads(outbox(engine)[3].body)["data"]["error"]["message"] == "made to fail"
    job_id = submit_job(engine).job_id
    for request in (StopRequest.PAUSE, StopRequest.CANCEL):
        with write(engine) as conn:
            transitions.request_stop(conn, job_id, request, OWNER)
    assert types(engine)[4:] == ["job.paused", "job.cancelled"]


TOLD = {"running", "paused", "succeeded", "failed", "cancelled"}


def test_every_event_that_is_told_has_one_delivery_and_no_other_has(engine: Engine) -> None:
    subscribe(engine, "http://127.0.0.1:1/", events=[name.value for name in EventType if name.startswith("job.")])
    for state in JobState:
        job_in_state(engine, state)
    with read(engine) as conn:
        events = conn.execute(select(job_events).where(job_events.c.type == "state")).all()
    told = {f"evt_{event.job_id}_{event.seq}" for event in events if _is_told(event.data)}
    assert len(told) > 5
    assert sorted(row.event_id for row in outbox(engine)) == sorted(told)


def _is_told(data: dict[str, Any]) -> bool:
    return data["state"] in TOLD or (data["state"] == "queued" and "error" in data)


def test_models_are_told_to_everybody(engine: Engine) -> None:
    subscribe(engine, "http://127.0.0.1:1/", owner_id="somebody-else", events=["model.alias_moved"])
    trained(engine, "digits")
    (row,) = outbox(engine)
    data = json.loads(row.body)["data"]
    assert (data["model"], data["alias"], data["to_version"], data["why"]) == (
        "digits", "champion", 1, "the first version",
    )  # fmt: skip


@pytest.mark.parametrize(("better", "event_type"), [(True, "model.promoted"), (False, "model.promotion_refused")])
def test_what_a_gate_decided_is_told(engine: Engine, better: bool, event_type: str) -> None:
    subscribe(engine, "http://127.0.0.1:1/", match="m", events=["model.promoted", "model.promotion_refused"])
    test_promotions.succeed(engine, running_job(engine, name="nightly"), better=better, reason="0.98 against 0.97")
    (row,) = outbox(engine)
    data = json.loads(row.body)["data"]
    assert row.event_type == event_type
    assert (data["model"], data["alias"], data["version"], data["reason"]) == ("m", "champion", 1, "0.98 against 0.97")
    assert data["job"]["name"] == "nightly"


def test_only_what_was_asked_for_is_told(engine: Engine) -> None:
    chosen = {
        "one-event": {"events": ["job.succeeded"]},
        "tagged": {"events": ["job.succeeded"], "tags": {"team": "vision"}},
        "other-tag": {"events": ["job.succeeded"], "tags": {"team": "speech"}},
        "named": {"events": ["job.succeeded"], "match": "digits*"},
        "other-name": {"events": ["job.succeeded"], "match": "letters*"},
        "paused": {"events": ["job.succeeded"], "enabled": False},
    }
    ids = {subscribe(engine, "http://127.0.0.1:1/", name=name, **fields)[0]: name for name, fields in chosen.items()}
    subscribe(engine, "http://127.0.0.1:1/", owner_id="somebody-else")
    succeed(engine, name="digits nightly", tags={"team": "vision", "a": "b"})
    assert sorted(ids[row.webhook_id] for row in outbox(engine)) == ["named", "one-event", "tagged"]
    assert len({row.event_id for row in outbox(engine)}) == 1


def test_an_event_that_is_rolled_back_is_not_told(engine: Engine) -> None:
    subscribe(engine, "http://127.0.0.1:1/")
    lease = running_job(engine)
    failpoints.arm("succeed.before_commit:raise")
    try:
        with pytest.raises(FailpointError), write(engine) as conn:
            transitions.succeed(conn, lease, result={}, artifacts=[])
    finally:
        failpoints.arm("")
    assert types(engine) == ["job.started"]


def test_a_large_result_is_left_out(engine: Engine) -> None:
    subscribe(engine, "http://127.0.0.1:1/", events=["job.succeeded"])
    lease = running_job(engine)
    with write(engine) as conn:
        transitions.succeed(conn, lease, result={"metrics": {"x" * 70_000: 1.0}}, artifacts=[])
    data = json.loads(outbox(engine)[0].body)["data"]
    assert (data["truncated"], data["job"]["id"], "result" in data) == (True, lease.job_id, False)


def test_a_chat_gets_one_line_that_mentions_no_member(engine: Engine) -> None:
    subscribe(engine, "http://127.0.0.1:1/", format="slack")
    job_id = succeed(engine, name="<!channel> & co")
    texts = [json.loads(row.body) for row in outbox(engine)]
    assert texts[1] == {"text": f"&lt;!channel&gt; &amp; co (train {job_id}) succeeded: test_accuracy 0.98"}
    trained(engine, "digits")
    assert "digits@champion moved to 1 by job:" in outbox(engine)[-2].body + outbox(engine)[-1].body


# -- what arrives ---------------------------------------------------------------------------------


def is_signed(secret: str, request: Any) -> bool:
    """As the documentation tells receivers to do it, written anew."""
    signed = b".".join(
        [request.headers["webhook-id"].encode(), request.headers["webhook-timestamp"].encode(), request.body]
    )
    key = base64.b64decode(secret.split("_", 1)[1])
    wanted = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    return f"v1,{wanted}" in request.headers["webhook-signature"].split()


def test_it_arrives_signed(engine: Engine, receiver: Receiver) -> None:
    _, secret = subscribe(engine, receiver.url, events=["job.succeeded"])
    succeed(engine)
    assert webhook_sender.deliver_due(engine, HOUSE) == {"pending": 0, "delivered": 1, "dead": 0}
    (request,) = receiver.received
    (row,) = outbox(engine)
    assert (request.body.decode(), request.headers["webhook-id"]) == (row.body, row.event_id)
    assert (request.path, request.headers["content-type"]) == ("/hook", "application/json")
    assert is_signed(secret, request)
    assert not is_signed("whsec_" + base64.b64encode(bytes(32)).decode(), request)
    assert (row.state, row.status, row.attempts) == ("delivered", 200, 1)
    assert webhook_sender.deliver_due(engine, HOUSE)["delivered"] == 0


def test_both_secrets_sign_while_one_is_changed(engine: Engine, receiver: Receiver) -> None:
    webhook_id, old = subscribe(engine, receiver.url)
    with write(engine) as conn:
        new = subscriptions.rotate(conn, webhook_id, OWNER)
        subscriptions.send_test(conn, webhook_id, OWNER)
    webhook_sender.deliver_due(engine, HOUSE)
    assert is_signed(old, receiver.received[0])
    assert is_signed(new, receiver.received[0])
    with write(engine) as conn:
        conn.execute(update(webhooks).values(old_secret_until=db_now() - 1))
        subscriptions.send_test(conn, webhook_id, OWNER)
    webhook_sender.deliver_due(engine, HOUSE)
    assert not is_signed(old, receiver.received[1])
    assert is_signed(new, receiver.received[1])


def test_it_is_tried_again_with_the_same_id_until_it_arrives(engine: Engine, receiver: Receiver) -> None:
    subscribe(engine, receiver.url, events=["job.succeeded"])
    succeed(engine)
    receiver.answer = lambda number, handler: reply(handler, 500 if number == 1 else 204, b"not now")
    webhook_sender.deliver_due(engine, HOUSE)
    (row,) = outbox(engine)
    assert (row.state, row.status, row.error) == ("pending", 500, "HTTP 500: not now")
    with read(engine) as conn:
        assert row.next_at > conn.scalar(select(db_now())) + 1  # a back-off, and no hammering
    assert webhook_sender.deliver_due(engine, HOUSE) == {"pending": 0, "delivered": 0, "dead": 0}
    bring_forward(engine)
    assert webhook_sender.deliver_due(engine, HOUSE)["delivered"] == 1
    assert len(receiver.ids()) == 2
    assert len(set(receiver.ids())) == 1


def test_a_receiver_that_hangs_is_tried_again(engine: Engine, receiver: Receiver) -> None:
    subscribe(engine, receiver.url, events=["job.succeeded"])
    succeed(engine)
    receiver.answer = receiver.hang
    webhook_sender.deliver_due(engine, HOUSE.model_copy(update={"webhooks_timeout_seconds": 0.2}))
    assert [(row.state, row.error) for row in outbox(engine)] == [("pending", "no answer within 0.2 s")]


def test_it_is_given_up_at_last_and_sent_again_by_hand(engine: Engine, receiver: Receiver) -> None:
    webhook_id, _ = subscribe(engine, receiver.url, events=["job.succeeded"])
    succeed(engine)
    receiver.answer = lambda number, handler: reply(handler, 503 if number <= 3 else 200)
    for _ in range(4):
        webhook_sender.deliver_due(engine, HOUSE)
        bring_forward(engine)
    (row,) = outbox(engine)
    assert (row.state, row.attempts, len(receiver.received)) == ("dead", 3, 3)
    with write(engine) as conn:
        deliveries.send_again(conn, webhook_id, row.id)
    assert webhook_sender.deliver_due(engine, HOUSE)["delivered"] == 1
    assert len(set(receiver.ids())) == 1
    with read(engine) as conn:
        assert conn.scalar(select(webhooks.c.dead_streak)) == 0


def test_a_receiver_that_is_gone_disables_its_webhook(engine: Engine, receiver: Receiver) -> None:
    once = HOUSE.model_copy(update={"webhooks_max_attempts": 1})
    webhook_id, _ = subscribe(engine, receiver.url, events=["job.succeeded"])
    receiver.answer = lambda number, handler: reply(handler, 404)
    for _ in range(deliveries.DISABLE_AFTER + 1):
        succeed(engine)
        webhook_sender.deliver_due(engine, once)
    with read(engine) as conn:
        shown = subscriptions.show(conn, webhook_id)
    assert (shown["enabled"], len(receiver.received)) == (False, deliveries.DISABLE_AFTER)
    assert "HTTP 404" in shown["disabled_reason"]
    with write(engine) as conn:
        subscriptions.change(conn, webhook_id, OWNER, {"enabled": True}, allow_private=True)
    receiver.answer = lambda number, handler: reply(handler, 410)
    succeed(engine)
    webhook_sender.deliver_due(engine, HOUSE)
    with read(engine) as conn:
        assert "410 Gone" in subscriptions.show(conn, webhook_id)["disabled_reason"]


def test_private_addresses_are_refused_when_they_are_sent_to(engine: Engine, receiver: Receiver) -> None:
    """Also when the webhook was made while a setting allowed it."""
    subscribe(engine, receiver.url, events=["job.succeeded"])
    succeed(engine)
    webhook_sender.deliver_due(engine, HOUSE.model_copy(update={"webhooks_allow_private": False}))
    assert receiver.received == []
    assert "not a public address" in outbox(engine)[0].error


# -- a killed sender ------------------------------------------------------------------------------

SENDER = """
import sys
from shared.db.engine import make_engine
from shared.settings import Settings
from worker.maintenance import webhook_sender
webhook_sender.deliver_due(make_engine(sys.argv[1]), Settings(webhooks_allow_private=True))
"""


def test_kill_9_between_sending_and_settling(engine: Engine, database_url: str, receiver: Receiver) -> None:
    """It is sent again when the lease is over, with the same id; not before."""
    subscribe(engine, receiver.url, events=["job.succeeded"])
    succeed(engine)
    environment = {**os.environ, "NIGHTSHIFT_FAILPOINT": "webhook.sent:kill", "PYTHONPATH": str(ROOT)}
    killed = subprocess.run([sys.executable, "-c", SENDER, database_url], env=environment, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert len(receiver.received) == 1
    assert webhook_sender.deliver_due(engine, HOUSE)["delivered"] == 0
    bring_forward(engine)
    assert webhook_sender.deliver_due(engine, HOUSE)["delivered"] == 1
    assert receiver.ids() == [receiver.ids()[0]] * 2
    assert [(row.state, row.attempts) for row in outbox(engine)] == [("delivered", 2)]


def test_a_sender_that_was_frozen_does_not_settle_what_another_sent(engine: Engine) -> None:
    subscribe(engine, "http://127.0.0.1:1/", events=["job.succeeded"])
    succeed(engine)
    claims = []
    for _ in range(2):
        with write(engine) as conn:
            claims.append(deliveries.claim(conn))
        bring_forward(engine)
    first, second = claims
    assert first is not None
    assert second is not None
    late, right = deliveries.Answer(None, "no answer", 1.0), deliveries.Answer(200, None, 1.0)
    with write(engine) as conn:
        assert deliveries.settle(conn, first, late, 10) is None
        assert deliveries.settle(conn, second, right, 10) == "delivered"
        assert deliveries.settle(conn, first, late, 10) is None
    assert [row.state for row in outbox(engine)] == ["delivered"]


def test_senders_that_race_send_each_delivery_once(engine: Engine, database_url: str, receiver: Receiver) -> None:
    for number in range(3):
        subscribe(engine, receiver.url, name=f"hook{number}", events=["job.succeeded"])
    for _ in range(5):
        succeed(engine)
    engines = [make_engine(database_url) for _ in range(3)]
    threads = [threading.Thread(target=webhook_sender.deliver_due, args=(own, HOUSE)) for own in engines]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for own in engines:
        own.dispose()
    assert {row.state for row in outbox(engine)} == {"delivered"}
    assert len(receiver.received) == 15


def test_a_receiver_that_hangs_holds_up_neither_maintenance_nor_others(engine: Engine, receiver: Receiver) -> None:
    """A pass of maintenance is over while both its senders still wait for an answer."""
    receiver.answer = receiver.hang
    subscribe(engine, receiver.url, name="slow", events=["job.succeeded"])
    for _ in range(5):
        succeed(engine)
    with receiving() as quick:
        (service,) = [service for service in SERVICES if service.name == "webhook_sender"]
        assert service.run(engine, HOUSE) == {"started": webhook_sender.SENDERS}
        eventually("the slow one is busy", lambda: len(receiver.received) == deliveries.PER_WEBHOOK)
        subscribe(engine, quick.url, name="quick", events=["job.succeeded"])
        succeed(engine)
        eventually("the quick one hears of it", lambda: (service.run(engine, HOUSE), quick.received)[1])
        with write(engine) as conn:  # no transaction is open while a sender waits
            conn.execute(update(webhooks).values(updated_at=db_now()))
        receiver.closing.set()
        eventually("all senders are free", lambda: not any(t.name == "webhook-sender" for t in threading.enumerate()))


def test_old_deliveries_are_pruned(engine: Engine, receiver: Receiver) -> None:
    subscribe(engine, receiver.url)
    succeed(engine)
    with write(engine) as conn:
        conn.execute(update(webhook_deliveries).values(created_at=db_now() - 31 * 86_400))
        assert deliveries.prune(conn) == 0  # they have not been sent yet
    webhook_sender.deliver_due(engine, HOUSE)
    with write(engine) as conn:
        assert deliveries.prune(conn) == 2
    assert outbox(engine) == []


def test_a_removed_webhook_takes_its_deliveries_along(engine: Engine) -> None:
    webhook_id, _ = subscribe(engine, "http://127.0.0.1:1/")
    job_in_state(engine, JobState.CANCELLED)
    assert types(engine) == ["job.cancelled"]
    with write(engine) as conn:
        subscriptions.remove(conn, webhook_id, OWNER)
    remover.run_once(engine, HOUSE)
    assert outbox(engine) == []


def test_the_snippet_of_the_documentation_verifies(engine: Engine, receiver: Receiver) -> None:
    page = (ROOT / "docs" / "webhooks.md").read_text(encoding="utf-8")
    names: dict[str, Any] = {}
    exec(page.split("```python\n")[1].split("```")[0], names)
    verify = names["verify"]
    _, secret = subscribe(engine, receiver.url, events=["job.succeeded"])
    succeed(engine)
    webhook_sender.deliver_due(engine, HOUSE)
    (request,) = receiver.received
    verify(secret, request.headers, request.body)
    old = str(int(request.headers["webhook-timestamp"]) - 600)
    for headers, body in (
        (request.headers, request.body + b" "),
        ({**request.headers, "webhook-id": "evt_other"}, request.body),
        ({**request.headers, "webhook-timestamp": old}, request.body),
    ):
        with pytest.raises(ValueError, match=r"not signed|too old"):
            verify(secret, headers, body)
