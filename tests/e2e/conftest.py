"""A browser that is logged in to Flower's pages, and notices every script's error."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine

from tests.support.browser import BrowserSession, running_browser
from tests.support.flower_app import FlowerApp, running_flower_app
from tests.support.redis import free_port


@pytest.fixture(scope="package")
def window() -> Iterator[BrowserSession]:
    """One for all tests here. Each test's server listens at its port, so that scripts need not be compiled anew."""
    with running_browser() as browser:
        yield BrowserSession(browser, free_port())


@pytest.fixture
def flower(sqlite_engine: Engine, tmp_path: Path, window: BrowserSession) -> Iterator[FlowerApp]:
    with running_flower_app(sqlite_engine, tmp_path, flower_port=window.port) as app:
        yield app


@pytest.fixture
def visitor(window: BrowserSession, flower: FlowerApp) -> Iterator[BrowserSession]:
    window.begin(flower.key)
    yield window
    window.close()
    assert window.wrong == []
