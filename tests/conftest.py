"""Fixtures for all tests: fresh migrated databases, a Redis, the test data folder."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from sqlalchemy import Engine

from nightshift.errors import ConfigurationError
from nightshift.testing import devices
from shared.clock import sqlite_clock
from shared.db.engine import make_engine
from tests.support import compiled, databases
from tests.support.api import Api, running_api
from tests.support.objects import ObjectStore, object_store
from tests.support.redis import RedisServer, running_redis
from worker.hardware.frameworks import onednn_environment

compiled.share()
# What modules are made of is never garbage: to look through all of it again and again takes seconds.
gc.disable()
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ |= onednn_environment(os.environ)
# Each HTTP client reads all certificate authorities of the system, which takes 30 ms; no test needs them.
os.environ["SSL_CERT_FILE"] = str(Path(__file__).parent / "support" / "authority.pem")

#: Settings of this test suite.
_OURS = {*devices.VARIABLES, "NIGHTSHIFT_TEST_DATA", "NIGHTSHIFT_TEST_POSTGRES", "NIGHTSHIFT_TEST_SEED"}
#: Width and colors of a terminal, as shells and CI services set them.
_TERMINAL = {"COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "PY_COLORS", "TTY_COMPATIBLE", "GITHUB_ACTIONS"}

# Tests expect a plain terminal and an installation without settings.
for _name in list(os.environ):
    if _name in _TERMINAL or (_name.startswith(("NIGHTSHIFT_", "FLOWER_", "OTEL_")) and _name not in _OURS):
        del os.environ[_name]
os.environ["TERM"] = "xterm-256color"

# No deadline, because the machine may be busy. CI tries the same examples each time, so that failures there can be
# repeated here; local runs try others each time.
settings.register_profile("desk", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("desk"), derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "desk")


def pytest_addoption(parser: pytest.Parser) -> None:
    with suppress(ValueError):  # the plugin of the kit has it where an argument names nightshift/testing
        parser.addoption("--device", metavar="NAME", default="cpu", help=devices.HELP)


def pytest_configure(config: pytest.Config) -> None:
    """Choose the device of the conformance tests; where it is not there, say so and end without a failure."""
    try:
        devices.choose(config.getoption("device"))
    except ConfigurationError as error:
        pytest.exit(f"nothing was tested on a GPU: {error}", returncode=0)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Run tests marked `long` only if `-m` selects them."""
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
    """Return a fresh, migrated database of each kind in turn."""
    return str(request.getfixturevalue(f"{request.param}_url"))


@pytest.fixture
def long_database_timeouts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lengthen the timeouts for locks and connections, for tests with many threads.

    The last thread waits for all others. Use it before an engine.
    """
    monkeypatch.setattr("shared.db.engine.SQLITE_BUSY_SECONDS", 300.0)
    monkeypatch.setattr("shared.db.engine.POOL_TIMEOUT_SECONDS", 300.0)


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    """Yield an engine on `database_url`: SQLite and PostgreSQL in turn."""
    yield from _engine(database_url)


@pytest.fixture
def sqlite_engine(sqlite_url: str) -> Iterator[Engine]:
    """Yield an engine on SQLite only, where the database makes no difference."""
    yield from _engine(sqlite_url)


@pytest.fixture
def postgres_engine(postgres_url: str) -> Iterator[Engine]:
    """Yield an engine on PostgreSQL only, for what SQLite does in another way."""
    yield from _engine(postgres_url)


def _engine(url: str) -> Iterator[Engine]:
    engine = make_engine(url)
    yield engine
    engine.dispose()
    sqlite_clock.offset = 0.0


@pytest.fixture
def api(sqlite_engine: Engine, tmp_path: Path) -> Iterator[Api]:
    """Yield the API in this process, on SQLite."""
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
    """Yield a Redis for this test alone, which it may kill and restart."""
    with running_redis(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    return redis_server.url


@pytest.fixture(scope="session")
def objects() -> Iterator[ObjectStore]:
    """Yield an S3 endpoint. A test that stops it must start it again."""
    with object_store() as store:
        yield store


@pytest.fixture(scope="session")
def test_data() -> Path:
    """Return the folder of real data sets (NIGHTSHIFT_TEST_DATA), or skip the test."""
    default = Path(__file__).parents[2] / "shared" / "data"
    folder = Path(os.environ.get("NIGHTSHIFT_TEST_DATA", default))
    if not folder.is_dir():
        pytest.skip(f"no test data at {folder}; set NIGHTSHIFT_TEST_DATA")
    return folder
