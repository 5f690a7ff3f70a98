"""The pages of sweeps in a real browser, without a script's error."""

from __future__ import annotations

import pytest

from shared.settings import Settings
from tests.e2e.test_models_and_schedules_in_browser import fits
from tests.support.browser import BrowserSession, expect
from tests.support.flower_app import FlowerApp
from tests.support.sweeps import make_sweep, work
from worker.maintenance import sweeper

pytestmark = pytest.mark.slow

SPACE = {
    "training.learning_rate": {"low": 0.001, "high": 0.1, "log": True},
    "training.optimizer": {"choices": ["adam", "sgd"]},
    "training.momentum": {"low": 0.0, "high": 0.9, "when": {"training.optimizer": "sgd"}},
    "training.batch_size": {"low": 16, "high": 128, "step": 16},
}


def carry_on(flower: FlowerApp, passes: int) -> None:
    for _ in range(passes):
        sweeper.run_once(flower.engine, Settings())
        work(flower.engine)
    sweeper.run_once(flower.engine, Settings())


def test_a_sweep_is_watched_extended_and_stopped(flower: FlowerApp, visitor: BrowserSession) -> None:
    page = visitor.page
    page.goto("/nightshift/sweeps")
    expect(page.locator("#sweeps-empty")).to_contain_text("No sweep yet")
    sweep_id = make_sweep(
        flower.engine, flower.owner, name="<img src=x>", space=SPACE, sampler="tpe", trials=20, concurrency=4
    )
    page.get_by_role("link", name="<img src=x>").press("Enter")
    page.wait_for_url(f"**/sweeps/{sweep_id}")
    expect(page.locator("#sweep-empty")).to_contain_text("No trial yet")
    carry_on(flower, 4)
    rows = page.locator("#sweep-trials tbody tr")
    expect(rows).to_have_count(20)
    expect(page.locator("#progress .ns-point")).to_have_count(16)
    expect(page.locator("#parallel .ns-strand")).to_have_count(16)
    expect(page.locator("#sweep-importance dt")).to_have_count(4)
    expect(page.locator("#parallel .ns-axis-name").first).to_contain_text("batch_size")
    expect(page.locator("#sweep-best")).to_contain_text("test accuracy")
    page.get_by_label("X axis").select_option("training.optimizer")
    expect(page.locator("#slice .ns-axis-name").first).to_contain_text("training.optimizer")

    page.get_by_role("button", name="test accuracy").press("Enter")  # the best first
    expect(rows.first).to_contain_text("★")
    page.get_by_role("button", name="Add trials").press("Enter")
    page.get_by_label("Number of trials").fill("5")
    page.get_by_role("dialog").get_by_role("button", name="Add").press("Enter")
    expect(page.locator("#sweep-facts")).to_contain_text("of 25")
    page.get_by_role("button", name="Pause").press("Enter")
    expect(page.locator("#sweep-facts")).to_contain_text("paused")
    page.get_by_role("button", name="Resume").press("Enter")
    page.get_by_role("button", name="Stop").press("Enter")
    page.get_by_role("dialog").get_by_role("button", name="Stop").press("Enter")
    expect(page.locator("#sweep-facts")).to_contain_text("stopping")
    carry_on(flower, 1)
    expect(page.locator("#sweep-facts")).to_contain_text("stopped")
    fits(visitor, f"sweeps/{sweep_id}")
    fits(visitor, "sweeps")
