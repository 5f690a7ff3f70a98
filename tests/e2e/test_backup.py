"""A back-up of a stack at work, as docs/howto/backup.md has it, put back on PostgreSQL: the job goes on to the same
result."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests.support import databases, warm
from tests.support.redis import RedisServer
from tests.support.stack import Stack, open_stack

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

LEASE = {"lease_seconds": 15, "heartbeat_seconds": 1}


def migrate(source: Path, target_url: str, *options: str) -> None:
    environment = {**os.environ, "NIGHTSHIFT_DATABASE_URL": target_url}
    done = warm.run("nightshift.cli.app", "migrate", "--from", str(source), *options, environment=environment)
    assert done.returncode == 0, done.stderr


def finish(stack: Stack, job_id: str) -> str:
    """Let the held job go on; the hash of its result."""
    stack.go(job_id)
    job = stack.finished(job_id)
    assert job.state == "succeeded", job.error
    (result,) = [artifact for artifact in stack.artifacts(job_id) if artifact.path == "chain.txt"]
    return str(result.sha256)


def test_a_backup_of_a_running_stack_goes_on_elsewhere(
    tmp_path: Path, sqlite_template: Path, postgres_url: str, redis_server: RedisServer
) -> None:
    data, kept = tmp_path / "here" / "data", tmp_path / "elsewhere" / "data"
    for folder in (data, kept):
        folder.mkdir(parents=True)
    url = databases.sqlite_database(data, sqlite_template)
    with open_stack(data.parent, url, redis_server.url, **LEASE) as stack:
        stack.api()
        stack.beat()
        stack.worker()
        job_id = stack.post_job(steps=20, checkpoint=4, hold_at=10).json()["id"]
        stack.at_step(job_id, 10)
        migrate(data, f"sqlite:///{kept / 'nightshift.db'}", "--while-running")
        shutil.copytree(data / "storage", kept / "storage")
        untouched = finish(stack, job_id)
        assert [process.terminate() for process in stack.processes] == [0, 0, 0]
    migrate(kept, postgres_url, "--while-running")
    with open_stack(kept.parent, postgres_url, redis_server.url, **LEASE) as again:
        again.beat()
        again.worker()
        assert finish(again, job_id) == untouched
        assert again.outcomes(job_id) == ["lost", "succeeded"]
        assert again.attempts(job_id)[1].resumed_step == 8
