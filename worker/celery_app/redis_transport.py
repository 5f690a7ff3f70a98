"""A Redis transport that survives invalid or forged messages in our lists.

In stock kombu an element that is not JSON, or not a message, ends the worker's main process; a message that fails late
in Celery (such as one with a forged time limit) stays reserved, and the worker receives no more. Here invalid elements
are counted and dropped, and Celery receives a message rebuilt from the original's task name, its id and the job id
shown in Flower, each checked. A doorbell carries nothing that could be lost.
"""

from __future__ import annotations

import re
from queue import Empty
from typing import Any

from kombu.transport import TRANSPORT_ALIASES, redis
from redis.exceptions import DataError

from shared.celery_app import ATTEMPT_TASK, MAINTAIN_TASK
from shared.events import emit

_TASK_ID = re.compile(r"[A-Za-z0-9-]{1,64}")
_JOB_ID = re.compile(r"[0-9a-f]{16}")
#: Errors that a forged element can raise in kombu. Connection errors are others, except KeyError, which kombu also
#: counts as a connection error.
_GARBAGE = (ValueError, TypeError, AttributeError, LookupError, RecursionError, DataError)
_EMPTY_BODY = b'[[], {}, {"callbacks": null, "errbacks": null, "chain": null, "chord": null}]'


class Channel(redis.Channel):
    """A channel that drops invalid elements and rebuilds messages."""

    def _brpop_read(self, **options: Any) -> Any:
        try:
            return super()._brpop_read(**options)  # type: ignore[no-untyped-call]
        except _GARBAGE as error:
            _report_dropped(f"{type(error).__name__}: {error}")
            raise Empty from error

    def basic_consume(self, queue: str, no_ack: bool, callback: Any, consumer_tag: str, **kwargs: Any) -> Any:
        def guarded(message: Any) -> Any:
            if no_ack or queue.endswith(".pidbox"):  # Celery's own traffic, not a task queue
                return callback(message)
            if sanitize(message, queue):
                return callback(message)
            message.reject()
            _report_dropped("not a doorbell")
            return None

        return super().basic_consume(queue, no_ack, guarded, consumer_tag, **kwargs)  # type: ignore[no-untyped-call]


class Transport(redis.Transport):
    """The Redis transport with the guarded channel."""

    Channel = Channel


def sanitize(message: Any, queue: str) -> bool:
    """Rebuild the message from its checked parts. Return False if it is not a doorbell."""
    headers = message.headers
    if not isinstance(headers, dict):
        return False
    task, task_id = headers.get("task"), headers.get("id")
    if not isinstance(task, str) or task not in (ATTEMPT_TASK, MAINTAIN_TASK):
        return False
    if not isinstance(task_id, str) or not _TASK_ID.fullmatch(task_id):
        return False
    message.headers = _headers(task, task_id, headers.get("argsrepr"))
    message.body, message.content_type, message.content_encoding = _EMPTY_BODY, "application/json", "utf-8"
    message.delivery_info = {"exchange": "", "routing_key": queue}
    message.properties = {
        "delivery_tag": message.delivery_tag,
        "delivery_info": message.delivery_info,
        "correlation_id": task_id,
    }
    return True


def _headers(task: str, task_id: str, job_id_shown: object) -> dict[str, Any]:
    job_id = job_id_shown if isinstance(job_id_shown, str) and _JOB_ID.fullmatch(job_id_shown) else ""
    nothing = dict.fromkeys(("parent_id", "group", "group_index", "eta", "expires", "shadow", "ignore_result"))
    return {
        **nothing,
        "lang": "py",
        "task": task,
        "id": task_id,
        "root_id": task_id,
        "retries": 0,
        "timelimit": [None, None],
        "argsrepr": job_id,
        "kwargsrepr": "{}",
        "stamps": {},
        "stamped_headers": None,
    }


def _report_dropped(why: str) -> None:
    emit("doorbell.dropped", why=why[:200])


def install() -> None:
    """Use the guarded transport in this process for all Redis URLs."""
    path = f"{__name__}:Transport"
    for scheme in ("redis", "rediss"):
        TRANSPORT_ALIASES[scheme] = path
