"""A browser that is logged in to Flower's pages, and notices every script's error."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from tests.support.browser import BrowserSession, running_browser
from tests.support.flower_app import FlowerApp, running_flower_app


@pytest.fixture(scope="package")
def browser() -> Iterator[Any]:
    """One for all tests here: each visitor's cookies, caches and storage are its own."""
    with running_browser() as browser:
        yield browser


@pytest.fixture
def flower(sqlite_engine: Engine, tmp_path: Path) -> Iterator[FlowerApp]:
    with running_flower_app(sqlite_engine, tmp_path) as app:
        yield app


@pytest.fixture
def visitor(browser: Any, flower: FlowerApp) -> Iterator[BrowserSession]:
    visitor = BrowserSession(browser, flower.url, flower.key)
    yield visitor
    visitor.close()
    assert visitor.wrong == []
