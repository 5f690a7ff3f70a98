"""Reasons of finished jobs, and of attempts that ended without success."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from nightshift.states import JobState
from shared.clock import format_duration, iso
from shared.jobs.eligibility import Row
from shared.jobs.explain.values import MAX_TRIES, ExplainContext, Reason
from shared.jobs.states import AttemptOutcome


def succeeded(job: Row, around: ExplainContext) -> Iterator[Reason]:
    """Yield the reasons of a succeeded job."""
    took = f" after {format_duration(job['finished_at'] - job['started_at'])}" if job["started_at"] else ""
    yield Reason("succeeded", f"attempt {job['fence']} on {job['worker']} succeeded{took}", _ended_at(job, around))
    refused = ((job["result"] or {}).get("model") or {}).get("not_registered")
    if refused:
        yield Reason("not_registered", f"its model is not registered: {refused.rstrip('.')}", {"reason": refused})


def failed(job: Row, around: ExplainContext) -> Iterator[Reason]:
    """Yield the reasons of a failed job."""
    error = job["error"] or {"type": "unknown", "message": "no error was recorded"}
    tries = f" after {job['fence']} attempts" if job["fence"] > 1 else ""
    yield Reason("failed", f"{error['type']}{tries}: {error['message']}", {"error": error} | _ended_at(job, around))
    yield from dependencies(around)


def dependencies(around: ExplainContext) -> Iterator[Reason]:
    """Yield the jobs in `after` that have not succeeded."""
    for job_id, state in around.awaited:
        if state != JobState.SUCCEEDED:
            yield Reason("dependency", f"job {job_id} is {state or 'deleted'}", {"job_id": job_id, "state": state})


def cancelled(job: Row, around: ExplainContext) -> Iterator[Reason]:
    """Yield the reasons of a canceled job."""
    was_running = job["fence"] and _last_cancelled(around)
    when = f"while attempt {job['fence']} was running" if was_running else "while it was not running"
    yield Reason("cancelled", f"by request, {when}", _ended_at(job, around))


def _last_cancelled(around: ExplainContext) -> bool:
    return bool(around.attempts) and around.attempts[0]["outcome"] == AttemptOutcome.CANCELLED


def _ended_at(job: Row, around: ExplainContext) -> dict[str, Any]:
    ended = {"at": iso(job["finished_at"]), "attempt": job["fence"]}
    return ended | (attempt_fields(around.attempts[0]) if around.attempts else {})


# -- unsuccessful attempts ------------------------------------------------------------------------


def tries(job: Row, around: ExplainContext) -> Iterator[Reason]:
    """Yield attempts that crashed, were lost, preempted, drained or failed; without the last one of a finished job."""
    earlier = around.attempts[1:] if JobState(job["state"]).is_final else around.attempts
    for attempt in [row for row in earlier if row["outcome"] is not None][:MAX_TRIES]:
        clause = f"attempt {attempt['fence']} on {attempt['worker']} ended: {outcome_text(attempt)}"
        yield Reason("attempt_ended", clause, attempt_fields(attempt))


def outcome_text(attempt: Row) -> str:
    """Return the outcome of an attempt with its error message."""
    message = (attempt["error"] or {}).get("message")
    shown = str(attempt["outcome"]).replace("_", " ")
    return f"{shown} ({message})" if message else shown


def attempt_fields(attempt: Row) -> dict[str, Any]:
    """Return the fields of an attempt for a reason."""
    names = ("worker", "outcome", "error", "exit_code", "signal", "peak_memory_bytes", "peak_device_memory_bytes")
    return {"attempt": attempt["fence"]} | {name: attempt[name] for name in names}
