"""Outages in their full length, with the leases that users have: `make chaos` begins with them, `make test` leaves them
out.

python -m pytest -m long -s tests/faults/test_long_outages.py      # each prints its figures
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import psutil
import pytest

from tests.faults.oracle import assert_sound
from tests.support.redis import RedisServer, running_redis
from tests.support.stack import Process, Stack, eventually, open_stack

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]

REDIS_AWAY, DATABASE_HELD, OUTPUT_MEGABYTES = 60, 40, 1000


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    with running_redis(tmp_path) as server:
        yield server


@pytest.fixture
def stack(tmp_path: Path, sqlite_url: str, server: RedisServer) -> Iterator[Stack]:
    """With the leases, heartbeats and intervals that a user has."""
    as_they_come = {"relay_seconds": 0.5, "maintenance_seconds": 5}
    with open_stack(tmp_path, sqlite_url, server.url, **as_they_come) as stack:
        stack.api()
        stack.beat()
        stack.worker()
        yield stack


def worker_of(stack: Stack) -> Process:
    return stack.processes[-1]


def posted(stack: Stack, seconds: float, every: float) -> list[tuple[int, float, str | None]]:
    """A submission every so often, for so long: (status, how long it took, id)."""
    answers = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        begun = time.monotonic()
        answer = stack.post_job(steps=3)
        took = time.monotonic() - begun
        answers.append((answer.status_code, took, answer.json().get("id")))
        time.sleep(max(0.0, every - took))
    return answers


def test_redis_frozen_for_a_minute(stack: Stack, server: RedisServer) -> None:
    running = stack.post_job(steps=20, checkpoint=4, hold_at=10).json()["id"]
    stack.at_step(running, 10)
    usual = [took for _, took, _ in posted(stack, 10, 0.3)]
    server.freeze()
    try:
        stack.go(running)
        answers = posted(stack, REDIS_AWAY, 2.0)
        assert stack.finished(running).state == "succeeded", "a running job does not notice"
    finally:
        server.thaw()
    thawed = time.monotonic()
    assert {status for status, _, _ in answers} == {202}
    jobs = stack.all_ids()
    assert {stack.finished(job_id).state for job_id in jobs} == {"succeeded"}
    caught_up = time.monotonic() - thawed
    after = stack.post_job(steps=3).json()["id"]
    assert stack.finished(after).state == "succeeded", "it hears the next doorbell too"
    assert stack.outcomes(running) == ["succeeded"]
    assert all(process.alive() for process in stack.processes)
    assert_sound(stack.engine, stack.root, [*jobs, after])
    taken = [took for _, took, _ in answers]
    print(
        f"\nRedis frozen for {REDIS_AWAY} s: {len(answers)} of {len(answers)} submissions accepted after"
        f" {1000 * median(taken):.0f} ms, the slowest after {1000 * max(taken):.0f} ms (before: "
        f"{1000 * median(usual):.0f} and"
        f" {1000 * max(usual):.0f} ms); all done {caught_up:.1f} s after it was back"
    )


HOLDER = """
import sqlite3, sys, time
holder = sqlite3.connect(sys.argv[1], isolation_level=None)
holder.execute("BEGIN IMMEDIATE")
print("held", flush=True)
time.sleep(float(sys.argv[2]))
holder.execute("ROLLBACK")
"""


def test_sqlite_held_for_longer_than_a_lease_by_another_process(stack: Stack) -> None:
    running = stack.post_job(steps=600, checkpoint=100, pace=0.05, hold_at=590).json()["id"]
    stack.at_step(running, 10)
    [runner] = [psutil.Process(pid) for pid in stack.runner_pids(worker_of(stack))]
    path = stack.database_url.removeprefix("sqlite:///")
    argv = [sys.executable, "-c", HOLDER, path, str(DATABASE_HELD)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        begun = time.monotonic()
        eventually("the runner was frozen", lambda: runner.status() == psutil.STATUS_STOPPED)
        froze = time.monotonic() - begun
        answers = posted(stack, DATABASE_HELD - froze - 6, 2.0)
        assert stack.job(running).state == "running", "who only reads does not notice"
    released = time.monotonic()
    stack.go(running)
    assert {status for status, _, _ in answers} == {503}
    accepted = eventually("it is accepted again", lambda: (a := stack.post_job(steps=2)).status_code == 202 and a)
    again = time.monotonic() - released
    ids = [running, accepted.json()["id"]]
    assert [stack.finished(job_id).state for job_id in ids] == ["succeeded"] * 2
    assert stack.outcomes(running) in (["succeeded"], ["lost", "succeeded"])
    assert all(process.alive() for process in stack.processes)
    assert_sound(stack.engine, stack.root, ids)
    print(
        f"\nSQLite held for {DATABASE_HELD} s: the runner froze itself after {froze:.1f} s, {len(answers)} of"
        f" {len(answers)} submissions were 503, accepted again {again:.1f} s after it was free, attempts"
        f" {stack.outcomes(running)}"
    )


def test_a_gigabyte_of_output(stack: Stack) -> None:
    worker = psutil.Process(worker_of(stack).pid)
    before, database = worker.memory_info().rss, Path(stack.database_url.removeprefix("sqlite:///"))
    job_id = stack.submit("flood", megabytes=OUTPUT_MEGABYTES)
    begun, most = time.monotonic(), 0

    def ended() -> bool:
        nonlocal most
        most = max(most, worker.memory_info().rss)
        return stack.job(job_id).finished_at is not None

    eventually("it has said all", ended, cap=600)
    took, grown = time.monotonic() - begun, most - before
    assert stack.job(job_id).state == "succeeded"
    assert stack.outcomes(job_id) == ["succeeded"], "its lease was kept meanwhile"
    assert grown < 100e6
    lines = stack.logs(job_id)
    kept = sum(len(message) for _, message in lines)
    assert {"stdout", "stderr"} <= {level for level, _ in lines}
    assert kept <= 12_000_000
    assert any("were dropped" in message for _, message in lines)
    assert worker.is_running()
    print(
        f"\n{OUTPUT_MEGABYTES} MB of output: read in {took:.1f} s, {kept / 1e6:.2f} MB in {len(lines):,} lines kept, "
        "the"
        f" worker grew by {grown / 1e6:.0f} MB at most, the database has {database.stat().st_size / 1e6:.1f} MB"
    )
