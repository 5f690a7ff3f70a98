"""Traces as they leave our processes, through the real exporter: whole across processes and a killed worker, and of no
consequence where no collector receives them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.collector import Collector, collecting
from tests.support.factories import expire_lease
from tests.support.redis import RedisServer, free_port
from tests.support.stack import Stack, eventually, open_stack

TRACE, CALLER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
#: The killed worker's lease is ended by hand: however slow the machine, none of a living one runs out.
LEASE = {"lease_seconds": 300, "heartbeat_seconds": 0.4, "relay_seconds": 0.2}

pytestmark = pytest.mark.slow


def submit(stack: Stack, **tags: object) -> str:
    answer = stack.post(
        "/v1/jobs",
        headers={"traceparent": f"00-{TRACE}-{CALLER}-01"},
        json={"kind": "train", "model": {"family": "cnn"}, "dataset": "digits", "tags": {"probe": "train", **tags}},
    )
    assert answer.status_code == 202
    return str(answer.json()["id"])


def test_a_job_is_one_trace_though_its_worker_is_killed(
    tmp_path: Path, sqlite_url: str, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with collecting() as collector, open_stack(tmp_path, sqlite_url, redis_server.url, **LEASE) as stack:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint)
        api, worker, beat = stack.api(), stack.worker(), stack.beat()
        job_id = submit(stack, steps="8", checkpoint="4", hold_at="6")
        stack.at_step(job_id, 4)
        eventually("there is a checkpoint", lambda: stack.checkpoints(job_id))
        eventually("the worker has told of the queue", lambda: "queued" in [span.name for span in collector.spans()])
        worker.kill()
        expire_lease(stack.engine, job_id)
        worker = worker.again()
        stack.go(job_id)
        assert stack.finished(job_id).state == "succeeded"
        for process in (api, worker, beat):  # those that leave send what they have
            assert process.terminate() == 0, process.log.read_text()[-3000:]
        _is_one_trace(collector, job_id)


def _is_one_trace(collector: Collector, job_id: str) -> None:
    spans = collector.spans()
    assert {span.trace for span in spans} == {TRACE}
    (submitted,) = [span for span in spans if span.name == "submit"]
    assert submitted.parent == CALLER
    assert collector.below(submitted) == ["queued", "attempt", "attempt"]
    lost, last = collector.of(job_id)
    assert (lost.service, lost.failed, lost.attributes["nightshift.outcome"]) == ("nightshift-beat", True, "lost")
    assert (last.service, last.failed, last.attributes["nightshift.state"]) == ("nightshift-worker", False, "succeeded")
    assert [one.attributes["nightshift.attempt"] for one in (lost, last)] == [1, 2]
    assert lost.start < lost.end <= last.start < last.end
    assert sorted(collector.below(last)) == ["checkpoint", "runner start", "settle", "train"]
    assert {span.service for span in spans} == {"nightshift-api", "nightshift-worker", "nightshift-beat"}


def test_a_collector_that_is_away_or_hangs_costs_nothing(
    tmp_path: Path, sqlite_url: str, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with collecting() as collector, open_stack(tmp_path, sqlite_url, redis_server.url) as stack:
        collector.receiver.answer = collector.receiver.hang
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{free_port()}")
        api = stack.api()
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint)
        worker = stack.worker()
        job_ids = [submit(stack, steps="2") for _ in range(3)]
        assert [stack.finished(job_id).state for job_id in job_ids] == ["succeeded"] * 3
        assert [stack.outcomes(job_id) for job_id in job_ids] == [["succeeded"]] * 3
        assert (api.terminate(), worker.terminate()) == (0, 0)
        assert collector.receiver.received, "the worker did not even try"
