"""Schedules over HTTP."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.api import TRAIN, Api, assert_problem

NIGHTLY: dict[str, Any] = {"name": "nightly", "cron": "0 2 * * *", "timezone": "Europe/Berlin", "job": TRAIN}


def add(api: Api, **fields: Any) -> Any:
    return api.post("/v1/schedules", json={**NIGHTLY, **fields})


def test_a_schedule_is_made_shown_changed_and_deleted(api: Api) -> None:
    answer = add(api)
    assert answer.status_code == 201, answer.text
    made = answer.json()
    assert answer.headers["Location"] == f"/v1/schedules/{made['id']}"
    assert (made["catch_up"], made["overlap"], made["enabled"], made["last_tick"]) == ("latest", "skip", True, None)
    assert made["job"]["training"]["epochs"] >= 1  # complete, as a job's spec is
    for reference in (made["id"], "nightly"):
        assert api.get(f"/v1/schedules/{reference}").json() == made
    assert api.get("/v1/schedules").json() == {"items": [made], "next_cursor": None}
    paused = api.send("PATCH", "/v1/schedules/nightly", json={"enabled": False}).json()
    assert (paused["enabled"], paused["next_at"], paused["job"]) == (False, None, made["job"])
    changed = api.send("PATCH", "/v1/schedules/nightly", json={"enabled": True, "cron": "30 4 * * 1"}).json()
    assert "T04:30:00" in changed["next_at_local"]
    assert api.send("DELETE", "/v1/schedules/nightly").status_code == 204
    assert_problem(api.get("/v1/schedules/nightly"), 404)


def test_preview_in_utc_and_local(api: Api) -> None:
    add(api)
    items = api.get("/v1/schedules/nightly/preview", params={"n": 400}).json()["items"]
    assert len(items) == 400
    assert {item["local"][10:19] for item in items} == {"T02:00:00", "T03:00:00"}  # a gap each spring
    assert {item["utc"][10:19] for item in items} == {"T00:00:00", "T01:00:00"}
    assert all(item["tick"] == item["utc"].translate({45: None, 58: None})[:15] + "Z" for item in items)
    for n in (0, 1001, "x"):
        assert api.get("/v1/schedules/nightly/preview", params={"n": n}).status_code == 422


def test_run_now_and_its_history(api: Api) -> None:
    add(api, job={**TRAIN, "name": "by {tick}", "resources": {"device": "cpu"}}, enabled=False)
    answers = [api.post("/v1/schedules/nightly/run") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [202] * 3
    ids = [answer.json()["id"] for answer in answers]
    assert answers[0].headers["Location"] == f"/v1/jobs/{ids[0]}"
    assert api.rung == [("cpu", job_id) for job_id in ids]
    page = api.get("/v1/schedules/nightly/history", params={"limit": 2}).json()
    assert [item["job_id"] for item in page["items"]] == [ids[2], ids[1]]
    assert {(item["outcome"], item["manual"], item["job_state"]) for item in page["items"]} == {
        ("submitted", True, "queued")
    }
    rest = api.get("/v1/schedules/nightly/history", params={"cursor": page["next_cursor"]}).json()
    assert [item["job_id"] for item in rest["items"]] == ids[:1]
    assert rest["next_cursor"] is None
    assert api.get(f"/v1/jobs/{ids[2]}").json()["name"] == f"by {page['items'][0]['tick']}"
    assert_problem(api.get("/v1/schedules/nightly/history", params={"cursor": "x"}), 400)


@pytest.mark.parametrize(
    ("fields", "loc"),
    [
        ({"cron": "0 0 2 * * *"}, ("cron",)),
        ({"cron": "0 0 31 2 *"}, ("cron",)),
        ({"cron": 5}, ("cron",)),
        ({"timezone": "Europe/Berlni"}, ("timezone",)),
        ({"timezone": "../../etc/passwd"}, ("timezone",)),
        ({"name": "../x"}, ("name",)),
        ({"catch_up": "some"}, ("catch_up",)),
        ({"catch_up_limit": 0}, ("catch_up_limit",)),
        ({"max_lateness_seconds": -1.0}, ("max_lateness_seconds",)),
        ({"overlap": "wait"}, ("overlap",)),
        ({"time_zone": "UTC"}, ("time_zone",)),
        ({"job": 5}, ("job",)),
        ({"job": {**TRAIN, "kind": "sing"}}, ("job", "kind")),
        ({"job": {**TRAIN, "dataset": "nothing"}}, ("job", "dataset")),
        ({"job": {**TRAIN, "training": {"epochs": 0}}}, ("job", "training", "epochs")),
        ({"job": {**TRAIN, "name": "of {day}"}}, ("job", "name")),
        ({"job": {**TRAIN, "name": "x" * 190 + "{tick}"}}, ("job", "name")),
        ({"job": {**TRAIN, "tags": {"a": "{when}"}}}, ("job", "tags", "a")),
        ({"job": {**TRAIN, "run_at": "2027-01-01T00:00:00Z"}}, ("job", "run_at")),
        ({"job": {**TRAIN, "after": ["0" * 16]}}, ("job", "after")),
    ],
)
def test_what_makes_no_sense_is_refused_by_its_place(api: Api, fields: dict[str, Any], loc: tuple[str, ...]) -> None:
    assert_problem(add(api, **fields), 422, loc)
    add(api, name="good")
    if "name" not in fields:
        assert_problem(api.send("PATCH", "/v1/schedules/good", json=fields), 422, loc)
    assert len(api.get("/v1/schedules").json()["items"]) == 1


def test_names_are_taken_once(api: Api) -> None:
    add(api)
    assert_problem(add(api), 409)
    add(api, name="other")
    assert_problem(api.send("PATCH", "/v1/schedules/other", json={"name": "nightly"}), 409)


def test_another_owners_schedule_is_not_found(api: Api) -> None:
    add(api)
    key = api.new_key("somebody-else")
    assert api.get("/v1/schedules", key=key).json()["items"] == []
    for method, path in [
        ("GET", ""),
        ("PATCH", ""),
        ("DELETE", ""),
        ("POST", "/run"),
        ("GET", "/preview"),
        ("GET", "/history"),
    ]:
        body = {"json": {}} if method == "PATCH" else {}
        assert_problem(api.send(method, f"/v1/schedules/nightly{path}", key=key, **body), 404)
    assert api.get("/v1/jobs").json()["items"] == []
