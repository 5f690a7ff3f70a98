"""Following a job: live, in order, to the end, across reconnections and outages."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import Engine

from api.routes import events as route
from api.services.event_feed import Subscription
from nightshift.states import JobState
from shared.db.engine import write
from shared.errors import DatabaseUnavailable
from shared.jobs import transitions
from shared.jobs.queries import event_log
from shared.jobs.states import StopRequest
from shared.jobs.transitions import ArtifactRecord, Lease, LogRow, MetricRow
from tests.support.api import Api, running_api
from tests.support.factories import commit_checkpoint, job_in_state, running_job, submit_job
from tests.support.serving import events, served

#: The longest that anything is waited for (seconds): far more than it takes.
PATIENCE = 180.0


@contextmanager
def following(api: Api, url: str, job_id: str, after: int | None = None) -> Iterator[httpx.Response]:
    headers = {"Authorization": f"Bearer {api.key}"}
    if after is not None:
        headers["Last-Event-ID"] = str(after)
    with httpx.stream("GET", f"{url}/v1/jobs/{job_id}/events", headers=headers, timeout=PATIENCE) as response:
        yield response


def told_by(response: httpx.Response) -> Iterator[dict[str, Any]]:
    """The events alone: between any two of them a slow machine leaves time for a keep-alive."""
    return (event for event in events(response) if "comment" not in event)


def report(engine: Engine, lease: Lease, step: int) -> None:
    """What a runner says in one breath: a line, progress and two metrics."""
    with write(engine) as conn:
        transitions.record(
            conn,
            lease,
            progress={"step": step, "total_steps": 100},
            metrics=[MetricRow("loss", step, 0, 1 / step), MetricRow("accuracy", step, 0, 0.5)],
            logs=[LogRow("info", f"step {step}\nand \u2028 more")],
        )


def succeed(engine: Engine, lease: Lease) -> None:
    artifact = ArtifactRecord("model/config.json", "jobs/x/config.json", "0" * 64, 10, "application/json")
    with write(engine) as conn:
        assert transitions.succeed(conn, lease, result={"metrics": {"test_accuracy": 0.98}}, artifacts=[artifact])


def replay(api: Api, job_id: str) -> list[dict[str, Any]]:
    """All events of a job that is final."""
    answer = api.get(f"/v1/jobs/{job_id}/events")
    assert answer.headers["content-type"].startswith("text/event-stream")
    return list(events(answer))


def test_a_final_job_is_told_from_its_beginning_to_its_end(api: Api) -> None:
    lease = running_job(api.engine)
    report(api.engine, lease, 10)
    commit_checkpoint(api.engine, lease, step=10)
    succeed(api.engine, lease)
    told = replay(api, lease.job_id)

    kinds = [event["event"] for event in told]
    assert set(kinds) == {"state", "progress", "metric", "checkpoint", "artifact", "log"}
    states = [event["data"]["state"] for event in told if event["event"] == "state"]
    assert (states[0], states[-1], kinds[-1]) == ("queued", "succeeded", "state")
    ids = [int(event["id"]) for event in told]
    assert ids == sorted(set(ids))
    loss = next(event["data"] for event in told if event["event"] == "metric" and event["data"]["name"] == "loss")
    assert {key: loss[key] for key in ("name", "step", "epoch", "value")} == {
        "name": "loss", "step": 10, "epoch": 0, "value": 0.1
    }  # fmt: skip
    assert loss["at"].endswith("Z")
    assert next(event["data"]["message"] for event in told if event["event"] == "log") == "step 10\nand \u2028 more"


@pytest.mark.parametrize("state", [JobState.CANCELLED, JobState.FAILED, JobState.SUCCEEDED])
def test_the_stream_ends_after_the_final_state(api: Api, state: JobState) -> None:
    assert replay(api, job_in_state(api.engine, state))[-1]["data"]["state"] == state


def test_nothing_is_left_to_send_is_204(api: Api) -> None:
    job_id = job_in_state(api.engine, JobState.CANCELLED)
    last = replay(api, job_id)[-1]["id"]
    answer = api.get(f"/v1/jobs/{job_id}/events", headers={"Last-Event-ID": last})
    assert (answer.status_code, answer.content) == (204, b"")


def test_resuming_at_any_event_misses_nothing_and_repeats_nothing(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(route, "PAGE", 3)  # pages end in the middle of what was written together
    lease = running_job(api.engine)
    for step in (10, 20, 30):
        report(api.engine, lease, step)
    succeed(api.engine, lease)
    told = replay(api, lease.job_id)
    assert len([event for event in told if event["event"] == "metric"]) == 6
    for position, event in enumerate(told[:-1]):
        answer = api.get(f"/v1/jobs/{lease.job_id}/events", headers={"Last-Event-ID": event["id"]})
        assert [later["id"] for later in events(answer)] == [later["id"] for later in told[position + 1 :]]


def test_events_come_while_the_job_runs(api: Api) -> None:
    lease = running_job(api.engine)
    with served(api.app) as url, following(api, url, lease.job_id) as response:
        told = told_by(response)
        seen = next(event for event in told if event["data"].get("state") == "running")
        for step in (1, 2):
            report(api.engine, lease, step)
            seen = next(event for event in told if event["event"] == "metric" and event["data"]["name"] == "loss")
            assert seen["data"]["step"] == step
        with write(api.engine) as conn:
            transitions.request_stop(conn, lease.job_id, StopRequest.FINISH, None)
        assert next(event for event in told if event["event"] == "state")["data"]["stop_requested"] == "finish"
        succeed(api.engine, lease)
        assert [event["event"] for event in told][-1] == "state"  # and the server closes the stream


def test_two_clients_that_leave_and_come_back_have_the_whole_story_between_them(api: Api) -> None:
    lease = running_job(api.engine)
    story: list[str] = []
    with served(api.app) as url:
        with following(api, url, lease.job_id) as response:
            report(api.engine, lease, 1)
            for event in told_by(response):
                story.append(event["id"])
                if event["event"] == "metric":
                    break
        report(api.engine, lease, 2)  # while no client is connected
        with following(api, url, lease.job_id, after=int(story[-1])) as response:
            told = told_by(response)
            story.append(next(told)["id"])
            succeed(api.engine, lease)
            story += [event["id"] for event in told]
    kept = [event["id"] for event in replay(api, lease.job_id)]
    assert len(story) == len(set(story))
    assert set(kept) <= set(story)  # progress is kept as the latest only, all else was seen


def test_news_that_are_known_already_end_no_wait() -> None:
    """Else a stream would tell of its being silent as soon as it is opened."""

    async def story() -> bool:
        topic = Subscription()
        waiting = asyncio.create_task(topic.beyond(5, 600))
        for known in (4, 5):
            await asyncio.sleep(0)
            topic.announce(known)
        for _ in range(5):
            await asyncio.sleep(0)
        assert not waiting.done()
        topic.announce(6)
        return await waiting

    assert asyncio.run(story())


def test_a_watch_that_closes_ends_every_wait() -> None:
    async def story() -> bool:
        topic = Subscription()
        waiting = asyncio.create_task(topic.beyond(5, 600))
        await asyncio.sleep(0)
        topic.close()
        return await waiting or await topic.beyond(5, 600)

    assert not asyncio.run(story())


def test_a_silent_stream_is_kept_alive_by_comments(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(route, "KEEPALIVE_SECONDS", 0.1)
    job_id = submit_job(api.engine).job_id
    with served(api.app) as url, following(api, url, job_id) as response:
        assert [event for event, _ in zip(events(response), range(3), strict=False)][-1] == {"comment": "keep-alive"}


def test_only_some_types_are_told_when_asked_for(api: Api) -> None:
    lease = running_job(api.engine)
    report(api.engine, lease, 1)
    succeed(api.engine, lease)
    url = f"/v1/jobs/{lease.job_id}/events"
    whole = replay(api, lease.job_id)
    for wanted in ({"state"}, {"metric", "log"}, {"artifact"}):
        told = list(events(api.get(url, params={"type": sorted(wanted)})))
        assert told == [event for event in whole if event["event"] in wanted]
        assert told
    assert api.get(url, params={"type": "gossip"}).status_code == 422


def test_a_stream_of_states_is_kept_alive_among_unwanted_news(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """And what is not wanted is not read again and again."""
    monkeypatch.setattr(route, "KEEPALIVE_SECONDS", 0.1)
    lease = running_job(api.engine)
    headers, read_from = {"Authorization": f"Bearer {api.key}"}, []
    read_page = route._read_page

    def noted(service: Any, job_id: str, owner: str, after: int, types: Any) -> Any:
        read_from.append(after)
        return read_page(service, job_id, owner, after, types)

    monkeypatch.setattr(route, "_read_page", noted)
    with (
        served(api.app) as url,
        httpx.stream(
            "GET", f"{url}/v1/jobs/{lease.job_id}/events?type=state", headers=headers, timeout=PATIENCE
        ) as answer,
    ):
        told = events(answer)
        next(event for event in told if event.get("data", {}).get("state") == "running")
        for step in (1, 2):
            report(api.engine, lease, step)
            assert next(told) == {"comment": "keep-alive"}
        succeed(api.engine, lease)
        assert [event["event"] for event in told if "event" in event] == ["state"]
    assert len(read_from) == len(set(read_from))


def test_many_streams_leave_the_api_free_to_answer(api: Api) -> None:
    """More streams than there are threads to serve requests; all hear of the end."""
    job_id = submit_job(api.engine).job_id
    ends: list[str] = []
    opened = threading.Barrier(61)

    def follow(url: str) -> None:
        with following(api, url, job_id) as response:
            told = told_by(response)
            next(told)
            opened.wait(PATIENCE)
            ends.extend(event["data"]["state"] for event in told)

    with served(api.app) as url, ExitStack() as stack:
        threads = [threading.Thread(target=follow, args=(url,)) for _ in range(60)]
        for thread in threads:
            thread.start()
            stack.callback(thread.join)
        opened.wait(PATIENCE)
        with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {api.key}"}, timeout=PATIENCE) as client:
            assert client.get("/v1/jobs").status_code == 200
            assert client.post(f"/v1/jobs/{job_id}/cancel").status_code == 202
    assert ends == ["cancelled"] * 60


def test_a_stream_outlives_an_outage_of_the_database(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    lease = running_job(api.engine)
    with served(api.app) as url, following(api, url, lease.job_id) as response:
        told = events(response)
        next(event for event in told if event.get("data", {}).get("state") == "running")
        with monkeypatch.context() as broken:
            broken.setattr(route.queries, "events_after", _no_database)
            report(api.engine, lease, 1)
            next(event for event in told if event == {"comment": "the database does not answer"})
        assert next(event for event in told if event.get("event") == "metric")["data"]["step"] == 1
        succeed(api.engine, lease)
        assert list(told)[-1]["data"]["state"] == "succeeded"


def _no_database(*args: Any) -> Any:
    raise DatabaseUnavailable("no answer")


def test_what_is_committed_between_two_reads_is_not_skipped(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tables of a page are read one after the other; a later number from one of them must wait for its elders."""
    lease = running_job(engine)
    read_metrics, interfered = event_log._metrics, threading.Event()

    def interfere(*args: Any) -> Any:
        if not interfered.is_set():
            interfered.set()
            commit_checkpoint(engine, lease, step=1)  # an event of a table that has been read already ...
            report(engine, lease, 1)  # ... and younger rows in those that have not
        return read_metrics(*args)

    monkeypatch.setattr(event_log, "_metrics", interfere)
    with running_api(engine, tmp_path) as api:
        with served(api.app) as url, following(api, url, lease.job_id) as response:
            told = events(response)
            seen = [next(told)]
            while seen[-1].get("event") != "metric":
                seen.append(next(told))
        assert interfered.is_set()
        assert "checkpoint" in [event.get("event") for event in seen]
        numbers = [int(event["id"]) for event in seen if "id" in event]
        assert numbers == list(range(1, numbers[-1] + 1))
