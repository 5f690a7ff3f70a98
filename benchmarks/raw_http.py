"""A load generator that costs little: prepared bytes over kept connections, in threads."""

from __future__ import annotations

import itertools
import json
import socket
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

#: Longest wait for an answer (seconds).
TIMEOUT = 120.0


@dataclass(frozen=True)
class Target:
    """An endpoint, and the request that is sent to it again and again."""

    port: int
    path: str
    body: Mapping[str, Any]
    headers: Mapping[str, str]

    def request(self) -> bytes:
        """Return the request as bytes."""
        body = json.dumps(self.body).encode()
        lines = [
            f"POST {self.path} HTTP/1.1",
            f"Host: 127.0.0.1:{self.port}",
            "Content-Type: application/json",
            f"Content-Length: {len(body)}",
            *(f"{name}: {value}" for name, value in self.headers.items()),
        ]
        return "\r\n".join([*lines, "", ""]).encode() + body


class Connection:
    """One kept connection."""

    def __init__(self, target: Target) -> None:
        self._request = target.request()
        self._socket = socket.create_connection(("127.0.0.1", target.port), timeout=TIMEOUT)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self) -> None:
        """Send the request and read the answer, which must be 202."""
        self._socket.sendall(self._request)
        received = b""
        while b"\r\n\r\n" not in received:
            received += self._more()
        head, _, body = received.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 202"), received.decode(errors="replace")
        length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        while len(body) < length:
            body += self._more()

    def _more(self) -> bytes:
        data = self._socket.recv(65_536)
        assert data, "the server closed the connection"
        return data

    def close(self) -> None:
        """Close it."""
        self._socket.close()


def one_client(target: Target, count: int) -> list[float]:
    """Send requests one after the other; return the seconds of each."""
    connection, seconds = Connection(target), []
    for _ in range(count):
        begun = time.perf_counter()
        connection.send()
        seconds.append(time.perf_counter() - begun)
    connection.close()
    return seconds


def many_clients(target: Target, clients: int, seconds: float) -> float:
    """Let clients send one request after the other for a time; return the answers per second."""
    connections = [Connection(target) for _ in range(clients)]
    begun, answered = time.perf_counter(), [0] * clients

    def send(place: int) -> None:
        while time.perf_counter() < begun + seconds:
            connections[place].send()
            answered[place] += 1

    _in_threads(send, clients)
    took = time.perf_counter() - begun
    for connection in connections:
        connection.close()
    return sum(answered) / took


def open_loop(target: Target, per_second: float, seconds: float, connections: int = 64) -> list[float]:
    """Send requests at fixed times, however slow the answers are; return the seconds from due to answered."""
    opened = [Connection(target) for _ in range(connections)]
    numbers, total = itertools.count(), int(per_second * seconds)
    begun = time.perf_counter() + 0.05
    found: list[float] = []

    def send(place: int) -> None:
        while (number := next(numbers)) < total:
            due = begun + number / per_second
            time.sleep(max(0.0, due - time.perf_counter()))
            opened[place].send()
            found.append(time.perf_counter() - due)

    _in_threads(send, connections)
    for connection in opened:
        connection.close()
    return found


def _in_threads(work: Any, count: int) -> None:
    threads = [threading.Thread(target=work, args=(place,)) for place in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
