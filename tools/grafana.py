"""`python -m tools.grafana > docs/grafana/nightshift.json`: generate the Grafana dashboard.

Series from SQL are the same in every API process, so panels take `max by`; those of requests belong to one process
each, so panels add them up.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

#: Columns of Grafana's grid, and the height of a panel in its rows.
COLUMNS, HEIGHT = 24, 8
SOURCE = {"type": "prometheus", "uid": "${datasource}"}


@dataclass(frozen=True)
class Panel:
    """A panel of the dashboard."""

    title: str
    about: str
    query: str
    legend: str = ""
    unit: str = "short"
    kind: str = "timeseries"
    stacked: bool = False


def _quantile(share: float, series: str, by: str) -> str:
    """Return a query for a quantile of a histogram that is equal in every API process."""
    found = (
        f"histogram_quantile({share}, sum by (le, {by}) (max by (le, kind, outcome) (increase({series}[$__range]))))"
    )
    return f"{found} >= 0"  # without the NaN of kinds without finished jobs


ROWS: dict[str, Sequence[Panel]] = {
    "Queue": (
        Panel("Waiting for a worker", "Due jobs by requested device.",
              "sum by (device) (max by (device, priority) (nightshift_queue_depth))", "{{device}}", stacked=True),
        Panel("Longest wait", "Age of the oldest due job, by device and priority. Growing: too few workers.",
              "max by (device, priority) (nightshift_queue_oldest_seconds) > 0", "{{device}}, priority {{priority}}",
              "s"),
        Panel("Jobs by state", "All jobs.", "max by (state) (nightshift_jobs)", "{{state}}", kind="bargauge"),
    ),
    "Jobs": (
        Panel("Submitted per hour", "Accepted jobs by kind.",
              "max by (kind) (increase(nightshift_jobs_submitted_total[1h]))", "{{kind}}"),
        Panel("Ended per hour", "Finished jobs that had started, by outcome.",
              "sum by (outcome) (max by (kind, outcome) (increase(nightshift_job_seconds_count[1h])))", "{{outcome}}"),
        Panel("Typical duration", "Median of the jobs that ended in the selected time.",
              _quantile(0.5, "nightshift_job_seconds_bucket", "kind"), "{{kind}}", "s", kind="bargauge"),
        Panel("Long duration", "95th percentile of the jobs that ended in the selected time.",
              _quantile(0.95, "nightshift_job_seconds_bucket", "kind"), "{{kind}}", "s", kind="bargauge"),
    ),
    "Attempts": (
        Panel("Attempts ended per hour", "By outcome. Look into crashed, lost and out_of_memory.",
              "max by (outcome) (increase(nightshift_attempts_ended_total[1h])) > 0", "{{outcome}}"),
        Panel("Leases expired", "Running jobs with an expired lease. Above zero for a minute: beat is not running.",
              "max(nightshift_leases_expired)", "expired", kind="stat"),
        Panel("Workers", "Workers with a heartbeat within a lease.", "max by (state) (nightshift_workers)", "{{state}}",
              kind="stat"),
    ),
    "Devices": (
        Panel("Busy", "Share of time each device was busy.",
              "max by (worker) (nightshift_device_busy_ratio)", "{{worker}}", "percentunit"),
        Panel("Memory in use", "Memory of each GPU, or of the host of a CPU worker.",
              "max by (worker) (nightshift_device_memory_used_bytes) / "
              "max by (worker) (nightshift_device_memory_bytes)",
              "{{worker}}", "percentunit"),
        Panel("Temperature", "Devices with a sensor.",
              "max by (worker) (nightshift_device_temperature_celsius)", "{{worker}}", "celsius"),
        Panel("Working", "1 while a worker runs a job.", "max by (worker) (nightshift_worker_working)", "{{worker}}",
              kind="bargauge"),
    ),
    "API and surroundings": (
        Panel("Requests per second", "By status.",
              "sum by (status) (rate(nightshift_http_requests_total[5m]))", "{{status}}"),
        Panel("Slow requests", "99th percentile by route.",
              "histogram_quantile(0.99, sum by (le, route) (rate(nightshift_http_request_seconds_bucket[5m]))) >= 0",
              "{{route}}", "s"),
        Panel("Disk in use", "File systems of the API's data and storage folders.",
              "1 - min by (folder, instance) (nightshift_disk_free_bytes / nightshift_disk_bytes)",
              "{{folder}} at {{instance}}", "percentunit"),
        Panel("Webhooks", "Deliveries of the last 30 days. Dead: all attempts failed.",
              "max by (state) (nightshift_webhook_deliveries)", "{{state}}", kind="stat"),
    ),
}  # fmt: skip


def dashboard() -> dict[str, Any]:
    """Return the dashboard in Grafana's JSON model."""
    panels: list[dict[str, Any]] = []
    top = 0
    for title, row in ROWS.items():
        panels.append(
            {"type": "row", "title": title, "gridPos": {"h": 1, "w": COLUMNS, "x": 0, "y": top}, "panels": []}
        )
        width = COLUMNS // len(row)
        for index, panel in enumerate(row):
            place = {"h": HEIGHT, "w": width, "x": index * width, "y": top + 1}
            panels.append(_panel(panel, place))
        top += HEIGHT + 1
    for number, one in enumerate(panels, 1):
        one["id"] = number
    source = {"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Prometheus"}
    return {
        "title": "Nightshift", "uid": "nightshift", "schemaVersion": 39, "version": 1, "editable": True,
        "tags": ["nightshift"], "time": {"from": "now-24h", "to": "now"}, "refresh": "30s",
        "templating": {"list": [source]}, "annotations": {"list": []}, "panels": panels,
    }  # fmt: skip


def _panel(panel: Panel, place: dict[str, int]) -> dict[str, Any]:
    custom = {"stacking": {"mode": "normal"}, "fillOpacity": 20} if panel.stacked else {}
    query: dict[str, Any] = {"refId": "A", "expr": panel.query, "legendFormat": panel.legend, "datasource": SOURCE}
    if panel.kind != "timeseries":
        query["instant"] = True
    return {
        "type": panel.kind, "title": panel.title, "description": panel.about, "datasource": SOURCE, "gridPos": place,
        "targets": [query],
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0, "custom": custom}, "overrides": []},
        "options": {},
    }  # fmt: skip


if __name__ == "__main__":
    print(json.dumps(dashboard(), indent=1))
