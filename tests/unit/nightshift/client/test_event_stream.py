"""Event streams: however a connection breaks, every event arrives once and in order."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import pytest

from nightshift.client.event_stream import StreamDropped, follow, parse
from nightshift.client.types import Event
from nightshift.errors import Unavailable


def frame(seq: int, type: str, **data: object) -> bytes:
    body = json.dumps({"at": "2027-01-31T02:00:00.000Z", **data}, ensure_ascii=False)
    return f"id: {seq}\nevent: {type}\ndata: {body}\n\n".encode()


STORY = [
    frame(1, "state", state="running", attempt=1),
    frame(2, "progress", step=10, total_steps=20),
    frame(3, "log", message="a line\u2028in\x85two\u000bthree — 学"),
    frame(5, "metric", name="loss", step=10, value=0.5),
    frame(6, "state", state="succeeded"),
]
IDS = [1, 2, 3, 5, 6]


class Server:
    """Serves the story after a number; connection n breaks after `breaks[n]` bytes."""

    def __init__(self, breaks: Iterable[int | None] = (), *, refused: int = 0) -> None:
        self.breaks, self.refused = iter(breaks), refused
        self.asked: list[int | None] = []

    @contextmanager
    def connect(self, after: int | None) -> Iterator[Iterable[bytes]]:
        self.asked.append(after)
        if self.refused:
            self.refused -= 1
            raise Unavailable("refused")
        body = b"retry: 1000\n\n: keep-alive\n\n" + b"".join(
            part for seq, part in zip(IDS, STORY, strict=True) if seq > (after or 0)
        )
        yield self._chunks(body, next(self.breaks, None))

    def _chunks(self, body: bytes, limit: int | None) -> Iterator[bytes]:
        for byte in body[:limit]:
            yield bytes([byte])
        if limit is not None and limit < len(body):
            raise StreamDropped("reset by peer")


def followed(server: Server, **options: object) -> list[Event]:
    return list(follow(server.connect, lambda: True, sleep=lambda _: None, **options))  # type: ignore[arg-type]


def test_events_are_parsed_from_chunks_of_any_size() -> None:
    body = b"".join(STORY)
    whole = list(parse([body]))
    assert [event.id for event in whole] == IDS
    assert whole[2].data == {"message": "a line\u2028in\x85two\u000bthree — 学"}
    assert whole[0].at == "2027-01-31T02:00:00.000Z"
    for size in (1, 2, 3, 7, 64):
        assert list(parse(body[i : i + size] for i in range(0, len(body), size))) == whole
    assert list(parse([body.replace(b"\n", b"\r\n")])) == whole


def test_an_event_cut_off_in_the_middle_is_not_delivered() -> None:
    assert [event.id for event in parse([STORY[0] + STORY[1][:-1]])] == [1]


def test_a_connection_that_drops_at_any_byte_loses_and_doubles_nothing() -> None:
    total = sum(map(len, STORY)) + 40
    for cut in range(total):
        assert [event.id for event in followed(Server([cut]))] == IDS, cut


def test_a_clean_end_before_the_final_state_is_taken_up_again() -> None:
    class Ending(Server):
        def _chunks(self, body: bytes, limit: int | None) -> Iterator[bytes]:
            yield body[:limit]

    server = Ending([len(STORY[0]) + 27])
    assert [event.id for event in followed(server)] == IDS
    assert server.asked == [None, 1]


def test_following_begins_after_the_given_event() -> None:
    server = Server()
    assert [event.id for event in followed(server, after=3)] == [5, 6]
    assert server.asked == [3]


def test_events_a_server_repeats_are_dropped() -> None:
    class Forgetful(Server):
        @contextmanager
        def connect(self, after: int | None) -> Iterator[Iterable[bytes]]:
            with super().connect(None) as chunks:
                yield chunks

    cut = 27 + len(STORY[0]) + len(STORY[1]) + 5
    assert [event.id for event in followed(Forgetful([cut]))] == IDS


def test_the_stream_of_a_job_that_was_final_before_is_empty() -> None:
    assert followed(Server(), after=6) == []


def test_patience_counts_from_the_first_failure_only() -> None:
    now = iter(range(0, 10_000, 100))
    server = Server(refused=2)
    events = follow(server.connect, lambda: True, patience=250, sleep=lambda _: None, clock=lambda: next(now))
    assert [event.id for event in events] == IDS


def test_an_api_that_stays_away_is_reported() -> None:
    now = iter(range(0, 10_000, 100))
    events = follow(
        Server(refused=99).connect, lambda: True, patience=250, sleep=lambda _: None, clock=lambda: next(now)
    )
    with pytest.raises(Unavailable, match="refused"):
        list(events)
