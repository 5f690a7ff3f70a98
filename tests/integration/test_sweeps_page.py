"""The pages of sweeps: what their scripts are told, and their buttons."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine

from shared.settings import Settings
from tests.support.flower_app import FlowerApp, running_flower_app
from tests.support.sweeps import make_sweep, sweep_of, work
from worker.maintenance import sweeper


@pytest.fixture
def flower(sqlite_engine: Engine, tmp_path: Path) -> Iterator[FlowerApp]:
    with running_flower_app(sqlite_engine, tmp_path) as app:
        yield app


def beat(flower: FlowerApp) -> None:
    sweeper.run_once(flower.engine, Settings())


def test_the_list_and_the_page_show_the_own_sweeps(flower: FlowerApp) -> None:
    sweep_id = make_sweep(flower.engine, flower.owner, name="rates", trials=3)
    foreign = make_sweep(flower.engine, "somebody else", name="secret")
    beat(flower)
    work(flower.engine)
    beat(flower)
    [row] = flower.data("/sweeps/-/data")["sweeps"]
    assert (row["name"], row["who"], row["started"], row["running"]) == ("rates", "test", 3, 1)
    shown = flower.data(f"/sweeps/{sweep_id}/data")
    assert [trial["state"] for trial in shown["trial_list"]] == ["complete", "complete", "running"]
    assert shown["best_value"] == max(trial["value"] or 0 for trial in shown["trial_list"])
    assert flower.client.get(f"/nightshift/sweeps/{foreign}").status_code == 404
    assert "secret" not in flower.client.get("/nightshift/sweeps").text
    assert "rates" in flower.client.get(f"/nightshift/sweeps/{sweep_id}").text


def test_its_buttons_steer_it(flower: FlowerApp) -> None:
    sweep_id = make_sweep(flower.engine, flower.owner, trials=3)
    beat(flower)
    for verb, state in (("pause", "paused"), ("resume", "running"), ("stop", "stopping"), ("cancel", "cancelled")):
        assert "Sweep" in flower.post(f"/sweeps/{sweep_id}/{verb}").json()["message"]
        assert sweep_of(flower.engine, sweep_id).state == state
    assert flower.post(f"/sweeps/{sweep_id}/pause").status_code == 409
    assert flower.post(f"/sweeps/{sweep_id}/add", {"count": 2}).json()["message"] == "2 trials added."
    assert flower.post(f"/sweeps/{sweep_id}/add", {"count": "x"}).status_code == 422
    flower.post(f"/sweeps/{sweep_id}/cancel")
    flower.post(f"/sweeps/{sweep_id}/delete")
    assert flower.data("/sweeps/-/data") == {"sweeps": []}
