"""`nightshift why` names the decisive reason."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from api.client.reasons import Surroundings, explain
from tests.support.fake_api import OTHER_ID, job_data

NOW = datetime(2027, 1, 31, 3, tzinfo=UTC)
CPU = {"name": "cpu0@a", "state": "online", "device": "cpu", "frameworks": ["torch"], "job_id": None}
LOST = {"attempt": 1, "worker": "cpu0@a", "outcome": "lost", "error": None}


def why(around: dict[str, Any] | None = None, **job: Any) -> list[str]:
    return explain(job_data(**job), Surroundings(now=NOW, **(around or {})))


@pytest.mark.parametrize(
    ("workers", "job", "said"),
    [
        ([], {}, "No worker is online"),
        ([{**CPU, "state": "offline"}], {}, "No worker is online"),
        ([CPU], {"framework": "tensorflow"}, "None of the 1 workers online has what it needs: tensorflow."),
        ([CPU], {"spec": {"resources": {"device": "gpu"}}}, "has what it needs: device gpu, torch."),
        ([{**CPU, "job_id": "77"}], {}, "Every worker that can run it is busy: cpu0@a with 77."),
        ([CPU, {**CPU, "job_id": "77"}], {}, "A worker is free"),
    ],
)
def test_a_queued_job_waits_for_a_worker(workers: list[dict[str, Any]], job: dict[str, Any], said: str) -> None:
    assert said in why({"workers": workers}, **job)[0]


def test_a_queued_job_waits_for_its_time() -> None:
    job = {"run_at": "2027-01-31T03:10:00.000Z"}
    assert why(**job) == ["It was asked to wait: not before 2027-01-31T03:10:00.000Z, in 10:00."]
    assert why({"attempts": [LOST]}, **job)[0].startswith("It waits before it is tried again")


def test_those_ahead_are_counted() -> None:
    earlier = job_data(OTHER_ID, created_at="2027-01-31T01:00:00.000Z")
    less = job_data(OTHER_ID, created_at="2027-01-31T01:00:00.000Z", priority=1)
    more = job_data(OTHER_ID, created_at="2027-01-31T02:59:00.000Z", priority=6)
    told = why({"workers": [CPU], "queued": [job_data(), earlier, less, more]})
    assert told[1] == "About 2 queued jobs are ahead of it, by priority and age."


def test_the_other_states() -> None:
    assert why({"awaited": [("a", "succeeded"), ("b", "running")]}, state="waiting") == [
        "It waits for job b, which is running."
    ]
    assert "nightshift resume" in why(state="paused")[0]
    assert "asked to finish" in why(state="running", worker="cpu0@a", attempt=1, stop_requested="finish")[1]
    assert why(state="cancelled") == ["It was cancelled, by request."]


def test_tries_that_did_not_count_are_told() -> None:
    error = {"type": "poison", "message": "three crashes", "retryable": False}
    crashed = {"attempt": 2, "worker": "cpu0@a", "outcome": "crashed", "error": {"message": "signal 11"}}
    assert why({"attempts": [crashed, LOST]}, state="failed", error=error) == [
        "It failed: poison: three crashes",
        "Attempt 1 on cpu0@a ended lost.",
        "Attempt 2 on cpu0@a ended crashed (signal 11).",
    ]
