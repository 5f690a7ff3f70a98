"""`nightshift schedules` and `nightshift models`, and the SDK's calls behind them, against the real API."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine
from typer.testing import Result

from nightshift.client.client import Client
from nightshift.errors import Conflict, NotFound
from nightshift.states import JobState
from tests.support.api import TRAIN
from tests.support.cli import invoke as invoke_cli
from tests.support.served import ServedApi, served_api
from tests.unit.shared.models.test_registry import trained

Run = Callable[..., Result]


@pytest.fixture
def served(sqlite_engine: Engine, tmp_path: Path) -> Iterator[ServedApi]:
    with served_api(sqlite_engine, tmp_path) as served:
        yield served


@pytest.fixture
def run(served: ServedApi, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NIGHTSHIFT_API_URL", served.url)
    monkeypatch.setenv("NIGHTSHIFT_API_KEY", served.key)

    def invoke(*args: str, code: int = 0) -> Result:
        result = invoke_cli(*args)
        assert result.exit_code == code, (result.output, result.exception)
        return result

    return invoke


@pytest.fixture
def nightly(run: Run, tmp_path: Path) -> str:
    """A schedule as the documentation makes it; its id."""
    (tmp_path / "job.json").write_text(json.dumps({**TRAIN, "name": "digits {date}"}))
    told = run(
        "schedules", "add", "nightly", "--cron", "0 2 * * *", "--tz", "Europe/Berlin", "-f", "job.json",
        "--set", "training.epochs=3", "--catch-up", "all", "--catch-up-limit", "3", "--overlap", "queue",
    )  # fmt: skip
    return told.stdout.strip()


def read(run: Run, *args: str) -> Any:
    return json.loads(run(*args, "--json").stdout)


def test_a_schedule_is_added_as_it_was_typed(run: Run, nightly: str) -> None:
    shown = read(run, "schedules", "show", "nightly")
    assert (shown["id"], shown["timezone"], shown["job"]["training"]["epochs"]) == (nightly, "Europe/Berlin", 3)
    assert (shown["catch_up"], shown["catch_up_limit"], shown["overlap"]) == ("all", 3, "queue")
    assert "digits {date}" in run("schedules", "show", "nightly").stdout
    for listed in (run("schedules"), run("schedules", "list")):
        assert listed.stdout.splitlines()[1].split()[:7] == ["nightly", "0", "2", "*", "*", "*", "Europe/Berlin"]
    assert "Schedule 'nightly' already exists" in run(
        "schedules", "add", "nightly", "--cron", "0 2 * * *", "-f", "job.json", code=1
    ).stderr.replace("\n", " ")


def test_preview_shows_both_times(run: Run, nightly: str) -> None:
    lines = run("schedules", "preview", nightly, "-n", "3").stdout.splitlines()
    assert len(lines) == 4
    assert all(re.search(r"T0(2:00:00|3:00:00)\+0", line) and "Z" in line for line in lines[1:])  # a gap in spring
    assert len(read(run, "schedules", "preview", "nightly")["items"]) == 10


def test_run_pause_resume_history_change_delete(run: Run, nightly: str) -> None:
    job_id = run("schedules", "run", "nightly").stdout.strip()
    assert run("show", job_id).exit_code == 0
    assert f"submitted by hand  {job_id}" in run("schedules", "history", "nightly").stdout
    run("schedules", "pause", "nightly")
    assert "paused" in run("schedules").stdout
    assert "next at" in run("schedules", "resume", "nightly").stdout
    run("schedules", "change", "nightly", "--cron", "30 4 * * *", "--set", "training.epochs=7")
    changed = read(run, "schedules", "show", "nightly")
    assert (changed["cron"], changed["job"]["training"]["epochs"]) == ("30 4 * * *", 7)
    assert (changed["job"]["name"], changed["overlap"]) == ("digits {date}", "queue")
    run("schedules", "delete", "nightly")
    assert "There is no schedule" in run("schedules", "show", "nightly", code=1).stderr
    assert run("show", job_id).exit_code == 0


def test_what_is_wrong_is_named(run: Run, nightly: str) -> None:
    bad = run("schedules", "change", "nightly", "--cron", "0 0 2 * * *", "--tz", "Europe/Berlin", code=1)
    assert "cron: has 6 fields" in bad.stderr
    assert "Nothing to change" in run("schedules", "change", "nightly", code=1).stderr
    assert "The job is missing" in run("schedules", "add", "x", "--cron", "0 2 * * *", code=1).stderr


def test_the_sdk_runs_and_changes_schedules(served: ServedApi) -> None:
    with Client(served.url, served.key) as client:
        made = client.add_schedule({"name": "hourly", "cron": "0 * * * *", "job": TRAIN})
        assert client.change_schedule("hourly", overlap="queue")["overlap"] == "queue"
        assert client.run_schedule(made["id"]).refresh().state is JobState.QUEUED
        assert [tick["outcome"] for tick in client.schedule_history("hourly")] == ["submitted"]
        assert len(client.preview_schedule("hourly", 5)) == 5
        with pytest.raises(Conflict):
            client.add_schedule({"name": "hourly", "cron": "0 * * * *", "job": TRAIN})
        client.delete_schedule("hourly")
        assert client.schedules() == []
        with pytest.raises(NotFound):
            client.run_schedule("hourly")


# -- models ---------------------------------------------------------------------------------------


def test_models_are_promoted_rolled_back_compared_and_deleted(run: Run, served: ServedApi) -> None:
    for accuracy in (0.9, 0.95):
        trained(served.engine, "digits", accuracy)
    assert run("models", "promote", "digits@2", "--reason", "better").stdout == "digits@champion -> 2\n"
    assert run("models").stdout.splitlines()[1].split()[:3] == ["digits", "@2", "@2"]
    assert run("models", "rollback", "digits").stdout == "digits@champion -> 1\n"
    assert "no earlier version" in run("models", "rollback", "digits", code=1).stderr
    assert run("models", "compare", "digits", "champion", "2").stdout.splitlines()[1].split() == [
        "a", "0.9000", "0.9500", "0.0500",
    ]  # fmt: skip
    changes = [line.split()[1:5] for line in run("models", "history", "digits").stdout.splitlines()[1:]]
    assert changes[:2] == [["rollback", "champion", "2", "1"], ["set", "champion", "1", "2"]]
    assert "used by the alias 'champion'" in run("models", "delete", "digits@1", code=1).stderr
    assert run("models", "delete", "digits@2").stdout == "digits@2 deleted\n"
    assert [version["version"] for version in read(run, "models", "show", "digits")["versions"]] == [1]
    assert "NAME@3" in run("models", "promote", "digits", code=1).stderr
