"""A real worker, Redis and SQLite: a probe job runs, and every way it can end is typed, and ends no worker."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from sqlalchemy import text

from shared import celery_app
from shared.db.engine import read, write
from shared.jobs.states import StopRequest
from shared.settings import Settings
from tests.support import databases, probe
from tests.support.redis import running_redis
from tests.support.stack import CAP, Process, Stack, eventually, gone, open_stack


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, sqlite_template: Path) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("stack")
    url = databases.sqlite_database(folder, sqlite_template)
    with (
        running_redis(folder) as redis,
        open_stack(folder, url, redis.url, stop_grace_seconds=1, heartbeat_seconds=0.2) as stack,
    ):
        yield stack


@pytest.fixture(scope="module")
def worker(stack: Stack) -> Process:
    """One for all: if a test ends it, the ones after fail."""
    return stack.worker(runner_memory_limit_bytes=1 << 30, max_log_bytes=100_000)


def test_a_job_runs_from_end_to_end(stack: Stack, worker: Process) -> None:
    job_id = stack.submit("train", steps=20, checkpoint=5)
    job = stack.finished(job_id)
    assert job.state == "succeeded"
    assert job.result == {"artifacts": ["chain.txt"], "metrics": {"steps": 20.0}, "model": None}
    assert stack.steps(job_id) == list(range(1, 21))
    [artifact] = stack.artifacts(job_id)
    assert (stack.folder / "data" / "storage" / artifact.stored_as).read_text() == probe.chain(20)
    [attempt] = stack.attempts(job_id)
    assert (attempt.outcome, attempt.worker, attempt.exit_code) == ("succeeded", "cpu0@test", 0)
    assert attempt.peak_memory_bytes > 1_000_000
    assert attempt.celery_task_id
    assert job.pinned["dataset"] == "digits@1"
    assert (attempt.environment["worker"], attempt.environment["framework"]) == ("cpu0@test", "torch")


def test_superseded_checkpoints_leave_the_list_and_the_disk(stack: Stack, worker: Process) -> None:
    job_id = stack.submit("train", steps=20, checkpoint=5)
    stack.finished(job_id)
    listed = {row.step: row.state for row in stack.checkpoints(job_id)}
    assert {step for step, state in listed.items() if state == "ready"} == {15, 20}
    folder = stack.folder / "data" / "storage" / "jobs" / job_id / "checkpoints"
    steps = lambda: sorted(int(path.name.partition("-")[0]) for path in folder.iterdir())  # noqa: E731
    eventually("their folders are gone", lambda: steps() == [15, 20])


@pytest.mark.parametrize(
    ("ending", "outcome", "error_type", "words"),
    [
        ("typed", "job_error", "bad_data", "row 7 is empty"),
        ("not_finite", "job_error", "non_finite_loss", "step 3"),
        ("not_a_number", "job_error", "non_finite_loss", "loss became nan at step 2"),
        ("untyped", "job_error", "unexpected_error", "division by zero"),
        ("unpicklable", "job_error", "unexpected_error", "Unpicklable"),
        ("system_exit", "job_error", "unexpected_error", "SystemExit"),
        ("memory_error", "out_of_memory", "out_of_memory", "MemoryError"),
        ("allocate", "out_of_memory", "out_of_memory", "MemoryError"),
        ("exit", "crashed", "crashed", "code 7"),
        ("segfault", "crashed", "crashed", "SIGSEGV"),
        ("killed", "crashed", "crashed", "SIGKILL"),
        ("not_a_frame", "crashed", "protocol_error", "invalid frame"),
        ("bad_path", "crashed", "protocol_error", "invalid frame"),
        ("unwritable", "job_error", "invalid_request", ""),
        ("endless_frame", "crashed", "protocol_error", "frame"),
    ],
)
def test_every_ending_is_typed_and_no_worker_ends(
    stack: Stack, worker: Process, ending: str, outcome: str, error_type: str, words: str
) -> None:
    job_id = stack.submit(ending, max_retries=0)
    eventually(f"an attempt of {ending} ended", lambda: any(stack.outcomes(job_id)))
    first = stack.attempts(job_id)[0]
    assert first.outcome == outcome
    assert first.error["type"] == error_type
    assert words in first.error["message"]
    assert worker.alive()
    stack.ask(job_id, StopRequest.CANCEL) if stack.job(job_id).state in ("queued", "running") else None
    stack.finished(job_id)


def test_a_full_disk_uses_up_no_retry(stack: Stack, worker: Process) -> None:
    """Another host may have room, or this one a moment later."""
    job_id = stack.submit("full_disk", max_retries=0)
    assert stack.finished(job_id).state == "succeeded"
    first, second = stack.attempts(job_id)
    assert (first.outcome, first.error["type"], second.outcome) == ("crashed", "disk_full", "succeeded")


def test_a_poison_job_fails_after_three_crashes_with_evidence(stack: Stack, worker: Process) -> None:
    job_id = stack.submit("segfault", max_retries=100)
    eventually("the second crash", lambda: stack.outcomes(job_id)[:2] == ["crashed", "crashed"])
    eventually("the back-off has passed", lambda: _hurry(stack, job_id))
    job = stack.finished(job_id)
    assert job.state == "failed"
    assert stack.outcomes(job_id) == ["crashed"] * 3
    assert "3 attempts in a row" in job.error["message"]
    assert "SIGSEGV" in job.error["message"]
    assert all(row.signal == signal.SIGSEGV and row.peak_memory_bytes for row in stack.attempts(job_id))
    assert worker.alive()


def _hurry(stack: Stack, job_id: str) -> bool:
    from tests.support.factories import make_due

    make_due(stack.engine, job_id)
    stack.ring(job_id)
    return True


def test_a_crash_says_where(stack: Stack, worker: Process) -> None:
    job_id = stack.submit("segfault")
    eventually("it crashed", lambda: any(stack.outcomes(job_id)))
    assert any("Segmentation fault" in line for level, line in stack.logs(job_id) if level == "stderr")
    stack.ask(job_id, StopRequest.CANCEL)


def test_output_and_log_are_kept_with_their_level(stack: Stack, worker: Process) -> None:
    job_id = stack.submit("print")
    assert stack.finished(job_id).state == "succeeded"
    assert {("stdout", "to stdout"), ("stderr", "to stderr"), ("warning", "to the log")} <= set(stack.logs(job_id))


def test_a_flood_of_output_is_cut_and_counted(stack: Stack, worker: Process) -> None:
    job_id = stack.submit("flood")
    assert stack.finished(job_id).state == "succeeded"
    logs = stack.logs(job_id)
    assert ("info", "before the flood") in logs
    assert sum(len(message) for _, message in logs) <= 200_000
    assert any("were dropped" in message for _, message in logs)


def test_no_grandchild_outlives_its_attempt(stack: Stack, worker: Process) -> None:
    job_id = stack.submit("grandchildren")
    assert stack.finished(job_id).state == "succeeded"
    _assert_family_is_gone(stack, job_id)


def _assert_family_is_gone(stack: Stack, job_id: str, fence: int = 1) -> None:
    folder = stack.folder / "data" / "storage" / "jobs" / job_id / "attempts" / str(fence) / "family"
    pids = [int(path.name) for path in folder.iterdir()]
    assert len(pids) == 2
    eventually("both are gone", lambda: all(map(gone, pids)))


def test_cancel_ends_even_a_runner_that_ignores_everything(stack: Stack, worker: Process) -> None:
    job_id = stack.submit("ignore")
    family = stack.folder / "data" / "storage" / "jobs" / job_id / "attempts" / "1" / "family"
    eventually("its family is complete", lambda: family.exists() and len(list(family.iterdir())) == 2)
    stack.ask(job_id, StopRequest.CANCEL)
    assert stack.finished(job_id).state == "cancelled"
    _assert_family_is_gone(stack, job_id)
    [attempt] = stack.attempts(job_id)
    assert (attempt.outcome, attempt.signal) == ("cancelled", signal.SIGKILL)


def test_cancel_at_a_step_boundary_keeps_nothing_more(stack: Stack, worker: Process) -> None:
    job_id = stack.submit("train", steps=10, checkpoint=2, hold_at=5)
    stack.at_step(job_id, 5)
    stack.ask(job_id, StopRequest.CANCEL)
    assert stack.finished(job_id).state == "cancelled"
    [attempt] = stack.attempts(job_id)
    assert (attempt.outcome, attempt.exit_code) == ("cancelled", 0)
    assert stack.artifacts(job_id) == []


def test_finish_keeps_the_result(stack: Stack, worker: Process) -> None:
    job_id = stack.submit("train", steps=1000, hold_at=5)
    stack.at_step(job_id, 5)
    stack.ask(job_id, StopRequest.FINISH)
    job = stack.finished(job_id)
    assert (job.state, job.result["metrics"]) == ("succeeded", {"steps": 5.0})


def test_pause_and_resume_continue_where_it_was(stack: Stack, worker: Process) -> None:
    job_id = stack.submit("train", steps=12, hold_at=7)
    stack.at_step(job_id, 7)
    stack.ask(job_id, StopRequest.PAUSE)
    eventually("it is paused", lambda: stack.job(job_id).state == "paused")
    stack.go(job_id)
    stack.resume(job_id)
    assert stack.finished(job_id).state == "succeeded"
    first, second = stack.attempts(job_id)
    assert (first.outcome, second.outcome, second.resumed_step) == ("paused", "succeeded", 7)
    assert stack.steps(job_id) == list(range(1, 13))
    [artifact] = stack.artifacts(job_id)
    assert (stack.folder / "data" / "storage" / artifact.stored_as).read_text() == probe.chain(12)


def test_a_killed_runner_is_resumed_from_its_checkpoint(stack: Stack, worker: Process) -> None:
    job_id = stack.submit("train", steps=20, checkpoint=4, hold_at=10)
    stack.at_step(job_id, 10)
    eventually("two checkpoints are committed", lambda: len(stack.checkpoints(job_id)) == 2)
    [runner] = stack.runner_pids(worker)
    psutil.Process(runner).kill()
    stack.go(job_id)
    job = stack.finished(job_id)
    assert job.state == "succeeded"
    first, second = stack.attempts(job_id)
    assert (first.outcome, first.signal, second.resumed_step) == ("crashed", signal.SIGKILL, 8)
    waits = [event.data["retry_in"] for event in stack.events(job_id) if "retry_in" in event.data]
    assert waits == [0.0], "a lone crash must cost no back-off"
    assert stack.steps(job_id) == list(range(1, 21))
    [artifact] = stack.artifacts(job_id)
    assert (stack.folder / "data" / "storage" / artifact.stored_as).read_text() == probe.chain(20)


def test_a_job_that_runs_too_long_times_out(stack: Stack, worker: Process) -> None:
    job_id = stack.submit("sleep", timeout_seconds=1.0)
    job = stack.finished(job_id)
    assert (job.state, job.error["type"]) == ("failed", "timeout")
    assert stack.outcomes(job_id) == ["timed_out"]


def test_a_data_set_that_is_not_there_is_a_clear_failure(stack: Stack, worker: Process) -> None:
    job_id = stack.submit("train", dataset="nowhere", max_retries=0)
    job = stack.finished(job_id)
    assert (job.state, job.error["type"]) == ("failed", "not_found")
    assert "nowhere" in job.error["message"]


def test_the_worker_answers_pings_and_celerys_terminate_cancels(stack: Stack, worker: Process) -> None:
    job_id = stack.submit("train", steps=1000, hold_at=3)
    stack.at_step(job_id, 3)
    app = celery_app.make_celery(Settings(redis_url=stack.redis_url))  # type: ignore[arg-type]
    assert app.control.ping(destination=["cpu0@test"], timeout=CAP)
    [attempt] = stack.attempts(job_id)
    app.control.revoke(attempt.celery_task_id, terminate=True)
    assert stack.finished(job_id).state == "cancelled"
    assert stack.outcomes(job_id) == ["cancelled"]
    again = stack.submit("train", steps=3)
    assert stack.finished(again).state == "succeeded", "the worker takes the next job after a terminate"
    app.close()


@pytest.fixture
def told(stack: Stack) -> Iterator[Callable[[], list[str]]]:
    """Every state that a worker has said of itself since then: some last a moment only."""
    with write(stack.engine) as conn:
        conn.execute(text("CREATE TABLE told (state TEXT)"))
        each = "AFTER UPDATE OF state ON workers WHEN NEW.state != OLD.state"
        conn.execute(text(f"CREATE TRIGGER tell {each} BEGIN INSERT INTO told VALUES (NEW.state); END"))

    def states() -> list[str]:
        with read(stack.engine) as conn:
            return list(conn.scalars(text("SELECT state FROM told ORDER BY rowid")))

    yield states
    with write(stack.engine) as conn:
        conn.execute(text("DROP TRIGGER tell"))
        conn.execute(text("DROP TABLE told"))


def test_a_worker_takes_back_its_queues_and_refuses_to_be_shut_down(
    stack: Stack, worker: Process, told: Callable[[], list[str]]
) -> None:
    app = celery_app.make_celery(Settings(redis_url=stack.redis_url))  # type: ignore[arg-type]

    def command(name: str, **arguments: Any) -> Any:
        """What the worker answers to `celery control`."""
        sent = {"arguments": arguments, "destination": ["cpu0@test"], "reply": True, "timeout": 10, "limit": 1}
        [answer] = app.control.broadcast(name, **sent)
        return answer["cpu0@test"]

    def consumed() -> set[str]:
        return {queue["name"] for queue in command("active_queues")}

    for queue in ("nightshift.auto", "nightshift.cpu"):
        assert "ok" in command("cancel_consumer", queue=queue)
    job_id = stack.submit("train", steps=3)
    assert stack.finished(job_id).state == "succeeded", "nothing but the worker itself brings its queues back"
    eventually("it says that it was deaf, and is not", lambda: told() == ["not_listening", "online"])

    for queue in ("evil", "nightshift.gpu"):
        assert "ok" in command("add_consumer", queue=queue)
    eventually("it consumes its own queues only", lambda: consumed() == {"nightshift.auto", "nightshift.cpu"})

    forged = {"task_name": celery_app.ATTEMPT_TASK, "hard": 1, "rate_limit": "0/s", "max": 0, "min": 0, "n": 1}
    for name in ("shutdown", "pool_grow", "pool_shrink", "pool_restart", "autoscale", "time_limit", "rate_limit"):
        assert "refused" in command(name, **forged)["error"]
    assert stack.finished(stack.submit("train", steps=3)).state == "succeeded"
    assert worker.alive()
    app.close()
