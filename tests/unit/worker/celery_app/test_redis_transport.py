"""What Celery gets to see of a message is what we wrote ourselves."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from shared.celery_app import ATTEMPT_TASK
from worker.celery_app.redis_transport import sanitize


def _message(headers: Any, body: Any = b"[]") -> Any:
    return SimpleNamespace(
        headers=headers,
        body=body,
        content_type="application/x-python-serialize",
        content_encoding="binary",
        delivery_tag="tag",
        delivery_info={"exchange": "elsewhere", "routing_key": "x"},
        properties={"reply_to": "somebody", "delivery_tag": "tag"},
    )


@pytest.mark.parametrize(
    "headers",
    [
        None,
        [],
        "text",
        {},
        {"task": "os.system", "id": "1"},
        {"task": [ATTEMPT_TASK], "id": "1"},
        {"task": {}, "id": "1"},
        {"task": ATTEMPT_TASK},
        {"task": ATTEMPT_TASK, "id": None},
        {"task": ATTEMPT_TASK, "id": "x" * 65},
        {"task": ATTEMPT_TASK, "id": "a b"},
    ],
)
def test_what_is_no_doorbell_is_refused(headers: Any) -> None:
    assert not sanitize(_message(headers), "nightshift.auto")


def test_nothing_of_a_forged_message_survives() -> None:
    forged = {"task": ATTEMPT_TASK, "id": "a-1", "argsrepr": "<script>", "eta": "now", "timelimit": "x", "evil": 1}
    message = _message(forged, body="A" * 10_000_000)
    assert sanitize(message, "nightshift.auto")
    assert (message.headers["task"], message.headers["id"], message.headers["argsrepr"]) == (ATTEMPT_TASK, "a-1", "")
    assert (message.headers["eta"], message.headers["timelimit"]) == (None, [None, None])
    assert "evil" not in message.headers
    assert len(message.body) < 100
    assert message.content_type == "application/json"
    assert "reply_to" not in message.properties
    assert message.properties["delivery_tag"] == "tag", "it must still be acknowledged"


def test_the_job_id_is_kept_for_flower() -> None:
    message = _message({"task": ATTEMPT_TASK, "id": "a-1", "argsrepr": "0123456789abcdef"})
    assert sanitize(message, "nightshift.auto")
    assert message.headers["argsrepr"] == "0123456789abcdef"
