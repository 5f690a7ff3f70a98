"""The API as an ASGI app. `create_app()` connects to nothing: the database and the broker may be down when it starts."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from sqlalchemy import Engine

from api import docs_page, openapi, problems
from api.deps import Service
from api.group_commit import Submissions
from api.headers import SafeHeaders
from api.routes import (
    artifacts,
    datasets,
    events,
    families,
    filing,
    health,
    jobs,
    models,
    results,
    schedules,
    webhooks,
    workers,
)
from api.telemetry import RequestMeter, Telemetry
from api.watch import JobWatch
from shared import broker
from shared.db.engine import make_engine
from shared.settings import Settings, get_settings

_MODULES: tuple[Any, ...] = (
    jobs,
    filing,
    events,
    results,
    artifacts,
    families,
    datasets,
    models,
    schedules,
    webhooks,
    workers,
    health,
)


def create_app(
    settings: Settings | None = None,
    engine: Engine | None = None,
    *,
    ring: Callable[[str, str], None] = broker.ring_later,
    ping: Callable[[], None] = broker.ping,
) -> FastAPI:
    settings = settings or get_settings()
    engine = engine or make_engine(settings.sql_url)
    service = Service(settings, engine, JobWatch(engine), Submissions(engine), ring, ping)
    app = FastAPI(
        title="Nightshift",
        version=_version(),
        lifespan=_lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,  # to an address made of the Host header, which is the client's
    )
    app.state.service = service
    app.state.telemetry = Telemetry(engine, settings.lease_seconds, _folders(settings))
    app.add_middleware(RequestMeter, telemetry=app.state.telemetry)
    app.add_middleware(SafeHeaders)
    problems.install(app)
    openapi.install(app)
    docs_page.install(app)
    for module in _MODULES:
        app.include_router(module.router)
    app.state.routes = [route for module in _MODULES for route in module.router.routes]
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    yield
    app.state.service.watch.close()


def _folders(settings: Settings) -> dict[str, Path]:
    """What must not fill up, on this host."""
    folders = {"data": settings.data_dir}
    return folders | ({"storage": settings.storage_root} if settings.storage_url.startswith("file://") else {})


def _version() -> str:
    try:
        return version("nightshift")
    except PackageNotFoundError:  # run from a checkout
        return "0"
