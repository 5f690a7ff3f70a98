"""The pages of schedules: what their scripts are told, and their buttons."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from shared.db.engine import write
from shared.db.schema import schedule_ticks
from shared.schedules import transitions
from shared.specs.schedules import ScheduleSpec
from tests.support.factories import make_spec, submit_job
from tests.support.flower_app import FlowerApp, running_flower_app


@pytest.fixture
def flower(sqlite_engine: Engine, tmp_path: Path) -> Iterator[FlowerApp]:
    with running_flower_app(sqlite_engine, tmp_path) as app:
        yield app


def schedule(engine: Engine, owner: str, name: str = "nightly", **fields: Any) -> str:
    job = make_spec(name="by {tick}").model_dump(mode="json")
    times = {"cron": "30 2 * * *", "timezone": "Europe/Berlin"}
    with write(engine) as conn:
        return transitions.create(
            conn, owner, ScheduleSpec.model_validate({"name": name, "job": job, **times, **fields})
        )


def missed(engine: Engine, schedule_id: str, count: int) -> None:
    """As if nothing had run for so many minutes, long ago."""
    row = {"schedule_id": schedule_id, "manual": False, "outcome": "missed", "reason": "too late", "decided_at": 2.0}
    with write(engine) as conn:
        conn.execute(schedule_ticks.insert(), [row | {"due_at": 60.0 * number} for number in range(1, count + 1)])


def test_the_list_says_when_each_comes_next_and_what_became_of_its_ticks(flower: FlowerApp) -> None:
    schedule_id = schedule(flower.engine, flower.owner)
    schedule(flower.engine, flower.owner, "paused", enabled=False)
    schedule(flower.engine, "somebody else", "secret")
    missed(flower.engine, schedule_id, 20)
    job_id = flower.post(f"/schedules/{schedule_id}/run").json()["job_id"]
    nightly, paused = flower.data("/schedules/-/data")["schedules"]
    assert (nightly["name"], paused["name"], paused["next_at"], paused["ticks"]) == ("nightly", "paused", None, [])
    assert nightly["next_at_local"].endswith(("T02:30:00+01:00", "T02:30:00+02:00", "T03:00:00+02:00"))
    assert (nightly["who"], len(nightly["ticks"])) == ("test", 14)
    last = nightly["ticks"][-1]
    assert (last["job_id"], last["job_state"], last["manual"], last["outcome"]) == (job_id, "queued", True, "submitted")
    assert "secret" not in flower.client.get("/nightshift/schedules").text


def test_a_schedule_shows_its_next_times_in_its_zone_and_utc(flower: FlowerApp) -> None:
    schedule(flower.engine, flower.owner)
    shown = flower.data("/schedules/nightly/data")
    assert len(shown["next"]) == 6
    assert {time["local"][10:16] for time in shown["next"]} <= {"T02:30", "T03:00"}  # a gap in spring
    assert all(time["utc"].endswith("Z") for time in shown["next"])
    assert shown["schedule"]["job"]["training"]["epochs"] == 1
    assert flower.client.get("/nightshift/schedules/unknown").status_code == 404


def test_old_ticks_come_in_pages(flower: FlowerApp) -> None:
    missed(flower.engine, schedule(flower.engine, flower.owner), 30)
    first = flower.data("/schedules/nightly/data")["history"]
    rest = flower.data("/schedules/nightly/history", cursor=first["next"])
    assert (len(first["items"]), len(rest["items"]), rest["next"]) == (25, 5, None)
    assert {item["outcome"] for item in rest["items"]} == {"missed"}


def test_pause_and_resume(flower: FlowerApp) -> None:
    schedule(flower.engine, flower.owner)
    assert flower.post("/schedules/nightly/pause").json()["message"] == "nightly paused."
    assert flower.data("/schedules/nightly/data")["schedule"]["next_at"] is None
    assert flower.post("/schedules/nightly/run").status_code == 200, "by hand it runs all the same"
    assert "resumed" in flower.post("/schedules/nightly/resume").json()["message"]
    assert flower.data("/schedules/nightly/data")["schedule"]["next_at"] is not None


def test_another_owners_schedule_cannot_be_steered(flower: FlowerApp) -> None:
    schedule_id = schedule(flower.engine, "somebody else", "secret")
    assert [flower.post(f"/schedules/{schedule_id}/{verb}").status_code for verb in ("run", "pause")] == [404, 404]


def test_where_everyone_is_shown_an_operator_steers_all(sqlite_engine: Engine, tmp_path: Path) -> None:
    with running_flower_app(sqlite_engine, tmp_path, flower_shows="everyone") as flower:
        schedule_id = schedule(flower.engine, "somebody else", "theirs")
        assert flower.data("/schedules/-/data")["schedules"][0]["name"] == "theirs"
        assert flower.post(f"/schedules/{schedule_id}/pause").status_code == 200


def test_a_button_needs_the_pages_token_and_a_flower_that_may_write(sqlite_engine: Engine, tmp_path: Path) -> None:
    with running_flower_app(sqlite_engine, tmp_path, flower_read_only=True) as flower:
        schedule_id = schedule(flower.engine, flower.owner)
        assert flower.post(f"/schedules/{schedule_id}/run").status_code == 403
        assert flower.client.post(f"/nightshift/schedules/{schedule_id}/run").status_code == 403
        assert flower.data("/schedules/nightly/data")["history"]["items"] == []


def test_the_next_times_of_what_is_typed_or_what_is_wrong_with_it(flower: FlowerApp) -> None:
    good = flower.data("/schedules/-/preview", cron="0 5 * * *", timezone="Europe/Berlin")
    assert len(good["times"]) == 6
    assert all("T05:00:00" in time["local"] for time in good["times"])
    assert "cron" in flower.data("/schedules/-/preview", cron="0 2 * *", timezone="UTC")["error"]
    assert "did you mean" in flower.data("/schedules/-/preview", cron="0 2 * * *", timezone="Europe/Berlim")["error"]


def test_a_schedule_is_made_of_a_job_changed_and_deleted(flower: FlowerApp) -> None:
    job_id = submit_job(flower.engine, owner_id=flower.owner, name="mine", run_at="2030-01-01T00:00:00Z").job_id
    theirs = submit_job(flower.engine, owner_id="somebody else").job_id
    times = {"name": "weekly", "cron": "0 3 * * 1", "timezone": "UTC"}
    assert flower.post("/schedules/-/add", times | {"job": theirs}).status_code == 404
    assert flower.post("/schedules/-/add", times | {"job": "../x"}).status_code == 422
    made = flower.post("/schedules/-/add", times | {"job": job_id[:10], "overlap": "queue"})
    assert (made.status_code, made.json()["name"]) == (200, "weekly"), made.text
    shown = flower.data("/schedules/weekly/data")["schedule"]
    assert (shown["job"]["name"], shown["job"].get("run_at"), shown["overlap"]) == ("mine", None, "queue")
    assert flower.post("/schedules/-/add", times | {"job": job_id}).status_code == 409, "the name is taken"
    assert flower.post("/schedules/weekly/change", {"cron": "15 4 * * *", "timezone": "Asia/Tokyo"}).status_code == 200
    assert "T04:15:00+09:00" in flower.data("/schedules/weekly/data")["schedule"]["next_at_local"]
    assert flower.post("/schedules/weekly/change", {"cron": "nonsense"}).status_code == 422
    schedule(flower.engine, "somebody else", "secret")
    assert flower.post("/schedules/secret/delete").status_code == 404
    assert flower.post("/schedules/weekly/delete").status_code == 200
    assert flower.data("/schedules/-/data")["schedules"] == []
