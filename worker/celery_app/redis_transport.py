"""A Redis transport that survives what others put into our lists.

Stock kombu lets any element that is not JSON, or not a message, end the worker's main process; and a message that fails
late in Celery (a forged time limit, say) stays reserved and makes the worker deaf. Here garbage is counted and dropped,
and what Celery gets to see is a message we wrote ourselves: of the one that came only the task's name, its id and the
job id shown in Flower are kept, each checked. A doorbell carries nothing that could be lost.
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
#: What a forged element can raise on its way through kombu. Errors of the connection are others, but for KeyError: to
#: kombu it is a connection error too.
_GARBAGE = (ValueError, TypeError, AttributeError, LookupError, RecursionError, DataError)
_EMPTY_BODY = b'[[], {}, {"callbacks": null, "errbacks": null, "chain": null, "chord": null}]'


class Channel(redis.Channel):
    def _brpop_read(self, **options: Any) -> Any:
        try:
            return super()._brpop_read(**options)  # type: ignore[no-untyped-call]
        except _GARBAGE as error:
            _dropped(f"{type(error).__name__}: {error}")
            raise Empty from error

    def basic_consume(self, queue: str, no_ack: bool, callback: Any, consumer_tag: str, **kwargs: Any) -> Any:
        def guarded(message: Any) -> Any:
            if no_ack or queue.endswith(".pidbox"):  # Celery's own traffic, not a task queue
                return callback(message)
            if sanitize(message, queue):
                return callback(message)
            message.reject()
            _dropped("it is no doorbell of ours")
            return None

        return super().basic_consume(queue, no_ack, guarded, consumer_tag, **kwargs)  # type: ignore[no-untyped-call]


class Transport(redis.Transport):
    Channel = Channel


def sanitize(message: Any, queue: str) -> bool:
    """Replace everything in it by what an honest doorbell says. False: it is none."""
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


def _headers(task: str, task_id: str, shown: object) -> dict[str, Any]:
    job_id = shown if isinstance(shown, str) and _JOB_ID.fullmatch(shown) else ""
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


def _dropped(why: str) -> None:
    emit("doorbell.dropped", why=why[:200])


def install() -> None:
    """Use the guarded transport in this process for every Redis URL."""
    path = f"{__name__}:Transport"
    for scheme in ("redis", "rediss"):
        TRANSPORT_ALIASES[scheme] = path
