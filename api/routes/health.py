"""Routes for liveness, readiness and Prometheus metrics."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Depends
from prometheus_client import CONTENT_TYPE_LATEST
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from api.auth import require_owner
from api.dependencies import Service, TheService
from api.errors import problem
from api.openapi import problems
from api.schemas import Readiness
from nightshift.errors import ConfigurationError, NightshiftError
from shared.db.engine import read
from shared.db.revision import is_current
from shared.errors import BrokerUnavailable

router = APIRouter(tags=["service"])


@router.get("/healthz", summary="Check liveness")
async def healthz() -> dict[str, str]:
    """Checks the process alone, not the database or the broker: a restart cannot repair those."""
    return {"status": "alive"}


@router.get(
    "/readyz",
    response_model=Readiness,
    responses=problems(503),
    summary="Check readiness",
)
def readyz(request: Request, service: TheService) -> Response:
    """200 `ready`; 200 `degraded` while only the broker is down; 503 while the database is down or its schema is old.

    While `degraded`, submissions are still accepted and durable, and workers are notified when the broker is back.
    """
    parts = {"database": _database(service), "broker": _broker(service)}
    parts["migrations"] = _migrations(service) if parts["database"] == "ok" else "unknown"
    missing = [name for name in ("database", "migrations") if parts[name] != "ok"]
    if missing:
        return problem(
            request, status=503, slug="unready", title="Not ready",
            detail=f"Not ready: {', '.join(f'{name}: {parts[name]}' for name in missing)}.", parts=parts,
        )  # fmt: skip
    return JSONResponse({"status": "ready" if parts["broker"] == "ok" else "degraded", "parts": parts})


def _database(service: Service) -> str:
    try:
        with read(service.engine) as conn:
            conn.execute(select(1))
    except ConfigurationError as error:
        return str(error)
    except (NightshiftError, SQLAlchemyError):
        return "does not answer"
    return "ok"


def _migrations(service: Service) -> str:
    try:
        return "ok" if is_current(service.engine) else "not current: run `nightshift migrate`"
    except (NightshiftError, SQLAlchemyError):
        return "cannot be read"


def _broker(service: Service) -> str:
    try:
        service.ping()
    except BrokerUnavailable:
        return "does not answer"
    return "ok"


_TEXT: dict[int | str, dict[str, Any]] = {
    200: {"description": "Prometheus text.", "content": {"text/plain": {"schema": {"type": "string"}}}}
}


@router.get(
    "/metrics",
    dependencies=[Depends(require_owner)],
    response_class=Response,
    responses=_TEXT | problems(401, 503),
    summary="Get Prometheus metrics",
)
def metrics(request: Request) -> Response:
    """Metrics of jobs, workers and devices come from SQL, request counters from this process."""
    return Response(request.app.state.telemetry.text(), media_type=CONTENT_TYPE_LATEST)
