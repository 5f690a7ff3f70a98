"""Prometheus metrics: requests and latencies of this process, and the metrics from SQL (`database`)."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.exposition import generate_latest
from sqlalchemy import Engine
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.metrics.database import DatabaseMetrics
from shared.events import log_context

#: Upper edges of the latency histogram (seconds); a submission takes about 5 ms.
_EDGES = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


class HttpMetrics:
    """Metrics of one app, in their own registry, so that two apps in a process do not share counters."""

    def __init__(self, engine: Engine, lease_seconds: float, folders: Mapping[str, Path]) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(DatabaseMetrics(engine, lease_seconds, folders))
        labels = ("method", "route", "status")
        self._requests = Counter("nightshift_http_requests", "Answered HTTP requests.", labels, registry=self.registry)
        self._seconds = Histogram(
            "nightshift_http_request_seconds",
            "Time from a request's head to the first byte of its answer.",
            ("method", "route"),
            buckets=_EDGES,
            registry=self.registry,
        )

    def observe(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one answered request."""
        self._requests.labels(method, route, str(status)).inc()
        self._seconds.labels(method, route).observe(seconds)

    def text(self) -> bytes:
        """Return all metrics in Prometheus' text format. Raises DatabaseUnavailable."""
        return generate_latest(self.registry)


_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


_JOB_PATH = re.compile(r"/v1/jobs/([0-9a-f]{4,16})(?:/|$)")


def _job_in(path: str) -> dict[str, str]:
    """Return the job that a path names, for log lines."""
    found = _JOB_PATH.match(path)
    return {"job_id": found[1]} if found else {}


class RequestMeter:
    """ASGI middleware that measures requests. Labels are route templates, never paths, to bound their number."""

    def __init__(self, app: ASGIApp, telemetry: HttpMetrics) -> None:
        self._app, self._telemetry = app, telemetry

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        began = time.perf_counter()

        async def metered(message: Message) -> None:
            if message["type"] == "http.response.start":
                route = getattr(scope.get("route"), "path", "(none)")
                method = scope["method"] if scope["method"] in _METHODS else "(other)"
                self._telemetry.observe(method, route, message["status"], time.perf_counter() - began)
            await send(message)

        with log_context(**_job_in(scope["path"])):
            await self._app(scope, receive, metered)
        return None
