"""Data sets, the history of devices and the registry's buttons in a real browser, without a script's error."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import update

from shared.db.engine import write
from shared.db.schema import datasets, model_versions, models
from tests.integration.test_devices_page import ran, register
from tests.integration.test_models_page import untold
from tests.support.browser import BrowserSession, expect
from tests.support.dataset_files import labelled_images, npz
from tests.support.factories import submit_job
from tests.support.flower_app import FlowerApp

pytestmark = pytest.mark.slow
HOSTILE = "<img src=x onerror=alert(1)>"


def fits(visitor: BrowserSession, path: str) -> None:
    """On a phone, in both themes."""
    visitor.page.set_viewport_size({"width": 390, "height": 844})
    visitor.page.goto(f"/nightshift/{path}")
    expect(visitor.page.locator("#ns-live")).to_contain_text("Live")
    for theme in ("dark", "light"):
        visitor.page.emulate_media(color_scheme=theme)
        expect(visitor.page.locator("html")).to_have_attribute("data-bs-theme", theme)
    width = visitor.page.evaluate("document.documentElement.scrollWidth")
    assert width <= 390, f"{path} is {width} pixels wide"


def test_a_data_set_is_sent_appended_to_looked_at_and_deleted(
    flower: FlowerApp, visitor: BrowserSession, tmp_path: Path
) -> None:
    x, y = labelled_images()
    file = str(npz(tmp_path / "mine.npz", x=x, y=y))
    page = visitor.page
    page.goto("/nightshift/datasets")
    expect(page.locator("#datasets-table")).to_contain_text("built in, needs download")
    page.get_by_role("button", name="Add a data set").press("Enter")
    page.get_by_label("Name").fill("mine")
    page.get_by_label("File").set_input_files(file)
    page.get_by_role("button", name="Add", exact=True).press("Enter")
    page.wait_for_url("**/datasets/mine")
    expect(page.locator("#dataset-classes dt")).to_have_count(4)
    expect(page.locator("#dataset-sample img")).to_have_js_property("complete", True)
    assert page.locator("#dataset-sample img").evaluate("image => image.naturalWidth") > 100

    page.get_by_role("button", name="Add a version").press("Enter")
    page.get_by_label("File").set_input_files(file)
    page.get_by_role("dialog").get_by_role("button", name="Add version").press("Enter")
    versions = page.locator("#dataset-versions tbody tr")
    expect(versions).to_have_count(2)
    expect(versions.first).to_contain_text("+ 40 training")

    job_id = submit_job(flower.engine, owner_id=flower.owner, dataset="mine@1", name="reads it").job_id
    expect(page.locator("#dataset-jobs")).to_contain_text("reads it")
    page.get_by_role("button", name="Delete version 1").press("Enter")
    page.get_by_role("dialog").get_by_role("button", name="Delete").press("Enter")
    expect(page.get_by_role("alert")).to_contain_text(f"job {job_id}")
    visitor.wrong = [line for line in visitor.wrong if "409" not in line]  # what the browser says of a refusal
    page.get_by_role("button", name="Delete version 2").press("Enter")
    page.get_by_role("dialog").get_by_role("button", name="Delete").press("Enter")
    expect(versions).to_have_count(1)
    with write(flower.engine) as conn:
        conn.execute(update(datasets).values(owner_id="another"))
    expect(page.get_by_role("button", name="Delete version 1")).to_have_count(0)
    expect(page.get_by_role("button", name="Add a version")).to_have_count(0)
    expect(page.locator("#dataset-facts")).to_contain_text("owner: another")
    fits(visitor, "datasets/mine")
    fits(visitor, "datasets")


def test_sentences_with_tags_are_shown_with_the_tokens_of_each_tag(visitor: BrowserSession, tmp_path: Path) -> None:
    page, file = visitor.page, tmp_path / "news.conll"
    file.write_text(f"Ada\tB-PER\nmet\tO\n{HOSTILE}\tB-ORG\n\n" * 10)
    page.goto("/nightshift/datasets")
    page.get_by_role("button", name="Add a data set").press("Enter")
    page.get_by_label("Name").fill("news")
    page.get_by_label("File").set_input_files(str(file))
    page.get_by_role("button", name="Add", exact=True).press("Enter")
    page.wait_for_url("**/datasets/news")
    file.write_text("Ulm\tB-LOC\n\nis\tO\n")
    page.get_by_role("button", name="Add a version").press("Enter")
    page.get_by_label("File").set_input_files(str(file))
    page.get_by_role("dialog").get_by_role("button", name="Add version").press("Enter")
    expect(page.locator("#dataset-versions tbody tr").first).to_contain_text("new tag: B-LOC")
    expect(page.locator("#dataset-classes dt")).to_have_text(["B-ORG", "B-PER", "O", "B-LOC"])
    expect(page.locator("#dataset-classes .ns-tally-count")).to_have_text(["8 + 2", "8 + 2", "9 + 2", "1 + 0"])
    expect(page.locator("#dataset-facts")).to_contain_text("32 tokens")
    expect(page.locator("#dataset-facts")).to_contain_text("sentences")
    expect(page.locator("#dataset-sample")).to_contain_text("Ada\tB-PER")
    fits(visitor, "datasets/news")
    page.goto("/nightshift/datasets")
    expect(page.locator("#datasets-table")).to_contain_text("4tags")


def test_a_table_and_files_are_sent_and_looked_at(visitor: BrowserSession, tmp_path: Path) -> None:
    page = visitor.page
    table = tmp_path / "people.csv"
    table.write_text(f"name,age\n{HOSTILE},41\nAda,36\nAda,\n")
    for kind, name in (("table", "people"), ("files", "plain")):
        page.goto("/nightshift/datasets")
        page.get_by_role("button", name="Add a data set").press("Enter")
        page.get_by_label("Name").fill(name)
        page.get_by_label("File").set_input_files(str(table))
        page.get_by_label("Kind").select_option(kind)
        expect(page.get_by_label("Format")).to_be_disabled()
        page.get_by_role("button", name="Add", exact=True).press("Enter")
        page.wait_for_url(f"**/datasets/{name}")
    expect(page.locator("#dataset-files tbody tr")).to_have_text([f"people.csv{table.stat().st_size} B"])

    page.goto("/nightshift/datasets/people")
    expect(page.locator("#dataset-columns tbody tr")).to_contain_text([f"Ada 2 · {HOSTILE} 1", "38.5"])
    expect(page.locator("#dataset-rows tbody tr")).to_have_text([f"{HOSTILE}41", "Ada36", "Ada–"])
    cleaning = page.locator("#dataset-cleaning tbody tr")
    expect(cleaning).to_contain_text(["Missing values1age", "Duplicate rows0of 3 compared", "Empty columns0"])
    rows = [f"{n},{HOSTILE}" for n in range(40)]
    table.write_text("name,age\n" + "\n".join([*rows, rows[0], f"{HOSTILE},x"]) + "\n")
    page.get_by_role("button", name="Add a version").press("Enter")
    page.get_by_label("File").set_input_files(str(table))
    page.get_by_role("dialog").get_by_role("button", name="Add version").press("Enter")
    expect(cleaning).to_contain_text(["Duplicate rows1of 42", f"nearly numbers1name: line 43 has “{HOSTILE}”"])
    table.write_text("name,age\nBea,7\n")
    page.get_by_role("button", name="Add a version").press("Enter")
    expect(page.get_by_label("Kind")).to_be_disabled()
    page.get_by_label("File").set_input_files(str(table))
    page.get_by_role("dialog").get_by_role("button", name="Add version").press("Enter")
    expect(page.locator("#dataset-versions tbody tr").first).to_contain_text("− 41 rows")
    expect(page.locator("#dataset-rows tbody tr")).to_have_text(["Bea7"])
    fits(visitor, "datasets/people@1")
    fits(visitor, "datasets/plain")


def test_the_past_of_a_device_is_read_by_keyboard_and_the_queue_says_why(
    flower: FlowerApp, visitor: BrowserSession
) -> None:
    register(flower.engine, "cpu0@a")
    job_id = submit_job(flower.engine, owner_id=flower.owner, name="long ago").job_id
    ran(flower.engine, job_id, 1, "cpu0@a", (1800, 900), "crashed")
    ran(flower.engine, job_id, 2, "cpu0@a", (800, 700), "succeeded")
    page = visitor.page
    page.goto("/nightshift/devices")
    expect(page.locator("#queue-table")).to_contain_text("It is queued")
    bars = page.locator(".ns-lane-bars a")
    expect(bars).to_have_count(2)
    bars.last.focus()
    page.keyboard.press("ArrowLeft")
    expect(page.locator("#history-told")).to_contain_text("long ago")
    expect(page.locator("#history-told")).to_contain_text("crashed")
    page.get_by_role("button", name="7 days").press("Enter")
    expect(page.get_by_role("button", name="7 days")).to_have_attribute("aria-pressed", "true")
    expect(bars).to_have_count(1)
    expect(bars).to_have_attribute("href", f"/nightshift/jobs/{job_id}")
    page.get_by_role("button", name="GPU").press("Enter")
    expect(page.get_by_role("button", name="GPU")).to_have_attribute("aria-pressed", "true")
    fits(visitor, "devices")


def test_a_job_is_registered_described_and_downloaded_from_the_models_pages(
    flower: FlowerApp, visitor: BrowserSession, tmp_path: Path
) -> None:
    job_id = untold(flower.engine, flower.owner, tmp_path)
    page = visitor.page
    page.goto("/nightshift/models")
    page.get_by_role("button", name="Register a job").press("Enter")
    page.get_by_label("Model", exact=True).fill("mine")
    page.get_by_role("textbox", name="Job").fill(job_id[:10])
    page.keyboard.press("Enter")
    page.wait_for_url("**/models/mine")
    page.get_by_role("button", name="Describe").press("Enter")
    page.get_by_role("textbox", name="Description").fill("<b>two</b>\nlines")
    page.get_by_role("dialog").get_by_role("button", name="Save").press("Enter")
    expect(page.locator("#model-description")).to_contain_text("<b>two</b>")
    page.get_by_role("button", name="Edit version 1").press("Enter")
    page.get_by_role("textbox", name="Tags").fill("team=vision, checked")
    page.get_by_role("dialog").get_by_role("button", name="Save").press("Enter")
    expect(page.locator("#model-versions")).to_contain_text("checked=yes")
    expect(page.locator("#model-history")).to_contain_text("version 1 described")
    expect(page.locator("#model-use")).to_contain_text("nightshift submit finetune mine")
    with page.expect_download() as download:
        page.get_by_role("link", name="Files of version 1").click()
    assert download.value.suggested_filename == "mine-1.zip"
    with write(flower.engine) as conn:
        conn.execute(update(models).values(owner_id="another"))
    for gone in ("Register a job", "Edit description", "Roll back", "Promote version 1", "Edit version 1"):
        expect(page.get_by_role("button", name=gone)).to_have_count(0)
    expect(page.locator("#model-actions")).to_contain_text("owner: another")
    fits(visitor, "models/mine")
    with write(flower.engine) as conn:  # of a program, which no job of another kind can use
        conn.execute(update(model_versions).values(family="gbm"))
    page.reload()
    expect(page.locator("#model-use")).to_contain_text("nightshift models download mine")
    expect(page.locator("#model-use")).not_to_contain_text("submit")


def test_a_schedule_is_made_of_a_job_changed_and_deleted_from_its_pages(
    flower: FlowerApp, visitor: BrowserSession
) -> None:
    job_id = submit_job(flower.engine, owner_id=flower.owner, name="nightly digits").job_id
    page = visitor.page
    page.goto(f"/nightshift/schedules?of={job_id}")
    dialog = page.get_by_role("dialog")
    expect(dialog.locator(".ns-preview li")).to_have_count(6)
    page.get_by_role("textbox", name="Name").fill("mine")
    page.get_by_role("textbox", name="When").fill("0 5 * *")
    expect(dialog.locator(".ns-preview")).to_contain_text("cron")
    expect(dialog.get_by_role("button", name="Create")).to_be_disabled()
    page.get_by_role("textbox", name="When").fill("0 5 * * *")
    expect(dialog.locator(".ns-preview li").first).to_contain_text("05:00")
    page.get_by_role("textbox", name="When").press("Enter")
    page.wait_for_url("**/schedules/mine")
    page.get_by_role("button", name="Change").press("Enter")
    page.get_by_role("combobox", name="Time zone").fill("Asia/Tokyo")
    expect(dialog.locator(".ns-preview li").first).to_contain_text("+09:00")
    dialog.get_by_role("button", name="Save").press("Enter")
    expect(page.locator("#schedule-facts")).to_contain_text("Asia/Tokyo")
    fits(visitor, "schedules/mine")
    page.get_by_role("button", name="Delete").press("Enter")
    dialog.get_by_role("button", name="Delete").press("Enter")
    page.wait_for_url("**/schedules")
    expect(page.locator("#schedules-empty")).to_contain_text("No schedule yet")
