"""A real browser: the Chromium that the system has (Debian: `apt-get install chromium-headless-shell`), driven by playwright."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

#: A page and nothing else: no graphics card, no services in the background.
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--in-process-gpu",  # what is painted is not sent to another process first
    "--disable-software-rasterizer",
    "--disable-dev-shm-usage",
    "--disable-extensions",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
#: Longest wait for something on a page (milliseconds): the machine may be busy.
CAP = 90_000


def chromium() -> str:
    """Return the first that is installed; the headless shell takes a quarter less processor time."""
    names = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
    found = next(filter(None, map(shutil.which, names)), None)
    if not found:
        if os.environ.get("CI"):
            raise RuntimeError("no Chromium here: apt-get install chromium-headless-shell")
        pytest.skip("no Chromium here: apt-get install chromium-headless-shell")
    return found


@contextmanager
def running_browser() -> Iterator[Any]:
    path = chromium()
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=CAP)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS, timeout=CAP)
        yield browser
        browser.close()


def expect(what: Any) -> Any:
    """Playwright's, which is imported where there is a browser only."""
    from playwright.sync_api import expect

    return expect(what)


class BrowserSession:
    """A browser's window that knows the key, and remembers everything that went wrong on its pages."""

    def __init__(self, browser: Any, url: str, key: str, width: int = 1440, height: int = 900) -> None:
        self.context = browser.new_context(
            viewport={"width": width, "height": height},
            http_credentials={"username": "nightshift", "password": key},
            base_url=url,
            reduced_motion="reduce",  # a live job's pulse would be painted sixty times a second
        )
        self.page = self.context.new_page()
        self.page.set_default_timeout(CAP)
        self.wrong: list[str] = []
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.page.on("console", self._heard)
        self.page.on("dialog", self._asked)

    def _heard(self, message: Any) -> None:
        if message.type == "error":
            self.wrong.append(message.text)

    def _asked(self, dialog: Any) -> None:
        """Nothing of ours opens one: a script that somebody smuggled in does."""
        self.wrong.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def close(self) -> None:
        self.context.close()
