"""The table of jobs in a real browser: columns of choice, searches by value, several jobs at once."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, insert

from shared.db.engine import write
from shared.db.schema import artifacts
from shared.jobs import transitions
from shared.jobs.transitions import MetricRow
from shared.settings import Settings
from tests.support.browser import PHONE, BrowserSession, expect
from tests.support.factories import running_job, submit_job
from tests.support.flower_app import FlowerApp, running_flower_app

pytestmark = pytest.mark.slow


def ended(flower: FlowerApp, name: str, accuracy: float, rate: float, **fields: Any) -> str:
    """A job that succeeded so well with this learning rate."""
    training = {"learning_rate": rate, "epochs": 1}
    lease = running_job(flower.engine, owner_id=flower.owner, name=name, training=training, **fields)
    with write(flower.engine) as conn:
        points = [MetricRow("loss", step, 0, 1 / (step + 1) + rate) for step in range(10)]
        transitions.record(conn, lease, metrics=points)
        transitions.succeed(conn, lease, result={"metrics": {"test_accuracy": accuracy}}, artifacts=[])
    return lease.job_id


def sweep(flower: FlowerApp) -> list[str]:
    return [ended(flower, f"trial {number}", 0.9 + number / 50, 10.0**-number) for number in range(4)]


def names(page: Any) -> Any:
    return page.locator("#jobs-table .ns-name")


def test_any_value_is_a_column_and_sorts_and_is_remembered(flower: FlowerApp, visitor: BrowserSession) -> None:
    sweep(flower)
    page = visitor.page
    page.goto("/nightshift/jobs")
    page.get_by_role("button", name="Columns").press("Enter")
    find = page.get_by_role("searchbox", name="Find a column")
    expect(find).to_be_focused()
    find.fill("learning")
    page.get_by_role("checkbox", name="learning rate").press("Space")
    find.fill("accuracy")
    page.get_by_role("checkbox", name="test accuracy").press("Space")
    page.keyboard.press("Escape")
    expect(page).to_have_url(re.compile("columns=[a-z,]*training.learning_rate,test_accuracy"))
    page.get_by_role("button", name="test accuracy").press("Enter")
    expect(names(page)).to_have_text(["trial 3", "trial 2", "trial 1", "trial 0"])
    page.get_by_role("button", name="learning rate").press("Enter")
    expect(page.locator("#jobs-table tbody tr").first).to_contain_text("96.00%")
    page.goto("/nightshift/jobs")
    expect(page.get_by_role("button", name="learning rate")).to_be_visible()


def test_a_search_by_values_and_what_is_wrong_with_it(flower: FlowerApp, visitor: BrowserSession) -> None:
    sweep(flower)
    page = visitor.page
    page.goto("/nightshift/jobs")
    search = page.get_by_role("searchbox", name="Search")
    search.fill("test_accuracy > 93% lr < 0.01")
    expect(names(page)).to_have_text(["trial 3"])
    search.fill("state:broken")
    expect(page.locator("#jobs-problem")).to_contain_text("there is no state 'broken'")
    expect(names(page)).to_have_text(["trial 3"])
    page.goto("/nightshift/jobs?q=datset:x")
    expect(page.locator("#jobs-problem")).to_contain_text("did you mean dataset?")
    search.fill("")
    expect(names(page)).to_have_count(4)
    page.get_by_role("button", name="Search syntax").press("Enter")
    page.get_by_role("button", name="best.val_loss < 0.1").press("Enter")
    expect(page).to_have_url(re.compile("q=best.val_loss"))
    expect(names(page)).to_have_count(0)


def test_several_jobs_are_put_away_at_once(flower: FlowerApp, visitor: BrowserSession) -> None:
    ids = sweep(flower)
    submit_job(flower.engine, owner_id=flower.owner, name="needs the first", after=ids[:1])
    page = visitor.page
    page.goto("/nightshift/jobs?sort=name")
    tick = page.get_by_role("checkbox", name=re.compile("^Select trial"))
    tick.first.click()
    tick.last.click(modifiers=["Shift"])
    bulk = page.locator("#jobs-bulk")
    expect(bulk).to_contain_text("4 selected")
    bulk.get_by_role("button", name="Tag").click()
    page.get_by_label("Tag", exact=True).fill("paper")
    page.get_by_label("Value").fill("yes")
    page.keyboard.press("Enter")
    expect(page.locator("#toast-container")).to_contain_text("Tagged 4 jobs")
    bulk.get_by_role("button", name="Archive").click()
    expect(names(page)).to_have_text(["needs the first"])
    page.get_by_role("button", name="Undo").click()
    expect(names(page)).to_have_count(5)
    page.get_by_role("checkbox", name="Select all on this page").press("Space")
    expect(bulk).to_contain_text("5 selected")
    bulk.get_by_role("button", name="Delete 4").click()
    page.keyboard.press("Escape")
    expect(names(page)).to_have_count(5)
    bulk.get_by_role("button", name="Delete 4").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(page.get_by_role("alert")).to_contain_text("which comes after it and has not ended")
    expect(names(page)).to_have_text(["needs the first", "trial 0"])
    expect(bulk).to_contain_text("2 selected")
    visitor.wrong.remove(next(told for told in visitor.wrong if "409" in told))


def test_read_only_offers_to_compare_only(window: BrowserSession, sqlite_engine: Engine, tmp_path: Path) -> None:
    with running_flower_app(sqlite_engine, tmp_path, flower_port=window.port, flower_read_only=True) as flower:
        sweep(flower)
        window.begin(flower.key)
        window.page.goto("/nightshift/jobs")
        window.page.get_by_role("checkbox", name="Select all on this page").click()
        expect(window.page.get_by_role("button", name="Compare 4")).to_be_enabled()
        expect(window.page.locator("#jobs-bulk button")).to_have_text(["Clear selection"])
        window.close()
        assert window.wrong == []


def test_what_a_search_finds_is_compared(flower: FlowerApp, visitor: BrowserSession, tmp_path: Path) -> None:
    ids = sweep(flower)
    picture(flower, Settings(data_dir=tmp_path).storage_root, ids[1])
    page = visitor.page
    page.goto("/nightshift/jobs?q=trial&sort=name")
    page.get_by_role("button", name="Compare all").click()
    expect(page.locator(".ns-chosen")).to_have_count(4)
    expect(page.locator(".ns-chart")).to_have_count(1)
    table = page.locator("#compare-table")
    expect(table.locator(".ns-best").first).to_have_text("96.00% best")
    expect(
        table.get_by_role("row", name=re.compile("^training.learning_rate")).locator(".ns-differs-cell")
    ).to_have_count(4)
    page.get_by_role("button", name="One row per job").click()
    page.get_by_role("button", name="test accuracy").first.click()
    expect(table.locator("tbody tr .ns-name")).to_have_text(["trial 3", "trial 2", "trial 1", "trial 0"])
    expect(page.locator("#scatter .ns-mark")).to_have_count(4)
    page.get_by_label("X axis", exact=True).select_option("loss")
    page.get_by_label("Y axis", exact=True).select_option("test_accuracy")
    against = "test accuracy against loss (last batches), 4 jobs"
    expect(page.locator("#scatter svg")).to_have_attribute("aria-label", against)
    page.locator("#scatter .ns-mark").first.focus()
    expect(page.locator("#scatter-told")).to_have_text(
        re.compile(r"trial 0 · .*: loss \(last batches\) 1.1, test accuracy 90.00%")
    )
    expect(page.locator("#parallel-told")).to_have_text(re.compile("trial 0 · .*learning_rate 1, "))
    page.keyboard.press("ArrowRight")
    expect(page.locator("#scatter-told")).to_have_text(re.compile("trial 1 · "))
    page.locator("#scatter .ns-mark .ns-point").last.hover()
    expect(page.locator("#parallel-told")).to_have_text(re.compile("trial 3 · .*test accuracy 96.00%"))
    page.get_by_role("button", name="Axes").press("Enter")
    page.get_by_role("checkbox", name="duration").press("Space")
    page.keyboard.press("Escape")
    expect(page).to_have_url(re.compile("axes=training.learning_rate,duration,"))
    expect(page.locator("#pictures img")).to_have_attribute("alt", "confusion_matrix.png of trial 1")
    page.get_by_role("button", name=re.compile("^Remove trial 0")).click()
    expect(page.locator("#parallel .ns-mark")).to_have_count(3)
    expect(page).to_have_url(re.compile("layout=rows.*ids="))


def test_names_can_be_read_beside_what_is_compared_on_a_phone(flower: FlowerApp, visitor: BrowserSession) -> None:
    """In both layouts the first column is wide enough for words, and stays while the others are scrolled."""
    ids = [ended(flower, f"digits every night, trial {number}", 0.9, 10.0**-number) for number in range(3)]
    page = visitor.page
    page.set_viewport_size(PHONE)
    for layout in ("rows", "columns"):
        page.goto(f"/nightshift/compare?layout={layout}&every=1&ids={','.join(ids)}")
        expect(page.locator("#compare-table .ns-name")).to_have_count(3)
        for theme in ("dark", "light"):
            page.emulate_media(color_scheme=theme)
            expect(page.locator("html")).to_have_attribute("data-bs-theme", theme)
            assert_first_column_is_read(page)


def assert_first_column_is_read(page: Any) -> None:
    table, region = page.locator("#compare-table"), page.locator(".ns-compare-scroll")
    region.evaluate("region => { region.scrollLeft = 0 }")
    for name in table.locator("tbody th, th[data-job]").all():
        box = name.bounding_box()
        assert box["width"] >= 9 * 16, f"{name.inner_text()!r} has {box['width']} pixels"
    lines = "link => link.getClientRects().length"
    assert max(link.evaluate(lines) for link in table.locator(".ns-name").all()) <= 3
    corner, first = table.locator("thead th").first, table.locator("tbody th").first
    left = first.bounding_box()["x"]
    region.evaluate("region => { region.scrollLeft = 10000 }")
    assert region.evaluate("region => region.scrollLeft") > 0
    assert (first.bounding_box()["x"], corner.bounding_box()["x"]) == (left, left)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def picture(flower: FlowerApp, folder: Path, job_id: str) -> None:
    """The smallest PNG there is, as an artifact of the job."""
    png = bytes.fromhex(
        "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000d49444154789c6360606060000000050001"
        "a5f645400000000049454e44ae426082"
    )
    stored = f"jobs/{job_id}/attempts/1/artifacts/confusion_matrix.png"
    file = folder / stored
    file.parent.mkdir(parents=True)
    file.write_bytes(png)
    row = {"path": "confusion_matrix.png", "stored_as": stored, "sha256": "0" * 64, "size_bytes": len(png)}
    with write(flower.engine) as conn:
        conn.execute(insert(artifacts).values(job_id=job_id, fence=1, media_type="image/png", created_at=0.0, **row))
