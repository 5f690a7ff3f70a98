"""A real worker and maintenance: an urgent job pushes out a running one, which goes on later as if nothing had been."""

from __future__ import annotations

from pathlib import Path

from tests.support import probe
from tests.support.redis import running_redis
from tests.support.stack import eventually, open_stack


def test_an_urgent_job_runs_at_once_and_the_other_loses_nothing(tmp_path: Path, sqlite_url: str) -> None:
    with running_redis(tmp_path) as redis, open_stack(tmp_path, sqlite_url, redis.url) as stack:
        stack.beat(preempt_patience_seconds=0.5)
        worker = stack.worker()
        low = stack.submit("train", steps=20, checkpoint=4, hold_at=10, priority=3)
        stack.at_step(low, 10)
        waiting = stack.submit("train", steps=3, priority=3)
        urgent = stack.submit("train", steps=5, hold_at=3, priority=9, preempt=True)
        stack.at_step(urgent, 3)
        job = stack.job(low)
        assert (job.state, job.retries, job.lost_streak) == ("queued", 0, 0)
        stack.go(low)
        stack.go(urgent)
        assert all(stack.finished(job_id).state == "succeeded" for job_id in (urgent, low, waiting))
        assert stack.outcomes(low) == ["preempted", "succeeded"]
        first, second = stack.attempts(low)
        assert (first.exit_code, second.resumed_step) == (0, 10), "it wrote a checkpoint and left by itself"
        assert stack.attempts(waiting)[0].started_at > second.started_at, "its place in the queue was kept"
        assert stack.steps(low) == list(range(1, 21))
        [artifact] = stack.artifacts(low)
        assert (stack.folder / "data" / "storage" / artifact.stored_as).read_text() == probe.chain(20)
        asked = [event.data for event in stack.events(low) if event.type == "stop_requested"]
        assert [data["makes_room_for"] for data in asked] == [urgent]
        eventually("the worker is idle", lambda: worker.alive() and not stack.runner_pids(worker))
