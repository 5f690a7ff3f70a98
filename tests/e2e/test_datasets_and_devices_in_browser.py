"""The pages of models, schedules and devices in a real browser: by keyboard, live, on a phone, without a script's
error."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine

from shared.db.engine import read, write
from shared.fleet import ledger, workers
from shared.fleet.workers import HostUsage, Usage, WorkerInfo
from shared.jobs import transitions
from shared.models import aliases
from tests.integration.test_models_page import trained
from tests.integration.test_schedules_page import missed, schedule
from tests.support.browser import PHONE, BrowserSession, expect
from tests.support.factories import claim_job, make_claimer, submit_job
from tests.support.flower_app import FlowerApp, running_flower_app

pytestmark = pytest.mark.slow
HOSTILE = "<img src=x onerror=alert(1)></script>"
GB = 1_000_000_000
DEVICE = WorkerInfo("gpu0@a", "a", 1, "gpu", "Test GPU")


@pytest.fixture
def flower(sqlite_engine: Engine, tmp_path: Path, window: BrowserSession) -> Iterator[FlowerApp]:
    options = {"flower_port": window.port, "lease_seconds": 600}  # a silent device is online so long
    with running_flower_app(sqlite_engine, tmp_path, **options) as app:
        fill(app)
        yield app


def fill(flower: FlowerApp) -> None:
    """Three versions of a model, a schedule with a past, a device at work."""
    for number, accuracy in enumerate((0.90, 0.95, 0.93), 1):
        trained(flower.engine, flower.owner, accuracy, name=f"{HOSTILE} {number}", training={"epochs": number})
    missed(flower.engine, schedule(flower.engine, flower.owner), 3)
    with write(flower.engine) as conn:
        workers.register(conn, DEVICE)
    beat(flower, busy=40.0)


def beat(flower: FlowerApp, busy: float) -> None:
    usage = Usage(80 * GB, 20 * GB, busy, 61.0, HostUsage(64 * GB, 8 * GB, 12.0))
    with write(flower.engine) as conn:
        workers.heartbeat(conn, "gpu0@a", usage=usage)


def test_a_version_is_compared_promoted_and_rolled_back(flower: FlowerApp, visitor: BrowserSession) -> None:
    page = visitor.page
    page.goto("/nightshift/models")
    page.get_by_role("link", name="digits").press("Enter")
    expect(page.locator(".ns-version-chart canvas")).to_have_count(3)
    for version in (1, 2):
        page.get_by_role("checkbox", name=f"Compare version {version}").press("Space")
    comparison = page.locator("#model-comparison")
    expect(comparison.locator("td.ns-best")).to_contain_text(["95.00%"])
    expect(comparison).to_contain_text("training.epochs")
    page.reload()
    expect(comparison).to_be_visible()

    page.get_by_role("button", name="Promote version 2").press("Enter")
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Promote version 2").press("Enter")
    page.get_by_label("Reason").fill(f"better {HOSTILE}")
    page.keyboard.press("Enter")
    expect(page.locator("#model-aliases")).to_contain_text("version 2")
    expect(page.locator("#model-history li")).to_have_count(2)
    expect(page.locator("#model-history li").first).to_contain_text(f"better {HOSTILE}")
    page.get_by_role("button", name="Roll back").click()
    page.get_by_role("dialog").get_by_role("button", name="Roll back").click()
    expect(page.locator("#model-aliases")).to_contain_text("version 1")
    with read(flower.engine) as conn:
        assert aliases.current(conn, "digits", "champion") == 1


def test_a_schedule_is_run_paused_and_resumed(flower: FlowerApp, visitor: BrowserSession) -> None:
    page = visitor.page
    page.goto("/nightshift/schedules")
    expect(page.locator(".ns-tick")).to_have_count(3)
    page.get_by_role("button", name="Run now").press("Enter")
    expect(page.locator("a.ns-tick.ns-queued")).to_have_count(1)
    page.get_by_role("link", name="nightly").press("Enter")
    expect(page.locator("#schedule-ticks tbody tr")).to_have_count(4)
    expect(page.locator("#schedule-next li").first).to_contain_text("UTC")
    page.get_by_role("button", name="Pause").press("Enter")
    page.get_by_role("dialog").get_by_role("button", name="Pause").press("Enter")
    expect(page.locator("#schedule-facts")).to_contain_text("paused")
    page.get_by_role("button", name="Resume").press("Enter")
    expect(page.locator("#schedule-facts")).to_contain_text("enabled")


def test_a_device_is_watched(flower: FlowerApp, visitor: BrowserSession) -> None:
    page = visitor.page
    page.goto("/nightshift/devices")
    card = page.get_by_role("article", name="gpu0@a")
    expect(card).to_contain_text("Idle")
    expect(card).to_contain_text("40% · 61 °C")
    submit_job(flower.engine, owner_id=flower.owner, name=HOSTILE, priority=9)
    lease = claim_job(flower.engine, make_claimer("gpu0@a", "gpu")).lease
    with write(flower.engine) as conn:
        transitions.record(conn, lease, progress={"percent": 41.0}, metrics=[], logs=[])
    beat(flower, busy=97.0)
    expect(card).to_contain_text("41%")
    expect(card).to_contain_text("97%")
    expect(card.get_by_role("link", name=HOSTILE)).to_have_attribute("href", f"/nightshift/jobs/{lease.job_id}")
    with write(flower.engine) as conn:
        workers.heartbeat(conn, "gpu0@a", left_because="GPU is lost")
    expect(card).to_contain_text("device failed")
    expect(card).to_contain_text("It left its device: GPU is lost")
    expect(page.locator("#devices-summary")).to_contain_text("1 left their device")
    with write(flower.engine) as conn:
        ledger.register(conn, DEVICE)
        ledger.cordon(conn, "gpu0@a")
        workers.deregister(conn, "gpu0@a")
    expect(card).to_contain_text("offline")
    expect(page.locator("#devices-summary")).to_contain_text("1 offline")
    card.get_by_role("button", name="Uncordon").press("Enter")
    expect(card).not_to_contain_text("cordoned")
    expect(card.get_by_role("button")).to_have_text(["Forget"])
    card.get_by_role("button", name="Forget").press("Enter")
    page.get_by_role("dialog").get_by_role("button", name="Forget").press("Enter")
    expect(card).to_have_count(0)


def test_pages_fit_a_phone_and_follow_its_theme(visitor: BrowserSession) -> None:
    visitor.page.set_viewport_size(PHONE)
    for path in ("models", "models/digits?compare=1,2,3", "schedules", "schedules/nightly", "devices"):
        visitor.page.goto(f"/nightshift/{path}")
        expect(visitor.page.locator("#ns-live")).to_contain_text("Live")
        for theme in ("dark", "light"):
            visitor.page.emulate_media(color_scheme=theme)
            expect(visitor.page.locator("html")).to_have_attribute("data-bs-theme", theme)
        width = visitor.page.evaluate("document.documentElement.scrollWidth")
        assert width <= 390, f"{path} is {width} pixels wide"


def test_read_only_offers_no_buttons(window: BrowserSession, sqlite_engine: Engine, tmp_path: Path) -> None:
    options = {"flower_port": window.port, "flower_read_only": True, "flower_url_prefix": "ops"}
    with running_flower_app(sqlite_engine, tmp_path, **options) as flower:
        fill(flower)
        window.begin(flower.key, "/ops")
        for path, shown in (
            ("models/digits", "#model-versions"),
            ("schedules", "#schedules-table"),
            ("schedules/nightly", "#schedule-ticks"),
            ("datasets", "#datasets-table"),
        ):
            window.page.goto(f"/ops/nightshift/{path}")
            expect(window.page.locator(f"{shown} tbody tr").first).to_be_visible()
            for verb in (
                "Promote",
                "Roll back",
                "Edit",
                "Describe",
                "Register",
                "Run now",
                "Pause",
                "Delete",
                "New",
                "Add",
            ):
                expect(window.page.get_by_role("button", name=verb)).to_have_count(0)
        window.close()
        assert window.wrong == []
