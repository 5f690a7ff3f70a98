"""Prometheus: what the API did (requests, latencies by route) and how the queue stands (read from SQL at each scrape)."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector
from sqlalchemy import Engine
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from shared.db.engine import read
from shared.jobs import queries
from shared.webhooks import subscriptions

#: Upper edges of the latency histogram (seconds); a submit takes about 5 ms.
_EDGES = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


class Telemetry:
    """One registry per app, so that two apps in a process do not count together."""

    def __init__(self, engine: Engine, lease_seconds: float) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(QueueCollector(engine, lease_seconds))
        labels = ("method", "route", "status")
        self._requests = Counter("nightshift_http_requests", "HTTP requests answered.", labels, registry=self.registry)
        self._seconds = Histogram(
            "nightshift_http_request_seconds",
            "From the request's head to the first byte of the answer.",
            ("method", "route"),
            buckets=_EDGES,
            registry=self.registry,
        )

    def observe(self, method: str, route: str, status: int, seconds: float) -> None:
        self._requests.labels(method, route, str(status)).inc()
        self._seconds.labels(method, route).observe(seconds)

    def text(self) -> bytes:
        return generate_latest(self.registry)


_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class RequestMeter:
    """ASGI middleware. Labels are route templates, never paths: a scanner must not make a million series."""

    def __init__(self, app: ASGIApp, telemetry: Telemetry) -> None:
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

        return await self._app(scope, receive, metered)


class QueueCollector(Collector):
    def __init__(self, engine: Engine, lease_seconds: float) -> None:
        self._engine, self._lease_seconds = engine, lease_seconds

    def describe(self) -> Iterable[Metric]:
        """Nothing: registering must not read the database."""
        return []

    def collect(self) -> Iterable[Metric]:
        with read(self._engine) as conn:
            stats: Any = queries.stats(conn, self._lease_seconds)
            sent = subscriptions.counts(conn)
        yield _by("nightshift_jobs", "Jobs by state.", "state", stats["jobs"])
        yield _by("nightshift_attempts_ended", "Attempts by outcome.", "outcome", stats["attempts"])
        yield _by("nightshift_workers", "Workers heard of within a lease, by state.", "state", stats["workers"])
        yield _by("nightshift_queue_depth", "Jobs that are due and wait for a worker.", "device", stats["due"])
        yield _by(
            "nightshift_queue_oldest_seconds",
            "How long the longest-waiting due job has waited.",
            "device",
            stats["oldest_due"],
        )
        yield _by("nightshift_webhook_deliveries", "Deliveries of the last 30 days, by state.", "state", sent)
        text = "Running jobs whose lease ran out and that nobody has taken back yet."
        yield GaugeMetricFamily("nightshift_leases_expired", text, stats["expired_leases"])


def _by(name: str, text: str, label: str, values: Mapping[str, float]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, text, labels=[label])
    for value, count in sorted(values.items()):
        family.add_metric([value], count)
    return family
