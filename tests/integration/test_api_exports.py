"""A job's points and log as files: whole, in order, over HTTP and from its page."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from api.services import exports
from shared.db.engine import write
from shared.jobs import transitions
from shared.jobs.transitions import LogRow, MetricRow, SampleRow
from tests.support.api import Api
from tests.support.factories import running_job
from tests.support.flower_app import running_flower_app


def told(engine: Engine, **fields: str) -> str:
    lease = running_job(engine, **fields)
    with write(engine) as conn:
        points = [MetricRow(name, step, 1, 1 / (step + 1)) for name in ("val_loss", "loss") for step in range(7)]
        logs = [LogRow("info", f"line {number}") for number in range(6)] + [LogRow("error", "two\nlines")]
        transitions.record(conn, lease, metrics=points, logs=logs)
    return lease.job_id


def test_all_points_come_as_csv_however_many_pages_it_takes(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exports, "PAGE", 4)
    answer = api.get(f"/v1/jobs/{told(api.engine)[:8]}/metrics.csv")
    assert answer.headers["content-type"].startswith("text/csv")
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert [(row["name"], int(row["step"])) for row in rows] == [
        (name, step) for name in ("loss", "val_loss") for step in range(7)
    ]
    assert float(rows[3]["value"]) == 0.25


def test_the_whole_log_comes_as_a_text(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exports, "PAGE", 3)
    answer = api.get(f"/v1/jobs/{told(api.engine)}/log.txt")
    assert answer.headers["content-type"].startswith("text/plain")
    lines = answer.text.splitlines()
    assert [line.split(" ", 1)[1] for line in lines[:2]] == ["#1 info    line 0", "#1 info    line 1"]
    assert lines[-2:] == [lines[-2], "lines"]
    assert len(lines) == 8


@pytest.mark.parametrize("file", ["metrics.csv", "log.txt"])
def test_exports_of_another_owners_job_are_not_found(api: Api, file: str) -> None:
    job_id = told(api.engine)
    assert api.get(f"/v1/jobs/{job_id}/{file}", key=api.new_key("somebody else")).status_code == 404


def test_what_its_runner_used_and_ran_on_is_told(api: Api) -> None:
    lease = running_job(api.engine)
    facts: dict[str, Any] = {"device_label": "cpu", "resumed_from": None, "resumed_step": None, "quarantined": []}
    with write(api.engine) as conn:
        transitions.begin(conn, lease, **facts, environment={"host": "here", "libraries": {"numpy": "2.4"}})
        transitions.record(conn, lease, samples=[SampleRow(2.0, 180.5, 1_000), SampleRow(1.0, None, None, 50.0, 2_000)])
    items = api.get(f"/v1/jobs/{lease.job_id}/system").json()["items"]
    assert [(item["attempt"], item["cpu_percent"], item["gpu_memory_bytes"]) for item in items] == [
        (1, 180.5, None),
        (1, None, 2_000),
    ]
    (attempt,) = api.get(f"/v1/jobs/{lease.job_id}/attempts").json()["items"]
    assert attempt["environment"]["libraries"] == {"numpy": "2.4"}
    assert api.get(f"/v1/jobs/{lease.job_id}/metrics").json()["items"] == []


def test_a_page_offers_both(sqlite_engine: Engine, tmp_path: Path) -> None:
    with running_flower_app(sqlite_engine, tmp_path) as flower:
        job_id = told(flower.engine, owner_id=flower.owner)
        points, log = (flower.client.get(f"/nightshift/jobs/{job_id}/{file}") for file in ("metrics.csv", "log.txt"))
        assert (points.text.count("\n"), log.text.count("\n")) == (15, 8)
        assert points.headers["content-disposition"] == f'attachment; filename="{job_id}-metrics.csv"'
        assert flower.client.get("/nightshift/jobs/0123456789abcdef/log.txt").status_code == 404
