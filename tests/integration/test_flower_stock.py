"""Flower's own pages and API: what each owner is shown, what is refused to every key, and what no browser may do with
them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from flower.urls import handlers as flower_routes
from sqlalchemy import Engine
from tornado.web import URLSpec

from shared.db.engine import write
from shared.fleet import workers
from shared.fleet.workers import WorkerInfo
from shared.jobs import transitions
from shared.jobs.states import AttemptOutcome
from tests.support.flower_api import MINE, THEIRS, WORKER, asked, inspected, on_worker
from tests.support.flower_app import FlowerApp, running_flower_app


@pytest.fixture
def flower(sqlite_engine: Engine, tmp_path: Path) -> Iterator[FlowerApp]:
    with running_flower_app(sqlite_engine, tmp_path, lease_seconds=600) as app:
        yield app


def table(flower: FlowerApp, **query: Any) -> Any:
    """What the table of tasks asks for."""
    asked = {"draw": 1, "start": 0, "length": 10, "order[0][column]": 0, "columns[0][data]": "received"}
    return flower.client.get("/tasks/datatable", params=asked | query).json()


# -- whose ----------------------------------------------------------------------------------------


def test_a_key_is_shown_the_tasks_of_its_owner_only(flower: FlowerApp) -> None:
    on_worker(flower, flower.owner, MINE, "mine")
    theirs = on_worker(flower, "somebody else", THEIRS, "secret").job_id
    flower.compare()
    inspected(flower, {"id": MINE, "args": f"['{theirs}']"}, {"id": THEIRS, "args": f"['{theirs}']"})

    assert list(flower.client.get("/api/tasks").json()) == [MINE]
    assert [row["uuid"] for row in table(flower)["data"]] == [MINE]
    assert (table(flower)["recordsTotal"], table(flower, **{"search[value]": "secret"})["recordsFiltered"]) == (1, 0)
    assert flower.client.get(f"/api/task/info/{MINE}").json()["args"].startswith("mine")
    for path in (f"/task/{THEIRS}", f"/api/task/info/{THEIRS}", f"/api/task/result/{THEIRS}"):
        assert flower.client.get(path).status_code == 404, path
    everything = [
        "/api/tasks",
        "/api/workers",
        f"/api/workers?workername={WORKER}",
        f"/worker/{WORKER}",
        "/workers?json=1",
    ]
    for path in everything:
        answer = flower.client.get(path)
        assert answer.status_code == 200, path
        assert not any(word in answer.text for word in ("secret", theirs, theirs[:8], THEIRS)), path
    assert MINE in flower.client.get(f"/worker/{WORKER}").text


def test_everyone_is_shown_all_where_it_is_set_so(sqlite_engine: Engine, tmp_path: Path) -> None:
    with running_flower_app(sqlite_engine, tmp_path, flower_shows="everyone") as flower:
        on_worker(flower, "somebody else", THEIRS, "open")
        flower.compare()
        assert list(flower.client.get("/api/tasks").json()) == [THEIRS]
        assert flower.client.get(f"/task/{THEIRS}").status_code == 200


def test_a_short_task_has_an_owner_too(flower: FlowerApp) -> None:
    """One that began and ended between two looks at SQL is known from the event of its end only."""
    lease = on_worker(flower, flower.owner, MINE, "mine")
    with write(flower.engine) as conn:
        transitions.stop(conn, lease, outcome=AttemptOutcome.CANCELLED)
    about = {"uuid": MINE, "hostname": WORKER, "timestamp": 1.0, "local_received": 1.0, "clock": 1}
    events = flower.flower.events
    events.on_event({"type": "task-received", "name": "nightshift.attempt", "args": "x", "kwargs": "{}", **about})
    events.on_event({"type": "task-succeeded", "result": "None", "runtime": 1.0, **about})
    flower.serving.run_in_loop(_nothing())  # the loop has come round
    assert [task["state"] for task in flower.client.get("/api/tasks").json().values()] == ["REVOKED"]


async def _nothing() -> None:
    return None


def test_a_device_does_not_tell_the_id_of_another_owners_job(flower: FlowerApp) -> None:
    with write(flower.engine) as conn:
        workers.register(conn, WorkerInfo(WORKER, "test", 1, "cpu", "cpu"))
    theirs = on_worker(flower, "somebody else", THEIRS, "secret").job_id
    with write(flower.engine) as conn:
        workers.heartbeat(conn, WORKER, job_id=theirs)
    answer = flower.client.get("/nightshift/devices/data")
    assert answer.json()["devices"][0]["job"]["state"] == "running"
    assert theirs not in answer.text


# -- what may be asked ----------------------------------------------------------------------------


def test_a_revoke_cancels_the_owners_job_and_no_other_owners(flower: FlowerApp) -> None:
    mine = on_worker(flower, flower.owner, MINE, "mine")
    theirs = on_worker(flower, "somebody else", THEIRS, "secret")
    for query in ({"terminate": "true"}, {}):
        refused = flower.client.post(f"/api/task/revoke/{THEIRS}", params=query)
        assert (refused.status_code, "No task" in refused.text) == (404, True)
    assert asked(flower, theirs.job_id) is None
    assert flower.client.post("/api/task/revoke/unknown").status_code == 404

    answer = flower.client.post(f"/api/task/revoke/{MINE}", params={"terminate": "true"})
    assert (answer.status_code, answer.json()["message"][:16]) == (200, "Cancel requested")
    assert asked(flower, mine.job_id) == "cancel"
    with write(flower.engine) as conn:
        transitions.stop(conn, mine, outcome=AttemptOutcome.CANCELLED)
    assert flower.client.post(f"/api/task/revoke/{MINE}").status_code == 409, "it has ended"


CLOSED = [
    "/api/worker/shutdown/cpu0@test", "/api/worker/pool/restart/cpu0@test", "/api/worker/pool/grow/cpu0@test?n=1",
    "/api/worker/pool/shrink/cpu0@test?n=1", "/api/worker/pool/autoscale/cpu0@test?min=1&max=2",
    "/api/worker/queue/add-consumer/cpu0@test?queue=evil",
    "/api/worker/queue/cancel-consumer/cpu0@test?queue=nightshift.auto", "/api/task/timeout/nightshift.attempt",
    "/api/task/rate-limit/nightshift.attempt", "/api/task/abort/1", "/api/task/send-task/os.system",
    "/api/task/apply/nightshift.attempt", "/api/task/async-apply/nightshift.maintain",
]  # fmt: skip


def test_nothing_else_is_sent_to_workers(flower: FlowerApp) -> None:
    for path in CLOSED:
        answer = flower.client.post(path)
        assert (answer.status_code, answer.text[-1]) == (403, "."), path
        assert "through Flower" in answer.text
        assert flower.client.post(path, auth=None).status_code == 401


def test_every_route_of_flower_that_takes_a_post_is_known_here() -> None:
    """A later version of Flower may bring one that should be closed too."""
    routes = [route if isinstance(route, URLSpec) else URLSpec(*route) for route in flower_routes]
    posts = {spec.regex.pattern.rstrip("$") for spec in routes if "post" in vars(spec.handler_class)}
    known = {path.partition("?")[0].rpartition("/")[0] + "/(.+)" for path in CLOSED}
    assert posts == known | {"/api/task/revoke/(.+)", "/tasks/datatable", ".*"}


def test_a_page_of_a_worker_offers_nothing_that_is_refused(flower: FlowerApp) -> None:
    inspected(flower)
    page = flower.client.get(f"/worker/{WORKER}").text
    assert "Worker pool options" in page
    for word in ("Shut Down", "Restart Pool", "Grow", "Shrink", "Autoscale", "Cancel", "New consumer", "Apply"):
        assert word not in page, word


# -- what a browser may do with a response --------------------------------------------------------


def test_every_response_forbids_frames_and_foreign_scripts(flower: FlowerApp) -> None:
    """Pages, the API, files, redirects, errors, with and without a key."""
    paths = [
        "/", "/tasks", "/workers", "/workers?json=1", "/broker", "/task/none", "/worker/none", "/nowhere", "/metrics",
        "/healthcheck", "/api/tasks", "/api/task/info/none", "/api/nowhere", "/static/js/flower.js", "/static/none",
        "/nightshift/jobs", "/nightshift/none", "/nightshift/static/js/jobs.js", "/logout", "/login",
    ]  # fmt: skip
    answers = [flower.client.get(path) for path in paths]
    answers += [flower.client.get(path, auth=None) for path in paths]
    answers += [flower.client.request("BREW", "/tasks"), flower.client.post("/tasks"), flower.client.post(CLOSED[0])]
    for answer in answers:
        assert_strict(answer)
    assert {200, 302, 401, 403, 404, 405} <= {answer.status_code for answer in answers}


def test_a_path_outside_the_prefix_is_no_exception(sqlite_engine: Engine, tmp_path: Path) -> None:
    with running_flower_app(sqlite_engine, tmp_path, flower_url_prefix="ops") as flower:
        answer = flower.client.get("/outside")
        assert answer.status_code == 404
        assert_strict(answer)
        assert flower.client.post("/ops" + CLOSED[0]).status_code == 403


def assert_strict(answer: httpx.Response) -> None:
    said = f"{answer.request.method} {answer.request.url} {answer.status_code} {dict(answer.headers)}"
    assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"], said
    assert "script-src" not in answer.headers["Content-Security-Policy"], said
    strict = [answer.headers[name] for name in ("X-Frame-Options", "X-Content-Type-Options", "Referrer-Policy")]
    assert strict == ["DENY", "nosniff", "same-origin"], said


def test_a_request_without_a_key_is_told_how_to_send_one(flower: FlowerApp) -> None:
    """Else a browser that knows the key does not send it to the API: buttons got a 401 without a word."""
    for path in ("/tasks", "/api/tasks", "/nightshift/jobs", "/nightshift/jobs/data"):
        answer = flower.client.get(path, auth=None)
        assert (answer.status_code, answer.headers["WWW-Authenticate"][:5]) == (401, "Basic"), path
        assert "API key" in answer.text
