"""A real worker and maintenance: an urgent job pushes out a running one, which goes on later as if nothing had been."""

from __future__ import annotations

from pathlib import Path

from tests.support import probe
from tests.support.house import eventually, open_house
from tests.support.redis import running_redis


def test_an_urgent_job_runs_at_once_and_the_other_loses_nothing(tmp_path: Path, sqlite_url: str) -> None:
    with running_redis(tmp_path) as redis, open_house(tmp_path, sqlite_url, redis.url) as house:
        house.beat(preempt_patience_seconds=0.5)
        worker = house.worker()
        low = house.submit("train", steps=20, checkpoint=4, hold_at=10, priority=3)
        house.at_step(low, 10)
        waiting = house.submit("train", steps=3, priority=3)
        urgent = house.submit("train", steps=5, hold_at=3, priority=9, preempt=True)
        house.at_step(urgent, 3)
        job = house.job(low)
        assert (job.state, job.retries, job.lost_streak) == ("queued", 0, 0)
        house.go(low)
        house.go(urgent)
        assert all(house.finished(job_id).state == "succeeded" for job_id in (urgent, low, waiting))
        assert house.outcomes(low) == ["preempted", "succeeded"]
        first, second = house.attempts(low)
        assert (first.exit_code, second.resumed_step) == (0, 10), "it wrote a checkpoint and left by itself"
        assert house.attempts(waiting)[0].started_at > second.started_at, "its place in the queue was kept"
        assert house.steps(low) == list(range(1, 21))
        [artifact] = house.artifacts(low)
        assert (house.folder / "data" / "storage" / artifact.stored_as).read_text() == probe.chain(20)
        asked = [event.data for event in house.events(low) if event.type == "stop_requested"]
        assert [data["makes_room_for"] for data in asked] == [urgent]
        eventually("the worker is idle", lambda: worker.alive() and not house.runner_pids(worker))
