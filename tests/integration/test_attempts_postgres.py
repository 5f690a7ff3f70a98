"""The same worker on PostgreSQL: end to end, and when the server throws everybody out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import probe
from tests.support.databases import throw_everybody_out
from tests.support.house import House, eventually, open_house
from tests.support.redis import running_redis


@pytest.fixture
def house(tmp_path: Path, postgres_url: str) -> Iterator[House]:
    with (
        running_redis(tmp_path) as redis,
        open_house(tmp_path, postgres_url, redis.url, lease_seconds=30, heartbeat_seconds=0.3) as house,
    ):
        yield house


@pytest.mark.slow
def test_a_job_survives_terminated_connections(house: House) -> None:
    worker = house.worker()
    job_id = house.submit("train", steps=20, checkpoint=4, hold_at=10)
    house.at_step(job_id, 10)
    eventually("two checkpoints are committed", lambda: len(house.checkpoints(job_id)) == 2)
    house.engine.dispose()
    for _ in range(3):
        throw_everybody_out(house.database_url)
    house.go(job_id)
    assert house.finished(job_id).state == "succeeded"
    assert house.outcomes(job_id) == ["succeeded"]
    assert house.steps(job_id) == list(range(1, 21))
    [artifact] = house.artifacts(job_id)
    assert (house.folder / "data" / "storage" / artifact.stored_as).read_text() == probe.chain(20)
    assert worker.alive()
