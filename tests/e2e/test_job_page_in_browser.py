"""The page of one job in a real browser: run it again with changes, a new job, what people write on it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from shared.db.engine import read, write
from shared.jobs import queries, transitions
from shared.jobs.transitions import LogRow, SampleRow
from tests.support.browser import PHONE, BrowserSession, expect
from tests.support.factories import running_job, submit_job
from tests.support.flower_app import FlowerApp

pytestmark = pytest.mark.slow


@pytest.fixture
def visitor(window: BrowserSession, flower: FlowerApp) -> Iterator[BrowserSession]:
    window.begin(flower.key)
    yield window
    window.close()
    refusals = [text for text in window.wrong if "422" not in text]  # the browser's own line about a refused request
    assert refusals == []


def job(flower: FlowerApp, page: Any) -> dict[str, Any]:
    """The job whose page is open."""
    with read(flower.engine) as conn:
        return queries.job_view(queries.get_job(conn, page.url.rpartition("/")[2], None))


def test_a_job_is_run_again_with_changes_and_errors_stand_at_their_field(
    flower: FlowerApp, visitor: BrowserSession
) -> None:
    fields: dict[str, Any] = {"name": "first", "tags": {"team": "vision"}, "register_as": "digits"}
    old = submit_job(flower.engine, owner_id=flower.owner, **fields).job_id
    page = visitor.page
    page.goto(f"/nightshift/jobs/{old}")
    page.get_by_role("link", name="Run again").press("Enter")
    expect(page.get_by_label("Name", exact=True)).to_be_focused()
    expect(page.get_by_label("Name", exact=True)).to_have_value("")
    expect(page.locator("[data-path=register_as]")).to_contain_text("the original job registered digits")
    expect(page.locator("#submit-changes")).to_contain_text("No changes")
    expect(page.locator("#submit-changes")).to_contain_text("will not be registered")
    page.get_by_label("Register as").fill("mine")
    expect(page.locator("#submit-changes")).to_contain_text("registered as a new version of mine")
    page.get_by_label("Learning rate").fill("0")
    page.get_by_label("Epochs").press("Enter")
    expect(page.locator("[id='field-training.learning_rate-error']")).to_contain_text("greater than 0")
    expect(page.get_by_label("Learning rate")).to_be_focused()
    page.get_by_label("Learning rate").fill("0.003")
    expect(page.locator("#submit-changes")).to_contain_text("training.learning_rate 0.001 → 0.003")
    page.get_by_role("tab", name="Form").press("ArrowRight")
    text = page.get_by_label("The spec as JSON")
    whole = text.input_value()
    assert '"learning_rate": 0.003' in whole
    text.fill("{")
    expect(page.locator("#submit-errors")).to_contain_text("Invalid JSON")
    page.get_by_role("tab", name="Form").click()
    expect(text).to_be_focused()
    text.fill(whole.replace('"seed": 0', '"seed": 7'))
    page.get_by_role("tab", name="JSON").press("ArrowLeft")
    expect(page.get_by_label("Seed")).to_have_value("7")
    page.get_by_role("button", name="Submit").press("Enter")
    expect(page.locator(".ns-like")).to_contain_text(
        "Copy of first, changed: learning rate 0.001 → 0.003, seed 0 → 7, register as digits → mine"
    )
    shown = job(flower, page)
    assert (shown["tags"], shown["copied_from"]["id"]) == ({"team": "vision"}, old)
    assert (shown["name"], shown["spec"]["register_as"]) == (None, "mine")


def test_a_new_job_is_made_by_hand(flower: FlowerApp, visitor: BrowserSession) -> None:
    page = visitor.page
    page.goto("/nightshift/jobs")
    page.get_by_role("link", name="New job").click()
    page.get_by_label("Model", exact=True).select_option("gan")
    page.get_by_label("Preset").select_option("dense")
    page.get_by_label("Epochs").fill("two")
    page.get_by_label("Tags").fill("team=vision, night=1")
    page.get_by_role("button", name="Submit").click()
    expect(page.locator("[id='field-training.epochs-error']")).to_contain_text("integer")
    page.get_by_label("Epochs").fill("2")
    page.get_by_role("button", name="Submit").click()
    expect(page).to_have_url(re.compile("/nightshift/jobs/[0-9a-f]{16}$"))
    spec = job(flower, page)["spec"]
    assert (spec["model"]["preset"], spec["training"]["epochs"]) == ("dense", 2)
    assert spec["tags"] == {"team": "vision", "night": "1"}


def test_a_new_job_fits_a_phone(visitor: BrowserSession) -> None:
    page = visitor.page
    page.set_viewport_size(PHONE)
    page.goto("/nightshift/jobs/new")
    page.get_by_text("More settings").click()
    for view in ("Form", "JSON"):
        page.get_by_role("tab", name=view).click()
        width = page.evaluate("document.documentElement.scrollWidth")
        assert width <= 390, f"{view} is {width} pixels wide"
    assert visitor.wrong == []


def test_name_notes_tags_and_priority_are_edited(flower: FlowerApp, visitor: BrowserSession) -> None:
    job_id = submit_job(flower.engine, owner_id=flower.owner, name="before", tags={"old": "1"}).job_id
    page = visitor.page
    page.goto(f"/nightshift/jobs/{job_id}")
    page.get_by_role("button", name="Edit").press("Enter")
    dialog = page.get_by_role("dialog", name="Edit")
    expect(dialog.get_by_label("Name")).to_be_focused()
    dialog.get_by_label("Name").fill("after")
    dialog.get_by_label("Tags").fill("night=2")
    dialog.get_by_label("Priority").fill("12")
    dialog.get_by_label("Notes").fill("<b>not bold</b>\nsecond line")
    dialog.get_by_role("button", name="Save").press("Enter")
    expect(dialog).to_contain_text("less than or equal to 9")
    dialog.get_by_label("Priority").fill("8")
    dialog.get_by_label("Priority").press("Enter")
    expect(dialog).to_have_count(0)
    expect(page.locator("h1")).to_have_text("after")
    expect(page.locator("#job-notes")).to_have_text("<b>not bold</b>\nsecond line", use_inner_text=True)
    expect(page.locator("#job-facts")).to_contain_text("priority 8")
    assert job(flower, page)["tags"] == {"night": "2"}


def test_what_a_runner_used_and_ran_on_is_shown(flower: FlowerApp, visitor: BrowserSession) -> None:
    lease = running_job(flower.engine, owner_id=flower.owner)
    ran_on = {"host": "here", "commit": "0123456789abcdef", "libraries": {"numpy": "2.4.0"}}
    with write(flower.engine) as conn:
        facts: dict[str, Any] = {"device_label": "cpu", "resumed_from": None, "resumed_step": None, "quarantined": []}
        transitions.begin(conn, lease, **facts, environment=ran_on)
        used = [SampleRow(age, 150.0, 700_000_000) for age in (20.0, 10.0, 0.0)]
        transitions.record(conn, lease, samples=used, logs=[LogRow("info", "epoch 1/2: loss 0.5")])
    page = visitor.page
    page.goto(f"/nightshift/jobs/{lease.job_id}")
    expect(page.locator("#environment")).to_contain_text("0123456789ab")
    expect(page.locator("#environment")).to_contain_text("numpy2.4.0", use_inner_text=False)
    expect(page.locator("#system-charts .ns-chart")).to_have_count(0)
    page.locator("#system summary").press("Enter")
    charts = page.locator("#system-charts .ns-chart")
    expect(charts).to_have_count(2)
    expect(charts.first).to_have_attribute("aria-label", re.compile("150%"))
    expect(charts.last).to_have_attribute("aria-label", re.compile("700 MB"))
    with page.expect_download() as saved:
        page.get_by_role("link", name="Download the whole log").press("Enter")
    assert "epoch 1/2: loss 0.5" in saved.value.path().read_text()
