"""The API on a real port, which tests may restart, and a proxy before it that cuts connections."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import uvicorn
from sqlalchemy import Engine

from api.app import create_app
from api.server import Server
from shared.db.engine import write
from shared.fleet import keys
from shared.settings import Settings
from tests.support.factories import OWNER
from tests.support.redis import free_port


class ServedApi:
    """Keeps its address over restarts. `key` belongs to the factories' owner."""

    def __init__(self, engine: Engine, folder: Path) -> None:
        self.engine = engine
        self.settings = Settings(data_dir=folder / "data")
        with write(engine) as conn:
            self.key = keys.create(conn, "test", OWNER)[1]
        self.port = free_port()  # no other process gets it while this is stopped
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        listening = socket.create_server(("127.0.0.1", self.port))
        app = create_app(self.settings, self.engine, ring=lambda device, job_id: None)
        self._server = Server(uvicorn.Config(app, log_config=None, timeout_graceful_shutdown=5))
        self._thread = threading.Thread(target=self._server.run, args=([listening],), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join()


@contextmanager
def served_api(engine: Engine, folder: Path) -> Iterator[ServedApi]:
    served = ServedApi(engine, folder)
    try:
        yield served
    finally:
        served.stop()


class CuttingProxy:
    """Forwards connections to `port` and resets each after `limit` bytes of the answer."""

    def __init__(self, port: int, limit: int) -> None:
        self._target, self._limit = port, limit
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        self.cuts = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listening.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                inside, _ = self._listening.accept()
                outside = socket.create_connection(("127.0.0.1", self._target))
                threading.Thread(target=self._copy, args=(inside, outside, None), daemon=True).start()
                threading.Thread(target=self._copy, args=(outside, inside, self._limit), daemon=True).start()

    def _copy(self, source: socket.socket, target: socket.socket, limit: int | None) -> None:
        passed = 0
        with suppress(OSError):
            while data := source.recv(4096 if limit is None else min(4096, limit - passed)):
                target.sendall(data)
                passed += len(data)
                if passed == limit:
                    self.cuts += 1
                    # Zero linger: close() sends a reset.
                    target.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
                    break
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RD)
            end.close()
