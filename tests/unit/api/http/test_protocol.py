"""Requests that stop coming, and bytes that are no request: by a clock of the test's own, and over a real socket."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import uvicorn
from sqlalchemy import Engine
from uvicorn.server import ServerState

from api.http.protocol import MAX_HEAD, patient
from tests.support.api import Api
from tests.support.serving import served

LIMIT = 30.0
HEAD = b"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n"


class Loop:
    """A clock that is set by hand, and the timers on it."""

    def __init__(self) -> None:
        self.now = 0.0
        self.timers: list[tuple[float, Callable[[], None], Mock]] = []

    def time(self) -> float:
        return self.now

    def call_later(self, seconds: float, call: Callable[[], None]) -> Mock:
        handle = Mock(cancelled=False)
        handle.cancel.side_effect = lambda: setattr(handle, "cancelled", True)
        self.timers.append((self.now + seconds, call, handle))
        return handle

    def create_task(self, coroutine: Any, **_: Any) -> Mock:
        coroutine.close()
        return Mock()

    def advance(self, seconds: float) -> None:
        end = self.now + seconds
        while due := sorted((timer for timer in self.timers if timer[0] <= end), key=lambda timer: timer[0]):
            self.timers.remove(due[0])
            self.now = due[0][0]
            if not due[0][2].cancelled:
                due[0][1]()
        self.now = end


class Connection:
    def __init__(self) -> None:
        self.loop = Loop()
        self.sent = b""
        self.closed = False
        self.transport = Mock()
        self.transport.write.side_effect = self._write
        self.transport.close.side_effect = lambda: setattr(self, "closed", True)
        self.transport.is_closing.side_effect = lambda: self.closed
        self.transport.get_extra_info.return_value = None
        config = uvicorn.Config(app=Mock(), log_config=None, http=patient(LIMIT), lifespan="off", interface="asgi3")
        config.load()
        self.protocol: Any = config.http_protocol_class(
            config=config,
            server_state=ServerState(),
            app_state={},
            _loop=self.loop,  # type: ignore[call-arg]
        )
        self.protocol.connection_made(self.transport)

    def _write(self, data: bytes) -> None:
        self.sent += data

    def receive(self, data: bytes) -> None:
        self.protocol.data_received(data)

    def problem(self) -> dict[str, Any]:
        """What was answered before the connection was closed."""
        assert self.closed
        head, _, body = self.sent.partition(b"\r\n\r\n")
        assert b"content-type: application/problem+json" in head
        answer: dict[str, Any] = json.loads(body)
        assert head.startswith(f"HTTP/1.1 {answer['status']} ".encode())
        return answer


def test_a_connection_that_says_nothing_is_closed() -> None:
    connection = Connection()
    connection.loop.advance(LIMIT + 1)
    assert (connection.closed, connection.sent) == (True, b"")


def test_a_head_that_comes_byte_by_byte_has_one_deadline() -> None:
    connection = Connection()
    for byte in range(10):
        connection.receive(HEAD[byte : byte + 1])
        connection.loop.advance(LIMIT / 10 + 0.1)
    assert connection.problem()["status"] == 408


def test_a_body_may_take_long_while_bytes_come_and_is_given_up_when_none_do() -> None:
    connection = Connection()
    connection.receive(HEAD + b"\r\n")
    for _ in range(50):
        connection.loop.advance(LIMIT * 0.9)
        connection.receive(b"x")
    assert not connection.closed
    connection.loop.advance(LIMIT + 1)
    assert connection.problem()["status"] == 408


def test_silence_is_not_the_clients_while_the_application_does_not_read() -> None:
    connection = Connection()
    connection.receive(HEAD.replace(b"1000", b"1000000") + b"\r\n" + b"x" * 100_000)
    assert connection.protocol.flow.read_paused
    connection.loop.advance(LIMIT * 10)
    assert not connection.closed
    connection.protocol.flow.resume_reading()
    connection.loop.advance(LIMIT * 2)
    assert connection.closed


def test_an_answer_may_take_as_long_as_it_likes() -> None:
    connection = Connection()
    connection.receive(b"GET /v1/jobs/0123/events HTTP/1.1\r\nHost: x\r\n\r\n")
    connection.loop.advance(LIMIT * 100)
    assert not connection.closed


def test_an_answer_that_has_begun_is_not_answered_again() -> None:
    connection = Connection()
    connection.receive(HEAD + b"\r\n")
    connection.protocol.cycle.response_started = True
    connection.loop.advance(LIMIT * 2)
    assert (connection.closed, connection.sent) == (True, b"")


def test_a_closed_connection_leaves_no_timer() -> None:
    connection = Connection()
    connection.protocol.connection_lost(None)
    assert all(handle.cancelled for _, _, handle in connection.loop.timers)


@pytest.mark.parametrize(
    "data",
    [
        b"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nIdempotency-Key: a\x01b\r\n\r\n",
        b"GET /v1/jobs HTTP/1.1\r\nHost: x\r\nno colon\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
    ids=["a control byte in a header", "a broken header", "TLS"],
)
def test_what_is_no_request_gets_a_problem(data: bytes) -> None:
    connection = Connection()
    connection.receive(data)
    assert connection.problem()["status"] == 400


def test_a_head_without_end_is_refused() -> None:
    connection = Connection()
    for _ in range(MAX_HEAD // 1_000 + 2):
        connection.receive(b"X-More: " + b"x" * 990 + b"\r\n" if connection.protocol._head_bytes else HEAD)
        if connection.closed:
            break
    assert connection.problem()["status"] == 431


def test_a_half_sent_request_is_closed_by_the_server(sqlite_engine: Engine, tmp_path: Path) -> None:
    api = Api(sqlite_engine, tmp_path, request_seconds=0.1)
    with served(api.app) as url:
        host, _, port = url.removeprefix("http://").partition(":")
        for begun in (b"", HEAD, HEAD + b"Authorization: Bearer " + api.key.encode() + b"\r\n\r\n{"):
            with socket.create_connection((host, int(port)), timeout=60) as client:
                client.sendall(begun)
                answer = b"".join(iter(lambda: client.recv(4096), b""))  # until the server closes
                assert answer.startswith(b"HTTP/1.1 408 " if begun else b"")
