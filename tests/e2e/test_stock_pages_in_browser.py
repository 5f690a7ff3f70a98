"""Flower's own pages in a real browser: they work under our strict headers, and say what their buttons do."""

from __future__ import annotations

import re
import time
from typing import Any

import pytest

from tests.support.browser import PHONE, BrowserSession, expect
from tests.support.flower_api import MINE, WORKER, asked, inspected, on_worker
from tests.support.flower_app import FlowerApp

pytestmark = pytest.mark.slow


def test_a_task_leads_to_its_job_and_cancels_it_after_a_question(flower: FlowerApp, visitor: BrowserSession) -> None:
    job_id = on_worker(flower, flower.owner, MINE, "digits <b>nightly</b>").job_id
    flower.compare()
    page = visitor.page
    page.goto("/tasks")
    page.get_by_role("link", name=MINE).click()
    expect(page.locator("h1")).to_have_text(f"digits <b>nightly</b> · {job_id[:8]} #1")
    for label in ("Job", "Work", "Progress", "Worker", "Started", "Running for"):
        expect(page.locator("dt", has_text=re.compile(f"^{label}$"))).to_be_visible()

    page.get_by_role("button", name="Cancel the job").click()
    page.get_by_role("button", name="Go back").click()
    assert asked(flower, job_id) is None
    page.get_by_role("button", name="Cancel the job").click()
    page.get_by_role("dialog").get_by_role("button", name="Cancel the job").click()
    expect(page.get_by_role("status")).to_contain_text("Cancel requested: the job stops at the next step")
    expect(page.get_by_role("button", name="Cancel the job")).to_have_count(0)
    assert asked(flower, job_id) == "cancel"
    page.reload()
    expect(page.locator("#task-state")).to_contain_text("cancel requested")
    page.get_by_role("link", name="Open the job").click()
    expect(page).to_have_url(re.compile(f"/nightshift/jobs/{job_id}$"))


def test_the_other_pages_work_and_offer_nothing_that_is_refused(flower: FlowerApp, visitor: BrowserSession) -> None:
    inspected(flower)
    now = time.time()
    about = {"type": "worker-heartbeat", "hostname": WORKER, "timestamp": now, "local_received": now, "clock": 1}
    flower.serving.run_in_loop(hear(flower, about))
    page = visitor.page
    page.goto("/workers")
    expect(page.locator("#workers-refresh-status")).to_contain_text("Updated")  # its script runs, and asks again
    with page.expect_response(re.compile("workers.json")):
        pass
    page.get_by_role("link", name=WORKER).click()
    expect(page.get_by_text("Worker pool options").first).to_be_visible()
    page.get_by_role("tab", name="Queues").click()
    expect(page.get_by_role("cell", name="nightshift.auto").first).to_be_visible()
    expect(page.get_by_role("tab", name="Limits")).to_have_count(0)
    names = page.locator("main button:visible, main input:visible").all_inner_texts()
    assert names == []
    # The browser sends its key to the API too, though it has so far asked for pages only.
    answer = page.evaluate("fetch('/api/tasks').then((answer) => answer.status)")
    assert answer == 200
    page.goto("/broker")
    expect(page.get_by_role("columnheader", name="Queue")).to_be_visible()


async def hear(flower: FlowerApp, event: dict[str, Any]) -> None:
    flower.flower.events.state.event(event)


def test_a_task_fits_a_phone(flower: FlowerApp, visitor: BrowserSession) -> None:
    on_worker(flower, flower.owner, MINE, "a name that is long enough to need a second line " + "x" * 80)
    visitor.page.set_viewport_size(PHONE)
    visitor.page.goto(f"/task/{MINE}")
    expect(visitor.page.get_by_role("link", name="Open the job")).to_be_visible()
    assert visitor.page.evaluate("document.documentElement.scrollWidth") <= 390
