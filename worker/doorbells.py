"""A Redis transport that survives what others put into our lists.

Stock kombu lets any element that is not JSON, or not a message, end the worker's main process. Here it is counted and
dropped: a doorbell carries nothing that could be lost.
"""

from __future__ import annotations

import re
from queue import Empty
from typing import Any

from kombu.transport import TRANSPORT_ALIASES, redis

from shared.broker import ATTEMPT_TASK, MAINTAIN_TASK
from shared.events import emit

#: A real doorbell has about 1,200 bytes.
MAX_BODY_BYTES = 16_384
_TASK_ID = re.compile(r"[A-Za-z0-9-]{1,64}")
#: What a forged element can raise on its way through kombu and Celery's strategy. Errors of the connection are others.
_GARBAGE = (ValueError, TypeError, AttributeError, LookupError, RecursionError)


class Channel(redis.Channel):
    def _brpop_read(self, **options: Any) -> Any:
        try:
            return super()._brpop_read(**options)  # type: ignore[no-untyped-call]
        except self.connection_errors as error:
            # A KeyError counts as a connection error to kombu, but so does a message without properties.
            if isinstance(error, KeyError):
                _dropped(error)
                raise Empty from error
            raise
        except _GARBAGE as error:
            _dropped(error)
            raise Empty from error

    def basic_consume(self, queue: str, no_ack: bool, callback: Any, consumer_tag: str, **kwargs: Any) -> Any:
        def guarded(message: Any) -> Any:
            if not no_ack and not is_doorbell(message):
                message.reject()
                _dropped(ValueError("it is no doorbell of ours"))
                return None
            return callback(message)

        return super().basic_consume(queue, no_ack, guarded, consumer_tag, **kwargs)  # type: ignore[no-untyped-call]


class Transport(redis.Transport):
    Channel = Channel


def is_doorbell(message: Any) -> bool:
    """A task of ours with a sane id and size. Everything else is refused before Celery looks at it."""
    headers = message.headers
    if not isinstance(headers, dict) or headers.get("task") not in (ATTEMPT_TASK, MAINTAIN_TASK):
        return False
    task_id, body = headers.get("id"), message.body
    return (
        isinstance(task_id, str)
        and _TASK_ID.fullmatch(task_id) is not None
        and isinstance(body, str | bytes)
        and len(body) <= MAX_BODY_BYTES
        and len(str(headers)) <= MAX_BODY_BYTES
    )


def _dropped(error: BaseException) -> None:
    emit("doorbell.dropped", why=f"{type(error).__name__}: {error}"[:200])


def guard() -> None:
    """Use the guarded transport in this process for every Redis URL."""
    path = f"{__name__}:Transport"
    for scheme in ("redis", "rediss"):
        TRANSPORT_ALIASES[scheme] = path
