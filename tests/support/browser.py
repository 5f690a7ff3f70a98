"""A real browser: the system's Chromium (Debian: `apt-get install chromium-headless-shell`), driven by playwright."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

#: Without graphics card and background services.
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
#: Timeout of a wait for a page (milliseconds); the machine may be busy.
CAP = 90_000
#: Sizes of windows.
DESK = {"width": 1440, "height": 900}
PHONE = {"width": 390, "height": 844}


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
    """Return Playwright's `expect`, which is imported only where there is a browser."""
    from playwright.sync_api import expect

    return expect(what)


class BrowserSession:
    """A page for each test, on the server at one port, that records all errors of its scripts.

    The tests share the cache of files: to load all of them anew is half of what a page costs. `begin` opens a page and
    logs in with the test's key, `close` closes it, also one that hangs, and leaves no cookies.
    """

    page: Any

    def __init__(self, browser: Any, port: int) -> None:
        self.port, self._url = port, f"http://127.0.0.1:{port}"
        # The animation of a live job would be painted sixty times a second.
        self.context = browser.new_context(base_url=self._url, reduced_motion="reduce")
        self.wrong: list[str] = []

    def begin(self, key: str, prefix: str = "") -> None:
        """Log in to a new server, as a browser does whose user types a key once.

        Playwright's own credentials would stop each request on its way and switch off the cache.
        """
        self.page = self.context.new_page()
        self.page.set_default_timeout(CAP)
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.page.on("console", self._on_console)
        self.page.on("dialog", self._on_dialog)
        self.page.set_viewport_size(DESK)
        self.page.emulate_media(color_scheme="light")
        self.page.goto(f"http://nightshift:{key}@127.0.0.1:{self.port}{prefix}/nightshift/models/-/data")
        self.page.evaluate("localStorage.clear()")
        self.wrong.clear()

    def _on_console(self, message: Any) -> None:
        if message.type == "error":
            self.wrong.append(message.text)

    def _on_dialog(self, dialog: Any) -> None:
        """Record a dialog. Our pages open none, so an injected script did."""
        self.wrong.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def close(self) -> None:
        self.page.close()
        self.context.clear_cookies()
