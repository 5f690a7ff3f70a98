"""Webhooks over HTTP and on the command line: made, changed, tested, listed; a secret is shown once."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import Engine

from nightshift.cli import completion
from shared.settings import Settings
from shared.webhooks.models import EventType
from tests.integration.test_client_schedules import Run, read, run
from tests.support.api import Api, assert_problem, running_api
from tests.support.receiver import receiving, reply
from tests.support.served import ServedApi, served_api
from worker.maintenance import webhook_sender

__all__ = ["run"]

HOOK = {"name": "ops", "url": "https://hooks.example.com/x"}
HOUSE = Settings(webhooks_allow_private=True, webhooks_max_attempts=1)


def test_a_webhook_from_making_to_removing(api: Api) -> None:
    made = api.post("/v1/webhooks", json=HOOK)
    assert made.status_code == 201
    shown = made.json()
    assert shown["secret"].startswith("whsec_")
    assert made.headers["location"] == f"/v1/webhooks/{shown['id']}"
    assert "job.failed" in shown["events"]
    assert "job.started" not in shown["events"]
    plain = {name: value for name, value in shown.items() if name != "secret"}
    assert api.get("/v1/webhooks/ops").json() == api.get(made.headers["location"]).json() == plain
    assert api.get("/v1/webhooks").json()["items"] == [plain]
    changes = {"events": ["job.started"], "tags": {"a": "b"}, "match": "d*", "enabled": False, "name": "new"}
    changed = api.send("PATCH", "/v1/webhooks/ops", json=changes).json()
    assert {name: changed[name] for name in changes} == changes
    assert api.send("PATCH", "/v1/webhooks/new", json={"match": None}).json()["match"] is None
    rotated = api.post("/v1/webhooks/new/rotate").json()
    assert rotated["secret"] != shown["secret"]
    assert rotated["old_secret_until"]
    assert api.send("DELETE", "/v1/webhooks/new").status_code == 204
    assert_problem(api.get("/v1/webhooks/new"), 404)


def test_what_is_wrong_is_named(api: Api) -> None:
    for field, value in {
        "url": "http://example.com/",
        "events": ["job.exploded"],
        "name": "a b",
        "format": "xml",
        "match": "a\nb",
        "enabled": "yes",
        "evens": [],
    }.items():
        loc = ("events", 0) if field == "events" else (field,)
        assert_problem(api.post("/v1/webhooks", json={**HOOK, field: value}), 422, loc)
    assert_problem(api.post("/v1/webhooks", json={**HOOK, "events": []}), 422, ("events",))
    assert_problem(api.post("/v1/webhooks", json={**HOOK, "tags": {"": "x"}}), 422, ("tags", ""))
    assert_problem(api.post("/v1/webhooks", content=b"{"), 415)
    unknown = assert_problem(api.post("/v1/webhooks", json={**HOOK, "events": ["job.exploded"]}), 422, ("events", 0))
    assert "job.succeeded" in unknown["errors"][0]["msg"]
    assert api.post("/v1/webhooks", json=HOOK).status_code == 201
    assert_problem(api.post("/v1/webhooks", json=HOOK), 409)
    assert api.post("/v1/webhooks", json={**HOOK, "name": "other"}).status_code == 201
    assert_problem(api.send("PATCH", "/v1/webhooks/other", json={"name": "ops"}), 409)
    assert_problem(api.send("PATCH", "/v1/webhooks/other", json={"url": "https://10.0.0.1/"}), 422, ("url",))
    assert_problem(api.get("/v1/webhooks/ops/deliveries", params={"cursor": "zzz"}), 400)
    assert_problem(api.get("/v1/webhooks/ops/deliveries", params={"state": "lost"}), 422, ("query", "state"))
    assert_problem(api.get("/v1/webhooks/ops/deliveries/0123456789abcdef"), 404)
    assert_problem(api.post("/v1/webhooks/ops/deliveries/0123456789abcdef/redeliver"), 404)


def test_another_owners_webhook_is_not_found(api: Api) -> None:
    api.post("/v1/webhooks", json=HOOK)
    other = api.new_key("somebody-else")
    assert api.get("/v1/webhooks", key=other).json()["items"] == []
    for method, path in (("GET", ""), ("PATCH", ""), ("DELETE", ""), ("POST", "/test"), ("POST", "/rotate")):
        body = {"json": {}} if method == "PATCH" else {}
        assert_problem(api.send(method, f"/v1/webhooks/ops{path}", key=other, **body), 404)
    assert_problem(api.get("/v1/webhooks/ops/deliveries", key=other), 404)


def test_a_test_and_the_deliveries(sqlite_engine: Engine, tmp_path: Path) -> None:
    with running_api(sqlite_engine, tmp_path, webhooks_allow_private=True) as api, receiving() as receiver:
        api.post("/v1/webhooks", json={**HOOK, "url": receiver.url})
        receiver.answer = lambda number, handler: reply(handler, 500 if number == 1 else 200)
        sent = [api.post("/v1/webhooks/ops/test").json() for _ in range(3)]
        assert_problem(api.post(f"/v1/webhooks/ops/deliveries/{sent[0]['id']}/redeliver"), 409)
        webhook_sender.deliver_due(sqlite_engine, HOUSE)
        (dead,) = api.get("/v1/webhooks/ops/deliveries", params={"state": "dead"}).json()["items"]
        assert (dead["event_type"], dead["status"], dead["error"]) == ("webhook.test", 500, "HTTP 500")
        first = api.get("/v1/webhooks/ops/deliveries", params={"limit": 2}).json()
        rest = api.get("/v1/webhooks/ops/deliveries", params={"cursor": first["next_cursor"]}).json()
        assert [item["id"] for item in [*first["items"], *rest["items"]]] == [item["id"] for item in reversed(sent)]
        assert rest["next_cursor"] is None
        assert api.post(f"/v1/webhooks/ops/deliveries/{dead['id']}/redeliver").json()["state"] == "pending"
        webhook_sender.deliver_due(sqlite_engine, HOUSE)
        shown = api.get(f"/v1/webhooks/ops/deliveries/{dead['id']}").json()
        assert (shown["state"], json.loads(shown["body"])["data"]["webhook"]["name"]) == ("delivered", "ops")
        api.send("PATCH", "/v1/webhooks/ops", json={"enabled": False})
        assert_problem(api.post("/v1/webhooks/ops/test"), 409)
        assert 'nightshift_webhook_deliveries{state="delivered"} 3.0' in api.get("/metrics").text


# -- on the command line --------------------------------------------------------------------------


@pytest.fixture
def served(sqlite_engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ServedApi]:
    monkeypatch.setenv("NIGHTSHIFT_WEBHOOKS_ALLOW_PRIVATE", "true")
    with served_api(sqlite_engine, tmp_path) as served:
        yield served


@pytest.fixture
def sending(sqlite_engine: Engine) -> Iterator[None]:
    """Maintenance, as it were."""
    ended = threading.Event()

    def work() -> None:
        while not ended.wait(0.02):
            webhook_sender.deliver_due(sqlite_engine, HOUSE)

    thread = threading.Thread(target=work)
    thread.start()
    yield
    ended.set()
    thread.join()


def test_the_command_line(run: Run, served: ServedApi, sending: None) -> None:
    assert "No webhooks" in run("webhooks").stderr
    with receiving() as receiver:
        told = run("webhooks", "add", "ops", receiver.url, "--event", "job.failed", "--tag", "team=vision")
        assert told.stdout.startswith("whsec_")
        assert run("webhooks", "test", "ops").stdout.startswith("arrived: HTTP 200 in ")
        receiver.answer = lambda number, handler: reply(handler, 401, b"who are you?")
        assert run("webhooks", "test", "ops", code=1).stdout == "failed: HTTP 401: who are you?\n"
        lines = [line.split() for line in run("webhooks", "deliveries", "ops").stdout.splitlines()]
        assert [line[1:4] for line in lines[1:]] == [
            ["webhook.test", "dead", "1"], ["webhook.test", "delivered", "1"],
        ]  # fmt: skip
        receiver.answer = lambda number, handler: reply(handler, 200)
        assert "will be sent again" in run("webhooks", "redeliver", "ops", lines[1][0]).stdout
    assert read(run, "webhooks", "show", "ops")["tags"] == {"team": "vision"}
    run("webhooks", "change", "ops", "--all", "--match", "digits*", "--event", "model.promoted", "--format", "slack")
    changed = read(run, "webhooks", "show", "ops")
    assert (changed["tags"], changed["match"], changed["events"]) == ({}, "digits*", ["model.promoted"])
    assert "Nothing to change" in run("webhooks", "change", "ops", code=1).stderr
    assert run("webhooks", "pause", "ops").stdout == "ops paused\n"
    assert "is paused" in run("webhooks", "test", "ops", code=1).stderr
    assert run("webhooks", "list").stdout.splitlines()[1].split()[:2] == ["ops", "paused"]
    assert run("webhooks", "resume", "ops").stdout == "ops enabled\n"
    assert run("webhooks", "rotate", "ops").stdout.startswith("whsec_")
    assert "unknown event 'job.exploded'" in run("webhooks", "change", "ops", "--event", "job.exploded", code=1).stderr
    assert run("webhooks", "remove", "ops").stdout == "ops removed\n"


def test_the_shell_offers_names_and_every_event(run: Run, served: ServedApi) -> None:
    run("webhooks", "add", "ops", "http://127.0.0.1:1/", "--format", "slack")
    root = SimpleNamespace(params={"url": served.url, "key": served.key})
    asked: Any = SimpleNamespace(find_root=lambda: root)
    assert completion.webhooks(asked, "") == completion.webhooks(asked, "op") == [("ops", "http://127.0.0.1:1/")]
    assert completion.webhooks(asked, "x") == []
    assert completion.events("") == [event.value for event in EventType]
