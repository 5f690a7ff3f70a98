"""Server-sent events: parse a stream, and follow a job across dropped connections without losing an event."""

from __future__ import annotations

import json
import math
import time
from asyncio import sleep as asyncio_sleep
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import Any

from nightshift.client.types import Event
from nightshift.errors import Unavailable
from nightshift.states import FINAL_STATES

#: Seconds before the first reconnection, doubled for each further one up to the second number.
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0

#: Longest time between two messages of the server (seconds): it sends a comment when there is no event.
KEEPALIVE_SECONDS = 15.0

#: Opens the event stream after an event id (None: from the first event).
Connect = Callable[[int | None], AbstractContextManager[Iterable[bytes]]]
ConnectAsync = Callable[[int | None], AbstractAsyncContextManager[AsyncIterable[bytes]]]
#: Called with the error of each connection that broke or failed, before the next attempt.
OnDrop = Callable[[Exception], None]


class StreamDropped(Exception):
    """The connection broke or timed out. The server still has all events after the last one received."""


def headers(after: int | None) -> dict[str, str]:
    """Return the headers of a request for the events after an id."""
    resumed = {} if after is None else {"last-event-id": str(after)}
    return {"accept": "text/event-stream", **resumed}


class Deadline:
    """The deadline of `Job.wait`: `check` and `cut` raise `TimeoutError` with this message after it."""

    def __init__(self, seconds: float | None, message: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._message, self._clock = message, clock
        self._at = math.inf if seconds is None else clock() + seconds

    @property
    def left(self) -> float:
        """Seconds until the deadline, at least 0."""
        return max(0.0, self._at - self._clock())

    def check(self) -> None:
        """Raise `TimeoutError` after the deadline."""
        if self.left <= 0:
            raise TimeoutError(self._message)

    def cut(self, chunks: Iterable[bytes], silence: float) -> Iterator[bytes]:
        """Yield the chunks of a connection whose read timeout is `silence` seconds.

        Raise `StreamDropped` when a timeout would end after the deadline: the next connection has a shorter one.
        """
        for chunk in chunks:
            self.check()
            yield chunk
            if self.left < min(silence - 1.0, KEEPALIVE_SECONDS):
                raise StreamDropped("the deadline is near")


class Parser:
    """A parser of server-sent events, without I/O.

    Lines end with LF or CR LF only: a log message may contain U+2028, at which `str.splitlines` would split. A block
    without a closing blank line is incomplete and is dropped; the server sends it again after a reconnection.
    """

    def __init__(self) -> None:
        self._rest = b""
        self._fields: dict[str, str] = {}

    def feed(self, chunk: bytes) -> Iterator[Event]:
        """Yield the events that are complete with this chunk."""
        *whole, self._rest = (self._rest + chunk).split(b"\n")
        for line in whole:
            yield from self._line(line.removesuffix(b"\r").decode("utf-8", "replace"))

    def _line(self, line: str) -> Iterator[Event]:
        fields = self._fields
        if line:
            name, _, value = line.partition(":")
            value = value.removeprefix(" ")
            fields[name] = f"{fields[name]}\n{value}" if name == "data" and "data" in fields else value
        else:
            if "id" in fields and "data" in fields:
                yield _event(fields)
            self._fields = {}


def parse(chunks: Iterable[bytes]) -> Iterator[Event]:
    """Yield the events of one stream."""
    parser = Parser()
    for chunk in chunks:
        yield from parser.feed(chunk)


def _event(fields: dict[str, str]) -> Event:
    data: dict[str, Any] = json.loads(fields["data"])
    return Event(int(fields["id"]), fields.get("event", "message"), data.pop("at", None), data)


class Place:
    """The position in a job's events, kept over any number of connections; without I/O.

    `after` is the id of the last event. `over`: the final state was among the events. `idle`: the current connection
    has brought no new event, so the job's state must be requested to see whether more will come.
    """

    def __init__(self, after: int | None, patience: float, clock: Callable[[], float]) -> None:
        self.after, self.over, self.idle = after, False, True
        self._patience, self._clock = patience, clock
        self._failing_since, self._pause = math.inf, FIRST_PAUSE

    def connected(self) -> None:
        """Note a new connection."""
        self._failing_since, self.idle = math.inf, True

    def take(self, event: Event) -> bool:
        """Note an event. Return False if it is a repeated one."""
        self._pause = FIRST_PAUSE
        if self.after is not None and event.id <= self.after:
            return False
        self.after, self.idle = event.id, False
        if event.type == "state" and "state" in event.data:
            self.over = event.data["state"] in FINAL_STATES
        return True

    def dropped(self, error: Exception) -> None:
        """Note a dropped connection. Raise `Unavailable` after `patience` seconds without a connection."""
        now = self._clock()
        self._failing_since = min(self._failing_since, now)
        if now - self._failing_since > self._patience:
            raise Unavailable(f"the event stream cannot be read: {error}") from error

    def next_pause(self) -> float:
        """Return the seconds before the next reconnection, and double them."""
        pause, self._pause = self._pause, min(self._pause * 2, LONGEST_PAUSE)
        return pause


def follow(
    connect: Connect,
    is_final: Callable[[], bool],
    *,
    after: int | None = None,
    patience: float = 300.0,
    on_drop: OnDrop | None = None,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Event]:
    """Yield every event after `after`, once and in order, until the job is final and its stream has ended.

    When the connection drops, call `on_drop` with the error and resume after the last event. Raise `Unavailable` after
    `patience` seconds without a connection. `is_final` asks the server; it is called only when a stream ends without
    a new event.
    """
    place = Place(after, patience, clock)
    while True:
        try:
            with connect(place.after) as chunks:
                place.connected()
                yield from filter(place.take, parse(chunks))
            if place.over or (place.idle and is_final()):
                return
        except (StreamDropped, Unavailable) as error:
            place.dropped(error)
            if on_drop:
                on_drop(error)
        sleep(place.next_pause())


async def follow_async(
    connect: ConnectAsync,
    is_final: Callable[[], Awaitable[bool]],
    *,
    after: int | None = None,
    patience: float = 300.0,
    on_drop: OnDrop | None = None,
    sleep: Callable[[float], Awaitable[None]] = asyncio_sleep,
    clock: Callable[[], float] = time.monotonic,
) -> AsyncIterator[Event]:
    """`follow` for asyncio."""
    place = Place(after, patience, clock)
    while True:
        try:
            async with connect(place.after) as chunks:
                place.connected()
                parser = Parser()
                async for chunk in chunks:
                    for event in filter(place.take, parser.feed(chunk)):
                        yield event
            if place.over or (place.idle and await is_final()):
                return
        except (StreamDropped, Unavailable) as error:
            place.dropped(error)
            if on_drop:
                on_drop(error)
        await sleep(place.next_pause())
