"""Server-sent events: reading one stream, and following a job across dropped connections without missing an event."""

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

#: Seconds to the first reconnection; doubles up to the second number.
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0

#: The server breaks a silence at least so often (seconds).
KEEPALIVE_SECONDS = 15.0

#: Opens the stream after an event number.
Connect = Callable[[int | None], AbstractContextManager[Iterable[bytes]]]
ConnectAsync = Callable[[int | None], AbstractAsyncContextManager[AsyncIterable[bytes]]]
#: Told of each connection that broke or could not be made, before the next is tried.
OnDrop = Callable[[Exception], None]


class StreamDropped(Exception):
    """The connection broke or fell silent; everything after the last event is still on the server."""


def headers(after: int | None) -> dict[str, str]:
    """Of a request for the events after a number."""
    resumed = {} if after is None else {"last-event-id": str(after)}
    return {"accept": "text/event-stream", **resumed}


class Deadline:
    """A time after which a follower gives up: `check` and `cut` raise TimeoutError(`message`)."""

    def __init__(self, seconds: float | None, message: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._message, self._clock = message, clock
        self._at = math.inf if seconds is None else clock() + seconds

    @property
    def left(self) -> float:
        return max(0.0, self._at - self._clock())

    def check(self) -> None:
        if self.left <= 0:
            raise TimeoutError(self._message)

    def cut(self, chunks: Iterable[bytes], silence: float) -> Iterator[bytes]:
        """The chunks of a connection that may be silent for so many seconds. When that would outlast the deadline, it
        is dropped: the next connection is made with the time that is left."""
        for chunk in chunks:
            self.check()
            yield chunk
            if self.left < min(silence - 1.0, KEEPALIVE_SECONDS):
                raise StreamDropped("the deadline is near")


class Parser:
    """Bytes in, events out; sans I/O. Lines end by LF or CR LF only: a log message may hold U+2028, which
    `str.splitlines` takes for an end. A block without its closing blank line was cut off: it will be sent again."""

    def __init__(self) -> None:
        self._rest = b""
        self._fields: dict[str, str] = {}

    def feed(self, chunk: bytes) -> Iterator[Event]:
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
    """Events of one stream."""
    parser = Parser()
    for chunk in chunks:
        yield from parser.feed(chunk)


def _event(fields: dict[str, str]) -> Event:
    data: dict[str, Any] = json.loads(fields["data"])
    return Event(int(fields["id"]), fields.get("event", "message"), data.pop("at", None), data)


class Place:
    """Where the reader of a job's events stands, over any number of connections; sans I/O.

    `after` is the last event seen. `over`: the final state was among them. `idle`: the present connection brought
    nothing new, so that only the job itself can say whether there is more to come.
    """

    def __init__(self, after: int | None, patience: float, clock: Callable[[], float]) -> None:
        self.after, self.over, self.idle = after, False, True
        self._patience, self._clock = patience, clock
        self._failing_since, self._pause = math.inf, FIRST_PAUSE

    def connected(self) -> None:
        self._failing_since, self.idle = math.inf, True

    def take(self, event: Event) -> bool:
        """Note an event; False for one that came before."""
        self._pause = FIRST_PAUSE
        if self.after is not None and event.id <= self.after:
            return False
        self.after, self.idle = event.id, False
        if event.type == "state" and "state" in event.data:
            self.over = event.data["state"] in FINAL_STATES
        return True

    def dropped(self, error: Exception) -> None:
        """Raises Unavailable when there was no connection for longer than the patience lasts."""
        now = self._clock()
        self._failing_since = min(self._failing_since, now)
        if now - self._failing_since > self._patience:
            raise Unavailable(f"the event stream cannot be read: {error}") from error

    def next_pause(self) -> float:
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
    """Every event after `after`, once and in order, until the job is final and its stream has been read to the end.

    Reconnects where it stopped when the connection drops (and tells `on_drop` why); raises `Unavailable` when
    `patience` seconds have passed without a connection. `is_final` asks the server; it is called only when a stream
    ends without saying so.
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
