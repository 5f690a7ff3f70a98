"""Fixtures for all tests: fresh migrated databases, a Redis, the test data folder."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from sqlalchemy import Engine

from shared.clock import sqlite_clock
from shared.db.engine import make_engine
from tests.support import databases
from tests.support.api import Api, running_api
from tests.support.objects import ObjectStore, object_store
from tests.support.redis import RedisServer, running_redis
from worker.hardware.frameworks import onednn_environment

# What modules are made of is never garbage: to look through all of it again and again takes seconds.
gc.disable()
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ |= onednn_environment(os.environ)
# Each HTTP client reads the certificates of all authorities of the world, for 30 ms; nothing here is signed by them.
os.environ["SSL_CERT_FILE"] = str(Path(__file__).parent / "support" / "authority.pem")

#: What this suite itself is told.
_OURS = {"NIGHTSHIFT_TEST_DATA", "NIGHTSHIFT_TEST_POSTGRES", "NIGHTSHIFT_TEST_SEED"}
#: How wide and colorful a terminal is, as shells and CI services say it to all they start.
_TERMINAL = {"COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "PY_COLORS", "TTY_COMPATIBLE", "GITHUB_ACTIONS"}

# Tests mean a plain terminal and an installation without settings, wherever they are started.
for _name in list(os.environ):
    if _name in _TERMINAL or (_name.startswith(("NIGHTSHIFT_", "FLOWER_", "OTEL_")) and _name not in _OURS):
        del os.environ[_name]
os.environ["TERM"] = "xterm-256color"

# A machine that is busy with other things makes no example wrong. CI tries the same ones each time, so that what fails
# there fails here; at a desk each run tries others.
settings.register_profile("desk", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("desk"), derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "desk")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What is marked `long` runs only where `-m` asks for it."""
    if "long" not in config.option.markexpr:
        items[:] = [item for item in items if item.get_closest_marker("long") is None]


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return databases.make_sqlite_template(tmp_path_factory.mktemp("sqlite"))


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    with databases.postgres_server() as url:
        yield url


@pytest.fixture(scope="session")
def postgres_template(postgres_server: str) -> Iterator[str]:
    with databases.postgres_template(postgres_server) as name:
        yield name


@pytest.fixture
def sqlite_url(tmp_path: Path, sqlite_template: Path) -> str:
    return databases.sqlite_database(tmp_path, sqlite_template)


@pytest.fixture
def postgres_url(request: pytest.FixtureRequest) -> Iterator[str]:
    server = request.getfixturevalue("postgres_server")
    template = request.getfixturevalue("postgres_template")
    with databases.emptied_database(server, template) as url:
        yield url


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request: pytest.FixtureRequest) -> str:
    """A fresh, migrated database, once of each kind."""
    return str(request.getfixturevalue(f"{request.param}_url"))


@pytest.fixture
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of those who wait for their turn at a database, or for a connection: where many threads do so at once, the last
    of them waits as long as the disk and the processor take for all the others. Ask for it before an engine."""
    monkeypatch.setattr("shared.db.engine.SQLITE_BUSY_SECONDS", 300.0)
    monkeypatch.setattr("shared.db.engine.POOL_TIMEOUT_SECONDS", 300.0)


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    """An engine on `database_url`: SQLite and PostgreSQL in turn."""
    yield from _engine(database_url)


@pytest.fixture
def sqlite_engine(sqlite_url: str) -> Iterator[Engine]:
    """SQLite only, where the database makes no difference."""
    yield from _engine(sqlite_url)


def _engine(url: str) -> Iterator[Engine]:
    engine = make_engine(url)
    yield engine
    engine.dispose()
    sqlite_clock.offset = 0.0


@pytest.fixture
def api(sqlite_engine: Engine, tmp_path: Path) -> Iterator[Api]:
    """The API in this process, on SQLite."""
    with running_api(sqlite_engine, tmp_path) as api:
        yield api


@pytest.fixture(scope="module")
def shared_api(sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """One for those tests of a module that change nothing: what they look at is made once."""
    folder = tmp_path_factory.mktemp("shared")
    engine = make_engine(databases.sqlite_database(folder, sqlite_template))
    with running_api(engine, folder) as api:
        yield api
    engine.dispose()


@pytest.fixture
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A Redis of this test's own, which it may kill and start again."""
    with running_redis(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    return redis_server.url


@pytest.fixture(scope="session")
def objects() -> Iterator[ObjectStore]:
    """An S3 endpoint. Who stops it starts it again."""
    with object_store() as store:
        yield store


@pytest.fixture(scope="session")
def test_data() -> Path:
    """Real data sets beside the checkout (or NIGHTSHIFT_TEST_DATA); tests that need them skip without."""
    default = Path(__file__).parents[2] / "shared" / "data"
    folder = Path(os.environ.get("NIGHTSHIFT_TEST_DATA", default))
    if not folder.is_dir():
        pytest.skip(f"no test data at {folder}; set NIGHTSHIFT_TEST_DATA")
    return folder
