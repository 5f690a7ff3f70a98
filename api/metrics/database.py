"""Prometheus metrics of jobs, attempts, workers and devices, read from SQL at each scrape.

Every API process exports the same values, because they come from the database. Over several processes, take one
(`max by (…)`), not the sum; request counters, by contrast, belong to one process each and add up.
"""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy import Engine

from nightshift.names import KINDS
from nightshift.states import FINAL_STATES
from shared.db.counters import EDGES
from shared.db.engine import read
from shared.fleet.workers import list_workers
from shared.jobs import queries
from shared.webhooks import subscriptions

DEVICES, PRIORITIES = ("auto", "cpu", "gpu"), range(10)
#: The values of a metric, each with its labels.
Samples = Iterable[tuple[Sequence[str], float]]
_DEVICE_LABELS = ("worker", "host", "device", "device_name")

#: Metrics from each worker's last heartbeat: name, help text, and the value in `Usage`.
_USAGE: tuple[tuple[str, str, Callable[[Mapping[str, Any]], float | None]], ...] = (
    (
        "nightshift_device_memory_bytes",
        "Memory of the worker's GPU, or of its host for a CPU worker.",
        lambda u: u["memory_bytes"],
    ),
    ("nightshift_device_memory_used_bytes", "Memory in use on the worker's device.", lambda u: u["memory_used_bytes"]),
    (
        "nightshift_device_busy_ratio",
        "Share of time the device was busy since the previous heartbeat, 0 to 1.",
        lambda u: None if u["busy_percent"] is None else u["busy_percent"] / 100,
    ),
    (
        "nightshift_device_temperature_celsius",
        "Temperature of the device, if it has a sensor.",
        lambda u: u["temperature_celsius"],
    ),
)


class DatabaseMetrics(Collector):
    """Collects all metrics from SQL. `folders`: data and storage folders on this host, by their label."""

    def __init__(self, engine: Engine, lease_seconds: float, folders: Mapping[str, Path]) -> None:
        self._engine, self._lease_seconds, self._folders = engine, lease_seconds, folders

    def describe(self) -> Iterable[Metric]:
        """Return nothing, so that registering does not read the database."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Read the database and yield all metrics. Raises DatabaseUnavailable."""
        with read(self._engine) as conn:
            stats = queries.stats(conn, self._lease_seconds)
            durations = queries.durations(conn)
            workers = list_workers(conn, self._lease_seconds)
            sent = subscriptions.counts(conn)
        yield _gauge("nightshift_jobs", "Jobs by state.", ["state"], _by(stats.jobs))
        submitted = CounterMetricFamily("nightshift_jobs_submitted", "Accepted jobs by kind.", labels=["kind"])
        yield _filled(submitted, _by(stats.submitted))
        yield from _queue(stats.due)
        yield _job_seconds(durations)
        ended = CounterMetricFamily("nightshift_attempts_ended", "Finished attempts by outcome.", labels=["outcome"])
        yield _filled(ended, _by(stats.attempts))
        text = "Running jobs whose lease has expired and that are not rescued yet."
        yield GaugeMetricFamily("nightshift_leases_expired", text, stats.expired_leases)
        text = "Workers with a heartbeat within a lease, by state."
        yield _gauge("nightshift_workers", text, ["state"], _by(stats.workers))
        text = "Webhook deliveries of the last 30 days by state."
        yield _gauge("nightshift_webhook_deliveries", text, ["state"], _by(sent))
        yield from _devices([worker for worker in workers if worker["state"] != "offline"])
        yield from _disks(self._folders)


def _by(values: Mapping[str, float]) -> Samples:
    """Return the samples of values by their only label."""
    return [([label], value) for label, value in sorted(values.items())]


def _gauge(name: str, text: str, labels: Sequence[str], samples: Samples) -> Metric:
    return _filled(GaugeMetricFamily(name, text, labels=labels), samples)


def _filled(family: Any, samples: Samples) -> Metric:
    for labels, value in samples:
        family.add_metric(labels, value)
    return family  # type: ignore[no-any-return]


def _queue(due: Iterable[queries.Due]) -> Iterator[Metric]:
    """Yield a series for every device and priority, also at zero, so that alerts can see the zero."""
    waiting = {(one.device, str(one.priority)): one for one in due}
    found = {place: waiting.get(place) for place in itertools.product(DEVICES, map(str, PRIORITIES))}
    labels = ("device", "priority")
    counts = [(place, one.count if one else 0) for place, one in found.items()]
    yield _gauge("nightshift_queue_depth", "Due jobs that wait for a worker.", labels, counts)
    ages = [(place, max(0.0, one.oldest_seconds) if one else 0) for place, one in found.items()]
    yield _gauge("nightshift_queue_oldest_seconds", "Waiting time of the longest-waiting due job.", labels, ages)


def _job_seconds(durations: Iterable[queries.Durations]) -> Metric:
    """Return a series for every kind and outcome, also at zero: `increase()` ignores the first value of a series."""
    family = HistogramMetricFamily(
        "nightshift_job_seconds",
        "Time from a job's first claim to its end, by kind and outcome.",
        labels=["kind", "outcome"],
    )
    edges = [*(str(edge) for edge in EDGES), "+Inf"]
    none = {(kind, state.value): ((0,) * len(edges), 0.0) for kind in KINDS for state in FINAL_STATES}
    ended = {(one.kind, one.state): (one.at_most, one.seconds) for one in durations}
    for labels, (at_most, seconds) in sorted((none | ended).items()):
        family.add_metric(labels, list(zip(edges, at_most, strict=True)), seconds)
    return family


def _devices(workers: Sequence[Mapping[str, Any]]) -> Iterator[Metric]:
    working = [(_labels(worker), 1 if worker["job_id"] else 0) for worker in workers]
    yield _gauge("nightshift_worker_working", "1 while the worker runs a job, else 0.", _DEVICE_LABELS, working)
    for name, text, value_of in _USAGE:
        found = [(_labels(worker), value_of(worker["usage"])) for worker in workers if worker["usage"] is not None]
        known = [(labels, value) for labels, value in found if value is not None]
        yield _gauge(name, text, _DEVICE_LABELS, known)


def _labels(worker: Mapping[str, Any]) -> list[str]:
    return [worker["name"], worker["host"], worker["device"], worker["device_name"]]


def _disks(folders: Mapping[str, Path]) -> Iterator[Metric]:
    """Yield size and free space of each folder's file system, without missing folders."""
    size, free = [], []
    for name, folder in folders.items():
        with suppress(OSError):
            usage = shutil.disk_usage(folder)
            size.append(([name], usage.total))
            free.append(([name], usage.free))
    yield _gauge("nightshift_disk_bytes", "Size of the file system that holds a folder.", ["folder"], size)
    yield _gauge("nightshift_disk_free_bytes", "Free space of the file system that holds a folder.", ["folder"], free)
