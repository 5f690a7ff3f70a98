"""Failpoints act once, where and when they were asked to; events reach their subscribers."""

from __future__ import annotations

import errno
import json
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager

import psutil
import pytest
from sqlalchemy import Engine, make_url, text

from shared import failpoints
from shared.db.engine import make_engine, read
from shared.events import emit, subscribe
from shared.failpoints import FailpointError, failpoint
from shared.jobs import queries
from tests.support.factories import OWNER, claim_job, submit_job
from tests.support.stack import eventually


@pytest.fixture(autouse=True)
def _disarm() -> Iterator[None]:
    yield
    failpoints.arm("")


def test_an_unarmed_failpoint_does_nothing() -> None:
    failpoint("submit.before_commit")


def test_it_acts_at_its_nth_pass_only() -> None:
    failpoints.arm("here:raise@2,there:enospc")
    failpoint("here")
    with pytest.raises(FailpointError, match="here"):
        failpoint("here")
    failpoint("here")
    with pytest.raises(OSError, match="No space left") as caught:
        failpoint("there")
    assert caught.value.errno == errno.ENOSPC


@pytest.mark.parametrize("text", ["x", "x:explode", "x:stop", "x:kill@", "x:kill@-1", "x:raise;y:raise"])
def test_a_spelling_mistake_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match="name:action@nth"):
        failpoints.arm(text)


@contextmanager
def started(code: str, failpoint_: str, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    script = f"from shared.failpoints import failpoint\n{code}"
    with subprocess.Popen(
        [sys.executable, "-c", script],
        env={"NIGHTSHIFT_FAILPOINT": failpoint_, "PYTHONPATH": ":".join(sys.path), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def run(code: str, failpoint_: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    with started(code, failpoint_, **environment) as process:
        out, err = process.communicate()
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def test_kill_is_kill() -> None:
    assert run("failpoint('here')", "here:kill").returncode == -signal.SIGKILL


def test_stop_freezes_and_thaws() -> None:
    code = "import time; a = time.monotonic(); failpoint('here'); print(time.monotonic() - a)"
    ended = run(code, "here:stop:0.3")
    assert ended.returncode == 0
    assert float(ended.stdout) >= 0.25


WRITER = """
import threading, time
from shared.db import engine as db
from sqlalchemy import text
engine = db.make_engine("{url}")
inside, waited_for = threading.Event(), threading.Event()
def write():
    with db.write(engine) as conn:
        conn.execute(text("{lock}"))
        inside.set()
        waited_for.wait()
def release():
    while not db.write_lock_of(engine).waiting:
        time.sleep(0.001)
    waited_for.set()
threading.Thread(target=write).start()
inside.wait()
threading.Thread(target=release, daemon=True).start()
failpoint("here")
print("thawed", flush=True)
"""


def test_a_stopped_process_holds_no_lock_of_sqlite_in_another_thread(sqlite_url: str) -> None:
    """The lock is the whole database's: what is frozen here is a process, not everybody who writes."""
    with stopped(WRITER.format(url=sqlite_url, lock="SELECT 1")):
        path = str(make_url(sqlite_url).database)
        with closing(sqlite3.connect(path, timeout=0, isolation_level=None)) as conn:
            conn.execute("BEGIN IMMEDIATE")
            conn.execute("ROLLBACK")


def test_a_stopped_process_holds_no_lock_of_postgres_in_another_thread(postgres_url: str) -> None:
    """PostgreSQL would take it away after a while, in which others give up."""
    with stopped(WRITER.format(url=postgres_url, lock="SELECT pg_advisory_xact_lock(7)")):
        engine = make_engine(postgres_url)
        with read(engine) as conn:
            assert conn.scalar(text("SELECT pg_try_advisory_xact_lock(7)"))
        engine.dispose()


@contextmanager
def stopped(code: str) -> Iterator[None]:
    """Run code up to its failpoint `here`, and let it end after the block."""
    with started(code, "here:stop:3600") as process:
        eventually("it is stopped", lambda: psutil.Process(process.pid).status() == psutil.STATUS_STOPPED)
        yield
        process.send_signal(signal.SIGCONT)
        assert process.communicate()[0] == b"thawed\n"


BESIDE_THE_MAIN_THREAD = """
import threading, time
from shared import failpoints
def hit():
    for _ in range(10):
        failpoints.arm("here:stop:0.05")
        begun = time.monotonic()
        failpoint("here")
        print(time.monotonic() - begun >= 0.05)
thread = threading.Thread(target=hit)
thread.start()
thread.join()
"""


def test_stop_suspends_the_thread_that_passes_before_it_goes_on() -> None:
    """A signal to the process is taken by its main thread, while the others go on and may take SQLite's lock."""
    assert run(BESIDE_THE_MAIN_THREAD, "here:stop:0.05").stdout.split() == [b"True"] * 10


def test_production_refuses_them() -> None:
    ended = run("", "here:kill", NIGHTSHIFT_ENVIRONMENT="production")
    assert ended.returncode == 1
    assert b"unset it in production" in ended.stderr


def test_a_submit_that_fails_before_its_commit_leaves_nothing(engine: Engine) -> None:
    failpoints.arm("submit.before_commit:raise")
    with pytest.raises(FailpointError):
        submit_job(engine)
    with read(engine) as conn:
        assert queries.list_jobs(conn, OWNER).items == []


def test_a_submit_that_fails_after_its_commit_is_there(engine: Engine) -> None:
    failpoints.arm("submit.after_commit:raise")
    with pytest.raises(FailpointError):
        submit_job(engine, idempotency_key="k", body_hash="a")
    again = submit_job(engine, idempotency_key="k", body_hash="a")
    assert not again.created


# -- events ---------------------------------------------------------------------------------------


def test_events_are_told_after_the_commit_only(engine: Engine) -> None:
    emitted: list[str] = []
    unsubscribe = subscribe(lambda event, fields: emitted.append(event))
    try:
        failpoints.arm("submit.before_commit:raise")
        with pytest.raises(FailpointError):
            submit_job(engine)
        assert emitted == []
        submit_job(engine)
        claim_job(engine)
    finally:
        unsubscribe()
    submit_job(engine)
    assert emitted == ["job.submitted", "job.claimed"]


def test_a_subscriber_that_fails_does_not_fail_the_others() -> None:
    emitted: list[str] = []

    def broken(event: str, fields: dict[str, object]) -> None:
        raise RuntimeError

    endings = [subscribe(broken), subscribe(lambda event, fields: emitted.append(event))]
    emit("job.claimed")
    for unsubscribe in endings:
        unsubscribe()
    assert emitted == ["job.claimed"]


def test_events_and_library_logs_become_json_lines() -> None:
    code = """
import logging
from shared.events import emit
from shared.logging import configure_logging
from shared.settings import Settings
configure_logging(Settings(log_format="json"), "worker")
configure_logging(Settings(log_format="json"), "worker")
emit("job.rescued", job_id="abc")
emit("checkpoint.committed", job_id="abc")
logging.getLogger("celery").warning("hello %s", "there")
"""
    ended = run(code, "")
    lines = [json.loads(line) for line in ended.stderr.splitlines()]
    assert [(line["event"], line["level"]) for line in lines] == [
        ("job.rescued", "warning"),
        ("hello there", "warning"),
    ]
    assert lines[0]["job_id"] == "abc"
    assert lines[0]["process"] == "worker"
