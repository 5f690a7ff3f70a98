"""Our pages inside Flower in this process: the real application on its own port, without a broker."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from flower.options import default_options
from sqlalchemy import Engine
from tornado.ioloop import IOLoop

from api.flower.app import build
from shared.db.engine import write
from shared.fleet import keys
from shared.settings import Settings


@dataclass
class FlowerApp:
    engine: Engine
    url: str
    key: str
    owner: str
    client: httpx.Client
    settings: Settings
    serving: _Serving

    @property
    def flower(self) -> Any:
        """Flower's own application object."""
        return self.serving.app

    def compare(self) -> None:
        """Reconcile Flower's list of tasks with SQL, as otherwise happens every second."""
        self.serving.run_in_loop(self.flower.events.compare())

    def data(self, path: str, **query: Any) -> Any:
        """Return the data that a page's script requests."""
        answer = self.client.get(f"/nightshift{path}", params=query)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def post(self, path: str, body: dict[str, Any] | None = None, **headers: str) -> httpx.Response:
        """Send a POST as a page's script does, with the page's token."""
        self.client.get("/nightshift/devices")
        token = {"X-XSRFToken": self.client.cookies.get("_xsrf") or ""}
        return self.client.post(f"/nightshift{path}", json=body or {}, headers=token | headers)


@contextmanager
def running_flower_app(engine: Engine, data_dir: Path, **settings: Any) -> Iterator[FlowerApp]:
    with write(engine) as conn:
        principal, key = keys.create(conn, "test")
    values: dict[str, Any] = {
        "database_url": engine.url.render_as_string(hide_password=False),
        "redis_url": "redis://127.0.0.1:1/0",
        "data_dir": data_dir,
        "flower_port": 0,
    }
    chosen = Settings(**values | settings)
    serving = _Serving(chosen, engine)
    serving.start()
    try:
        url = f"http://127.0.0.1:{serving.ready()}"
        with httpx.Client(base_url=url, auth=("nightshift", key), timeout=180) as client:
            yield FlowerApp(engine, url, key, principal.owner_id, client, chosen, serving)
    finally:
        serving.stop()


class _Serving(threading.Thread):
    """Tornado's loop in a thread; Flower's own threads (events, inspection) are not started."""

    def __init__(self, settings: Settings, engine: Engine) -> None:
        super().__init__(name="flower", daemon=True)
        self._settings, self._engine = settings, engine
        self._listening = threading.Event()
        self._port = 0
        self._loop: IOLoop | None = None
        self.app: Any = None

    def run(self) -> None:
        self._loop = IOLoop()
        self.app = build(self._settings, self._engine)
        self._port = self.app.start_http_server()
        self._listening.set()
        self._loop.start()
        self._loop.close(all_fds=True)

    def ready(self) -> int:
        assert self._listening.wait(180), "Flower did not start"
        return self._port

    def run_in_loop(self, work: Coroutine[Any, Any, None]) -> None:
        assert self._loop is not None
        asyncio.run_coroutine_threadsafe(work, self._loop.asyncio_loop).result(60)  # type: ignore[attr-defined]

    def stop(self) -> None:
        if self._loop is not None:
            self._loop.add_callback(self._loop.stop)
        self.join(30)
        default_options.read_only = False
