"""The pages of jobs in a real browser: live, by keyboard, on a phone, in both themes, and without a script's error."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from sqlalchemy import Engine

from shared.db.engine import read, write
from shared.jobs import queries, transitions
from shared.jobs.transitions import Lease, LogRow, MetricRow
from tests.support.browser import PHONE, BrowserSession, expect
from tests.support.factories import running_job, submit_job
from tests.support.flower_app import FlowerApp, running_flower_app

pytestmark = pytest.mark.slow
HOSTILE = "<img src=x onerror=alert(1)></script>"


def running(flower: FlowerApp, name: str) -> Lease:
    lease = running_job(flower.engine, owner_id=flower.owner, name=name)
    say(flower, lease, range(20))
    return lease


def say(flower: FlowerApp, lease: Lease, steps: range) -> None:
    """What a runner says in these steps."""
    with write(flower.engine) as conn:
        transitions.record(
            conn,
            lease,
            progress={"step": steps[-1], "total_steps": 100, "percent": float(steps[-1])},
            metrics=[MetricRow(name, step, 0, 1 / (step + 1)) for name in ("loss", "val_loss") for step in steps],
            logs=[LogRow("info", f"step {step} {HOSTILE}") for step in steps],
        )


def test_the_table_moves_by_itself_and_is_searched_and_sorted(flower: FlowerApp, visitor: BrowserSession) -> None:
    lease = running(flower, HOSTILE)
    for number in range(30):
        submit_job(flower.engine, owner_id=flower.owner, name=f"sweep {number:02}")
    page = visitor.page
    page.goto("/")
    rows = page.locator("#jobs-table tbody tr")
    expect(rows).to_have_count(25)
    page.get_by_role("button", name="Next page").click()
    expect(rows).to_have_count(6)
    expect(rows.last).to_contain_text(HOSTILE)
    expect(rows.last).to_contain_text("19%")
    say(flower, lease, range(20, 58))
    expect(rows.last).to_contain_text("57%")
    page.get_by_role("button", name="Job", exact=True).press("Enter")
    expect(page).to_have_url(re.compile("sort=name"))
    page.get_by_role("searchbox", name="Search").fill("sweep 07")
    expect(rows).to_have_count(1)
    page.go_back()
    expect(page.locator("#jobs-pages")).to_contain_text("31 jobs")
    page.get_by_role("button", name=re.compile("^running")).click()
    expect(rows).to_have_count(1)


def test_a_job_is_followed_and_cancelled_from_its_page(flower: FlowerApp, visitor: BrowserSession) -> None:
    lease = running(flower, "by hand")
    page = visitor.page
    page.goto(f"/nightshift/jobs/{lease.job_id}")
    chart = page.locator(".ns-chart")
    expect(chart).to_have_count(1)
    expect(chart).to_contain_text("val loss")
    expect(page.locator("#log")).to_contain_text(f"step 19 {HOSTILE}")
    say(flower, lease, range(20, 40))
    expect(page.locator("#log")).to_contain_text("step 39")
    expect(page.locator("#job-facts")).to_contain_text("39%")
    expect(chart).to_have_attribute("aria-label", re.compile("0.025"))
    for tool in ("#log-scale", "#smoothing"):
        page.locator(tool).press("Space" if tool == "#log-scale" else "ArrowRight")
    page.locator("#x-axis").select_option("time")
    expect(page.locator(".ns-plot canvas")).to_have_count(1)
    page.get_by_role("button", name="Cancel").press("Enter")
    page.keyboard.press("Escape")
    with read(flower.engine) as conn:
        assert queries.get_job(conn, lease.job_id, None)["stop_requested"] is None, "Escape means no"
    page.get_by_role("button", name="Cancel").press("Enter")
    page.get_by_role("dialog").get_by_role("button", name="Cancel").click()
    expect(page.locator("#job-state")).to_contain_text("cancel requested")
    with read(flower.engine) as conn:
        assert queries.get_job(conn, lease.job_id, None)["stop_requested"] == "cancel"


def test_ticked_jobs_are_compared_and_another_is_added(flower: FlowerApp, visitor: BrowserSession) -> None:
    for name in ("one", "two", "three"):
        running(flower, name)
    page = visitor.page
    page.goto("/nightshift/jobs")
    for name in ("one", "two"):
        page.get_by_role("checkbox", name=f"Select {name}").press("Space")
    page.get_by_role("button", name="Compare 2").click()
    expect(page.locator(".ns-chosen")).to_have_count(2)
    expect(page.locator(".ns-chart")).to_have_count(2)
    page.get_by_role("searchbox", name="Add a job").fill("thr")
    page.locator(".ns-picker-list button").first.click()
    expect(page.locator(".ns-chosen")).to_have_count(3)
    expect(page.locator(".ns-chart").first).to_have_attribute("aria-label", re.compile("three"))
    expect(page.locator("#compare-table")).to_contain_text("val loss")


def test_pages_fit_a_phone_and_follow_its_theme(flower: FlowerApp, visitor: BrowserSession) -> None:
    lease = running(flower, "a name that is long enough to need a second line on a small screen " + "x" * 80)
    visitor.page.set_viewport_size(PHONE)
    for path in ("/nightshift/jobs", f"/nightshift/jobs/{lease.job_id}", f"/nightshift/compare?ids={lease.job_id}"):
        visitor.page.goto(path)
        visitor.page.locator("h1").wait_for()
        for theme in ("dark", "light"):
            visitor.page.emulate_media(color_scheme=theme)
            expect(visitor.page.locator("html")).to_have_attribute("data-bs-theme", theme)
            width = visitor.page.evaluate("document.documentElement.scrollWidth")
            assert width <= 390, f"{path} is {width} pixels wide in the {theme} theme"


def test_read_only_offers_no_buttons(window: BrowserSession, sqlite_engine: Engine, tmp_path: Path) -> None:
    options = {"flower_port": window.port, "flower_read_only": True, "flower_url_prefix": "ops"}
    with running_flower_app(sqlite_engine, tmp_path, **options) as flower:
        lease = running(flower, "look, do not touch")
        window.begin(flower.key, "/ops")
        window.page.goto("/ops/")
        window.page.get_by_role("link", name="look, do not touch").click()
        expect(window.page.locator(".ns-chart")).to_have_count(1)
        expect(window.page.locator("#job-actions")).to_contain_text("read-only")
        expect(window.page.locator("#job-actions button")).to_have_count(0)
        say(flower, lease, range(20, 40))
        expect(window.page.locator("#log")).to_contain_text("step 39")
        window.close()
        assert window.wrong == []


CURVES = """async () => {
  const { addPoint, grouped, smooth, spread } = await import("/nightshift/static/js/curves.js");
  const curves = {};
  for (const [step, value] of [[1, 1], [3, 3], [2, 2], [3, 9]])
              addPoint(curves, { name: "loss", step, epoch: 0, value, at: 0 });
  return {
    steps: curves.loss.step,
    values: curves.loss.value,
    smooth: smooth([2, null, 2], 0.9),
    spread: spread([10, 10, 10, 10, 11, 11, 90]),
    unknown: spread([NaN, NaN, 7]).length,
    groups: grouped(["val_loss", "learning_rate", "accuracy", "g_loss", "loss"])
                .map(({ title, names }) => [title, names]),
  };
}"""


def test_points_that_come_twice_late_or_together_are_put_in_their_place(visitor: BrowserSession) -> None:
    visitor.page.goto("/nightshift/jobs")
    found = visitor.page.evaluate(CURVES)
    assert (found["steps"], found["values"]) == ([1, 2, 3], [1, 2, 9]), "a later attempt measured step 3 again"
    assert found["smooth"] == pytest.approx([2, None, 2]), "an average of equal values is that value, from the first on"
    assert found["spread"] == [9.25, 9.5, 9.75, 10, 10.5, 11, 90]
    assert found["unknown"] == 3, "it ends also where a time is no number"
    assert found["groups"] == [
        ["loss", ["g_loss", "loss", "val_loss"]], ["accuracy", ["accuracy"]], ["learning_rate", ["learning_rate"]],
    ]  # fmt: skip
