"""The API under test: the app in this process, a key, and a doorbell that only records."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from sqlalchemy import Engine
from starlette.routing import BaseRoute, Mount, Route
from starlette.testclient import TestClient

from api.app import create_app
from shared.db.engine import write
from shared.errors import BrokerUnavailable
from shared.fleet import keys
from shared.settings import Settings
from tests.support.factories import OWNER

#: The smallest valid body of a job.
TRAIN: dict[str, Any] = {"kind": "train", "model": {"family": "cnn"}, "dataset": "digits"}


class Api:
    """`get`, `post` and `send` carry the key; `rung` lists the doorbells."""

    def __init__(self, engine: Engine, folder: Path, **settings: Any) -> None:
        self.engine = engine
        self.settings = Settings(data_dir=folder / "data", **settings)
        self.rung: list[tuple[str, str]] = []
        self.broker_is_up = True
        self.app = create_app(
            self.settings, engine, ring=lambda device, job_id: self.rung.append((device, job_id)), ping=self._ping
        )
        _share_routes(self.app)
        self.http = TestClient(self.app, raise_server_exceptions=False)
        self.key = self.new_key(OWNER)

    def new_key(self, owner_id: str) -> str:
        with write(self.engine) as conn:
            return keys.create(conn, "test", owner_id)[1]

    def send(self, method: str, path: str, *, key: str | None = None, **request: Any) -> Any:
        headers = {"Authorization": f"Bearer {key or self.key}", **request.pop("headers", {})}
        return self.http.request(method, path, headers=headers, **request)

    def get(self, path: str, **request: Any) -> Any:
        return self.send("GET", path, **request)

    def post(self, path: str, **request: Any) -> Any:
        return self.send("POST", path, **request)

    def submit(self, idempotency_key: str | None = None, **fields: Any) -> Any:
        headers = {"Idempotency-Key": idempotency_key} if idempotency_key is not None else {}
        return self.post("/v1/jobs", json={**TRAIN, **fields}, headers=headers)

    def _ping(self) -> None:
        if not self.broker_is_up:
            raise BrokerUnavailable("the broker does not answer")


#: Those of the first app.
_routers: list[BaseRoute] = []


def _share_routes(app: FastAPI) -> None:
    """Give it the included routers of the first app.

    FastAPI works out their routes when they are first asked for something,
    which takes an app a tenth of a second, and an app is all that one test has."""
    own = [route for route in app.router.routes if isinstance(route, (Route, Mount))]
    _routers[:] = _routers or [route for route in app.router.routes if route not in own]
    app.router.routes[:] = [*own, *_routers]


@contextmanager
def running_api(engine: Engine, folder: Path, **settings: Any) -> Iterator[Api]:
    api = Api(engine, folder, **settings)
    with api.http:
        yield api


def assert_problem(response: Any, status: int, *locs: tuple[str | int, ...]) -> dict[str, Any]:
    """Assert a problem document of this status whose errors name exactly these fields."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = response.json()
    assert body["status"] == status
    assert body["title"]
    assert body["detail"]
    assert [tuple(error["loc"]) for error in body["errors"]] == list(locs)
    assert all(error["msg"] for error in body["errors"])
    return body
