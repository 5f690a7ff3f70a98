"""The same worker on PostgreSQL: end to end, and when the server throws everybody out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import probe
from tests.support.databases import terminate_sessions
from tests.support.redis import running_redis
from tests.support.stack import Stack, eventually, open_stack


@pytest.fixture
def stack(tmp_path: Path, postgres_url: str) -> Iterator[Stack]:
    with (
        running_redis(tmp_path) as redis,
        open_stack(tmp_path, postgres_url, redis.url, lease_seconds=30, heartbeat_seconds=0.3) as stack,
    ):
        yield stack


@pytest.mark.slow
def test_a_job_survives_terminated_connections(stack: Stack) -> None:
    worker = stack.worker()
    job_id = stack.submit("train", steps=20, checkpoint=4, hold_at=10)
    stack.at_step(job_id, 10)
    eventually("two checkpoints are committed", lambda: len(stack.checkpoints(job_id)) == 2)
    stack.engine.dispose()
    for _ in range(3):
        terminate_sessions(stack.database_url)
    stack.go(job_id)
    assert stack.finished(job_id).state == "succeeded"
    assert stack.outcomes(job_id) == ["succeeded"]
    assert stack.steps(job_id) == list(range(1, 21))
    [artifact] = stack.artifacts(job_id)
    assert (stack.folder / "data" / "storage" / artifact.stored_as).read_text() == probe.chain(20)
    assert worker.alive()
