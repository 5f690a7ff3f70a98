"""Server-sent events: reading one stream, and following a job across dropped connections without missing an event."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from typing import Any

from api.client.shapes import Event
from shared.errors import Unavailable
from shared.jobs.states import FINAL_STATES

#: Seconds to the first reconnection; doubles up to the second number.
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0

#: Opens the stream after an event number.
Connect = Callable[[int | None], AbstractContextManager[Iterable[bytes]]]


class StreamDropped(Exception):
    """The connection broke or fell silent; everything after the last event is still on the server."""


def lines(chunks: Iterable[bytes]) -> Iterator[str]:
    """Lines ended by LF or CR LF only: a log message may hold U+2028, which `str.splitlines` takes for an end."""
    rest = b""
    for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        yield from (line.removesuffix(b"\r").decode("utf-8", "replace") for line in whole)


def parse(chunks: Iterable[bytes]) -> Iterator[Event]:
    """Events of one stream. A block without its closing blank line was cut off and is dropped: it will be sent again."""
    fields: dict[str, str] = {}
    for line in lines(chunks):
        if line:
            name, _, value = line.partition(":")
            value = value.removeprefix(" ")
            fields[name] = f"{fields[name]}\n{value}" if name == "data" and "data" in fields else value
        else:
            if "id" in fields and "data" in fields:
                yield _event(fields)
            fields = {}


def _event(fields: dict[str, str]) -> Event:
    data: dict[str, Any] = json.loads(fields["data"])
    return Event(int(fields["id"]), fields.get("event", "message"), data.pop("at", None), data)


def follow(
    connect: Connect,
    is_final: Callable[[], bool],
    *,
    after: int | None = None,
    patience: float = 300.0,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Event]:
    """Every event after `after`, once and in order, until the job is final and its stream has been read to the end.

    Reconnects where it stopped when the connection drops; raises `Unavailable` when `patience` seconds have passed
    without a connection. `is_final` asks the server; it is called only when a stream ends without saying so.
    """
    over, pause, failing_since = False, FIRST_PAUSE, math.inf
    while True:
        asked_after = after
        try:
            with connect(after) as chunks:
                failing_since = math.inf
                for event in parse(chunks):
                    pause = FIRST_PAUSE
                    if after is not None and event.id <= after:
                        continue
                    after = event.id
                    if event.type == "state" and "state" in event.data:
                        over = event.data["state"] in FINAL_STATES
                    yield event
            if over or (after == asked_after and is_final()):
                return
        except (StreamDropped, Unavailable) as error:
            now = clock()
            failing_since = min(failing_since, now)
            if now - failing_since > patience:
                raise Unavailable(f"the event stream cannot be read: {error}") from error
        sleep(pause)
        pause = min(pause * 2, LONGEST_PAUSE)
