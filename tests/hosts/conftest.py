"""The container engine; without one, every test of this folder is skipped."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.hosts.container_engine import MISSING, ContainerEngine, find


@pytest.fixture(scope="session")
def containers() -> ContainerEngine:
    engine = find()
    if engine is None:
        pytest.skip(MISSING)
    return engine


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder that the user of the database may enter, too."""
    for path in (tmp_path, *tmp_path.parents[:2]):
        path.chmod(path.stat().st_mode | 0o011)
    return tmp_path
