"""The process that checks the parts of a stack: what it tells, and what the launcher makes of its end."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from api.launcher.check_process import CheckProcess
from nightshift.errors import ConfigurationError
from tests.support.up import eventually

#: An address on which nothing listens.
NOWHERE = "http://127.0.0.1:1"


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Callable[..., CheckProcess]]:
    opened: list[CheckProcess] = []

    def start(**settings: str) -> CheckProcess:
        own = {"NIGHTSHIFT_DATA_DIR": str(tmp_path), "NIGHTSHIFT_REDIS_URL": "redis://127.0.0.1:1/0", **settings}
        arguments = [str(tmp_path), "--api", NOWHERE, "--flower", NOWHERE, "--worker", "worker-cpu0=cpu0@test"]
        opened.append(CheckProcess(arguments, {**os.environ, **own}))
        opened[-1].start()
        return opened[-1]

    yield start
    for one in opened:
        one.stop()


def polled(checks: CheckProcess) -> bool:
    checks.poll()
    return checks.is_prepared


def test_the_database_is_prepared_and_no_part_answers_that_does_not_run(
    started: Callable[..., CheckProcess], tmp_path: Path
) -> None:
    checks = started()
    eventually(lambda: polled(checks))
    assert (tmp_path / "nightshift.db").exists()
    assert (tmp_path / "api_key").read_text().strip()
    assert checks.answering == set()


def test_an_error_of_the_preparation_is_told(started: Callable[..., CheckProcess]) -> None:
    checks = started(NIGHTSHIFT_HEARTBEAT_SECONDS="20")
    with pytest.raises(ConfigurationError, match="NIGHTSHIFT_HEARTBEAT_SECONDS must be at most"):
        eventually(lambda: polled(checks))


def test_its_death_ends_the_start(started: Callable[..., CheckProcess]) -> None:
    checks = started()
    assert checks.pid is not None
    os.kill(checks.pid, signal.SIGKILL)
    with pytest.raises(ConfigurationError, match=r"the checks of the start ended \(SIGKILL\)"):
        eventually(lambda: polled(checks))
