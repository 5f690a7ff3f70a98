"""The API as an ASGI app. `create_app()` opens no connection: the database and the broker may be down at the start."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from sqlalchemy import Engine

from api import errors, openapi
from api.dependencies import Service
from api.http import docs_page
from api.http.headers import SafeHeaders
from api.metrics.http import HttpMetrics, RequestMeter
from api.routes import (
    artifacts,
    datasets,
    devices,
    events,
    families,
    health,
    jobs,
    models,
    programs,
    results,
    schedules,
    sweeps,
    webhooks,
    workers,
)
from api.services.event_feed import EventFeed
from api.services.group_commit import Submissions
from nightshift.versions import installed
from shared import celery_app, doorbell
from shared.db.engine import make_engine
from shared.plugins import load_plugins
from shared.settings import Settings, get_settings

_MODULES: tuple[Any, ...] = (
    jobs,
    events,
    results,
    artifacts,
    families,
    programs,
    datasets,
    models,
    schedules,
    sweeps,
    webhooks,
    workers,
    devices,
    health,
)


def create_app(
    settings: Settings | None = None,
    engine: Engine | None = None,
    *,
    ring: Callable[[str, str], None] = doorbell.ring_later,
    ping: Callable[[], None] = celery_app.ping,
) -> FastAPI:
    """Return the API; arguments replace the configured parts in tests."""
    settings = settings or get_settings()
    load_plugins(settings)
    engine = engine or make_engine(settings.sql_url)
    service = Service(settings, engine, EventFeed(engine), Submissions(engine), ring, ping)
    app = FastAPI(
        title="Nightshift",
        version=installed() or "0",
        lifespan=_lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,  # redirects are built from the Host header, which the client controls
    )
    app.state.service = service
    app.state.telemetry = HttpMetrics(engine, settings.lease_seconds, _folders(settings))
    app.add_middleware(RequestMeter, telemetry=app.state.telemetry)
    app.add_middleware(SafeHeaders)
    errors.install(app)
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
    """Return the folders of this host whose disk space is monitored."""
    folders = {"data": settings.data_dir}
    return folders | ({"storage": settings.storage_root} if settings.storage_url.startswith("file://") else {})
