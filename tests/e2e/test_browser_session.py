"""What the browser tests stand on: a page that hangs costs its own test only."""

from __future__ import annotations

from tests.support.browser import BrowserSession
from tests.support.flower_app import FlowerApp


def test_the_next_test_gets_a_new_page_after_one_that_hangs(flower: FlowerApp, window: BrowserSession) -> None:
    window.begin(flower.key)
    window.page.goto("/nightshift/jobs")
    window.page.evaluate("localStorage.setItem('nightshift-charts', '{}'); setTimeout(() => { for (;;); })")
    window.close()
    window.begin(flower.key)
    assert window.page.evaluate("localStorage.length") == 0
    window.page.goto("/nightshift/jobs")
    window.close()
    assert window.wrong == []
