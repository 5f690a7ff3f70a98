"""`nightshift sweep`, and the SDK's calls behind it, against the real API."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from nightshift import AsyncClient, Client, Conflict, InvalidRequest, NotFound
from nightshift.cli.commands.sweep import parameter
from nightshift.client import sweeps
from shared.settings import Settings
from tests.integration.test_client_schedules import Run, read, run  # noqa: F401 - a fixture
from tests.support.api import TRAIN
from tests.support.served import ServedApi, served_api
from tests.support.sweeps import work
from worker.maintenance import sweeper

SWEEP: dict[str, Any] = {
    "job": TRAIN,
    "space": {"training.learning_rate": {"low": 0.001, "high": 0.1, "log": True}},
    "objective": {"metric": "test_accuracy"},
    "trials": 3,
    "sampler": "random",
}


@pytest.fixture
def served(sqlite_engine: Engine, tmp_path: Path) -> Iterator[ServedApi]:
    with served_api(sqlite_engine, tmp_path) as served:
        yield served


def carry_on(engine: Engine) -> None:
    while sweeper.run_once(engine, Settings())["started"]:
        work(engine)


def test_the_sdk_submits_waits_and_finds_the_best(
    served: ServedApi, sqlite_engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Client(served.url, served.key) as nightshift:
        sweep = nightshift.submit_sweep(SWEEP, concurrency=1)
        assert (sweep.state, sweep.is_final, sweep.best) == ("running", False, None)
        monkeypatch.setattr(sweeps.time, "sleep", lambda seconds: carry_on(sqlite_engine))
        assert sweep.wait().state == "succeeded"
        assert sweep.best is not None
        assert sweep.best["value"] == max(trial["value"] for trial in sweep.trials if trial["value"] is not None)
        assert sweep.job(0).data["sweep"] == {"id": sweep.id, "number": 0}
        assert {job.id for job in nightshift.jobs(sweep=sweep.id)} == {trial["job_id"] for trial in sweep.trials}
        with pytest.raises(LookupError, match="no trial 7"):
            sweep.job(7)
        assert repr(sweep) == f"<Sweep {sweep.id} succeeded 3/3 trials>"
        with pytest.raises(Conflict):
            sweep.pause()
        assert sweep.add_trials(1).state == "running"
        assert sweep.pause().state == "paused"
        assert sweep.resume().state == "running"
        assert sweep.stop().state == "stopping"
        assert sweep.cancel().state == "cancelled"
        assert [one.id for one in nightshift.sweeps()] == [sweep.id]
        sweep.delete()
        with pytest.raises(NotFound):
            nightshift.sweep(sweep.id)
        with pytest.raises(InvalidRequest, match="not a sweep id"):
            nightshift.sweep("x")
        with pytest.raises(TimeoutError):
            nightshift.submit_sweep(SWEEP).wait(0)


def test_the_asynchronous_sdk_does_the_same(served: ServedApi, sqlite_engine: Engine) -> None:
    async def main() -> None:
        async with AsyncClient(served.url, served.key) as nightshift:
            sweep = await nightshift.submit_sweep(**SWEEP)
            await asyncio.to_thread(carry_on, sqlite_engine)
            assert (await sweep.wait()).state == "succeeded"
            assert (await sweep.job(1)).data["sweep"]["number"] == 1
            assert [one.id async for one in nightshift.sweeps(limit=5)] == [sweep.id]
            assert (await sweep.add_trials(2)).data["trials"] == 5
            for act, state in ((sweep.pause, "paused"), (sweep.resume, "running"), (sweep.stop, "stopping")):
                assert (await act()).state == state
            assert (await sweep.cancel()).state == "cancelled"
            await sweep.delete()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("adam,sgd", {"choices": ["adam", "sgd"]}),
        ("16..64", {"low": 16, "high": 64}),
        ("0..0.5:0.1", {"low": 0, "high": 0.5, "step": 0.1}),
        ("1e-4..0.1:log", {"low": 0.0001, "high": 0.1, "log": True}),
        ("true,false", {"choices": [True, False]}),
    ],
)
def test_parameters_are_written_shortly(text: str, found: dict[str, Any]) -> None:

    assert parameter(text) == found


def test_the_command_submits_shows_and_steers(run: Run, sqlite_engine: Engine, tmp_path: Path) -> None:  # noqa: F811
    (tmp_path / "job.json").write_text(json.dumps(TRAIN))
    told = run(
        "sweep", "submit", "--job", "job.json", "--set", "training.epochs=1", "--metric", "test_accuracy",
        "--param", "training.learning_rate=1e-3..0.1:log", "--param", "training.optimizer=adam,adamw",
        "--trials", "3", "--sampler", "random", "--name", "rates",
    )  # fmt: skip
    sweep_id = told.stdout.strip()
    assert "rates" in run("sweep").stdout
    assert "No trial has started yet" in run("sweep", "show", sweep_id).output
    carry_on(sqlite_engine)
    shown = run("sweep", "show", sweep_id[:6]).stdout
    for text in ("3 of 3 ended", "test_accuracy (max)", "training.optimizer", "trial", "complete"):
        assert text in shown
    numbers = [word for line in shown.splitlines() if " complete " in line for word in line.split() if "." in word]
    assert len(numbers) == 6, "a value and a rate for each trial"
    assert max(map(len, numbers)) <= 10, "no sixteen digits"
    assert read(run, "sweep", "show", sweep_id)["job"]["training"]["epochs"] == 1
    assert run("sweep", "add", sweep_id, "2").stdout.strip() == "running, 5 trials"
    assert run("sweep", "pause", sweep_id).stdout.strip() == "paused"
    assert run("sweep", "resume", sweep_id).stdout.strip() == "running"
    assert run("sweep", "stop", sweep_id).stdout.strip() == "stopping"
    assert run("sweep", "stop", sweep_id, "--cancel").stdout.strip() == "cancelled"
    assert run("sweep", "delete", sweep_id).stdout.strip() == f"{sweep_id} deleted"
    assert "No sweeps" in run("sweep", "list").output
    refused = run("sweep", "submit", "--job", "job.json", "--param", "training.learning_rate", code=1)
    assert "write it as path=values" in refused.output
