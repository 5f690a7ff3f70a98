"""Traces: one tree from the caller's span over submission and queue to every part of every attempt."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from sqlalchemy import Engine

from shared import tracing
from shared.events import emit, subscribe
from tests.support.api import running_api
from tests.support.factories import make_due
from tests.support.takeover import pythonpath
from worker.hardware.devices import cpu
from worker.runners.forkserver_client import ForkserverClient, sanitized_environment
from worker.runners.forkservers import Forkservers
from worker.runners.runner_pool import RunnerPool, RunnerSettings
from worker.supervisor.context import WorkerContext
from worker.supervisor.supervisor import Supervisor

TRACE, CALLER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PARTS = ["runner start", "train", "settle"]


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracing.use(provider)
    yield exporter
    tracing.use(None)


@pytest.fixture
def supervisor(sqlite_engine: Engine, tmp_path: Path) -> Iterator[Supervisor]:
    """A worker in this process, without Celery."""
    modules = ("worker.runners.runner", "tests.support.probe")
    forkserver = ForkserverClient(
        "torch", modules, sanitized_environment(os.environ, {"PYTHONPATH": pythonpath("probe")})
    )
    forkserver.start()
    with running_api(sqlite_engine, tmp_path) as api:
        runners = RunnerPool(Forkservers({"torch": forkserver}), RunnerSettings("cpu", 1, None), keep_spare=False)
        yield Supervisor(WorkerContext("cpu0@test", cpu(), sqlite_engine, api.settings, runners))
    forkserver.close()


def submit(engine: Engine, folder: Path, probe: str, **tags: str) -> str:
    with running_api(engine, folder) as api:
        headers = {"traceparent": f"00-{TRACE}-{CALLER}-01"}
        body = {"kind": "train", "model": {"family": "cnn"}, "dataset": "digits", "tags": {"probe": probe, **tags}}
        answer = api.post("/v1/jobs", json=body, headers=headers)
        assert answer.status_code == 202
        return str(answer.json()["id"])


def under(found: list[ReadableSpan], parent: ReadableSpan) -> list[str]:
    """Names of the spans right below one, in the order of their ends."""
    assert parent.context is not None
    below = [span for span in found if span.parent and span.parent.span_id == parent.context.span_id]
    return [span.name for span in sorted(below, key=lambda span: span.end_time or 0)]


def test_one_trace_from_submit_to_result(
    sqlite_engine: Engine, tmp_path: Path, supervisor: Supervisor, spans: InMemorySpanExporter
) -> None:
    job_id = submit(sqlite_engine, tmp_path, "train", steps="10", checkpoint="5")
    supervisor.run_one(None)
    found = list(spans.get_finished_spans())
    by_name = {span.name: span for span in found}
    assert {f"{span.context.trace_id:032x}" for span in found if span.context} == {TRACE}
    submitted, attempt, queued = by_name["submit"], by_name["attempt"], by_name["queued"]
    assert submitted.parent is not None
    assert f"{submitted.parent.span_id:016x}" == CALLER
    assert under(found, submitted) == ["queued", "attempt"]
    assert [part for part in under(found, attempt) if part != "checkpoint"] == PARTS
    assert queued.end_time == attempt.start_time
    facts = dict(attempt.attributes or {})
    assert (facts["nightshift.job_id"], facts["nightshift.attempt"], facts["nightshift.state"]) == (
        job_id,
        1,
        "succeeded",
    )
    assert [span.attributes["nightshift.step"] for span in found if span.name == "checkpoint" and span.attributes] == [
        5,
        10,
    ]


def test_a_second_attempt_belongs_to_the_same_trace(
    sqlite_engine: Engine, tmp_path: Path, supervisor: Supervisor, spans: InMemorySpanExporter
) -> None:
    job_id = submit(sqlite_engine, tmp_path, "untyped")  # may pass, says its error: it is tried again
    for _ in range(2):
        supervisor.run_one(None)
        make_due(sqlite_engine, job_id)
    found = list(spans.get_finished_spans())
    attempts = [span for span in found if span.name == "attempt"]
    assert [(span.attributes or {})["nightshift.attempt"] for span in attempts] == [1, 2]
    assert [span.name for span in found].count("queued") == 1
    assert {span.parent.span_id for span in attempts if span.parent} == {
        span.context.span_id for span in found if span.name == "submit" and span.context
    }


def test_what_comes_once_has_a_part_and_what_every_epoch_does_has_none(spans: InMemorySpanExporter) -> None:
    with tracing.attempt("a1b2", 1, {}, {}):
        emit("runner.started", job_id="a1b2")
        for phase in ("train", "validate", "train", "evaluate", "write", "finishing"):
            emit("runner.entered", job_id="a1b2", phase=phase)
        emit("runner.entered", job_id="another", phase="evaluate")
        emit("attempt.settling", job_id="a1b2")
        emit("attempt.settled", job_id="a1b2", state="succeeded")
    parts = [span.name for span in spans.get_finished_spans() if span.name != "attempt"]
    assert parts == ["runner start", "train", "evaluate", "write", "finishing", "settle"]


def test_without_a_provider_nothing_is_kept_and_nothing_breaks(
    sqlite_engine: Engine, tmp_path: Path, supervisor: Supervisor
) -> None:
    job_id = submit(sqlite_engine, tmp_path, "train", steps="2")
    settled: list[str] = []
    unsubscribe = subscribe(lambda event, fields: settled.append(event) if fields.get("job_id") == job_id else None)
    supervisor.run_one(None)
    unsubscribe()
    assert "job.succeeded" in settled
    with tracing.submitting({}, "train") as pinned:
        assert pinned == {}


def test_asking_for_traces_without_the_extra_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    unsubscribe = subscribe(lambda event, fields: said.append(event))
    monkeypatch.setitem(__import__("sys").modules, "opentelemetry.sdk.trace", None)
    tracing.setup("api")
    assert said == []
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318")
    tracing.setup("api")
    unsubscribe()
    assert said == ["tracing.unavailable"]
