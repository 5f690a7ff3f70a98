"""The database crashes, or another process locks it.

The API answers 503 and never a false 2xx; running jobs wait and go on; no worker ends.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil

from tests.faults.oracle import assert_sound
from tests.support.databases import own_postgres, terminate_sessions
from tests.support.redis import running_redis
from tests.support.stack import Stack, eventually, open_stack


@contextmanager
def full_house(folder: Path, url: str, lease_seconds: float) -> Iterator[Stack]:
    settings = {"lease_seconds": lease_seconds, "heartbeat_seconds": 0.3}
    with running_redis(folder) as redis, open_stack(folder, url, redis.url, **settings) as stack:
        stack.api()
        stack.beat()
        stack.worker()
        yield stack


def try_to_post(stack: Stack) -> httpx.Response | None:
    """None: the API hung up, which promises nothing either."""
    try:
        return stack.post_job(steps=2)
    except httpx.TransportError:
        return None


def test_postgres_crashes_and_throws_everybody_out(tmp_path: Path) -> None:
    """Each time it is back before the lease is over, however long a busy machine takes for the recovery."""
    with own_postgres() as postgres, full_house(tmp_path, postgres.url, lease_seconds=30) as stack:
        running = stack.post_job(steps=20, checkpoint=4, hold_at=10).json()["id"]
        stack.at_step(running, 10)
        accepted = [running]
        for crash in (postgres.crash, lambda: terminate_sessions(postgres.url)):
            crash()
            answer = try_to_post(stack)
            assert answer is None or answer.status_code in (202, 503)
            postgres.start()
            accepted += [answer.json()["id"]] if answer is not None and answer.status_code == 202 else []
            eventually("it is accepted again", lambda: (a := try_to_post(stack)) and a.status_code == 202)
        stack.go(running)
        stack.engine.dispose()
        for job_id in stack.all_ids():
            assert stack.finished(job_id).state == "succeeded"
        assert stack.outcomes(running) == ["succeeded"]
        assert all(process.alive() for process in stack.processes)
        assert_sound(stack.engine, stack.root, accepted)


def test_sqlite_held_by_another_writer_for_longer_than_a_lease(tmp_path: Path, sqlite_url: str) -> None:
    """No process can take the lease back meanwhile, so the attempt keeps it and nothing runs twice."""
    with full_house(tmp_path, sqlite_url, lease_seconds=4) as stack:
        running = stack.post_job(steps=100, checkpoint=20, pace=0.05, hold_at=90).json()["id"]
        stack.at_step(running, 10)
        [runner] = [psutil.Process(pid) for pid in stack.runner_pids(stack.processes[-1])]
        holder = sqlite3.connect(stack.database_url.removeprefix("sqlite:///"), isolation_level=None)
        holder.execute("BEGIN IMMEDIATE")
        eventually("the runner was frozen", lambda: runner.status() == psutil.STATUS_STOPPED)
        assert try_to_post(stack).status_code == 503  # type: ignore[union-attr]
        holder.execute("ROLLBACK")
        holder.close()
        stack.go(running)  # it would have been over before a slow test had its hand on the database
        after = eventually("it is accepted again", lambda: (a := try_to_post(stack)) and a.status_code == 202 and a)
        ids = [running, after.json()["id"]]
        assert [stack.finished(job_id).state for job_id in ids] == ["succeeded"] * 2
        assert all(process.alive() for process in stack.processes)
        assert_sound(stack.engine, stack.root, ids)
