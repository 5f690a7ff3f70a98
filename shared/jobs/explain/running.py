"""Reasons of running jobs: their phase, or a lost worker."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from shared.clock import format_duration
from shared.jobs.eligibility import Row
from shared.jobs.explain.values import ExplainContext, Reason
from shared.jobs.states import FINISHING, StopRequest

#: Phases of a run (`worker.runners.messages.Progress.phase`) -> text.
_PHASES = {
    "device": "waiting for its device, which a process of an earlier attempt still holds,",
    "framework": "waiting until its worker has loaded the framework,",
    "load": "loading its data and weights",
    "first_step": "preparing its first step",
    "train": "training",
    "program": "running its program",
    "infer": "computing predictions",
    "validate": "validating",
    "checkpoint": "writing a checkpoint",
    "evaluate": "evaluating",
    "write": "writing its results",
    FINISHING: "writing and storing its results, its device is free,",
}


def running(job: Row, around: ExplainContext) -> Iterator[Reason]:
    """Yield the reasons of a running job."""
    age = around.now - (job["lease_until"] - around.lease_seconds)
    if job["lease_until"] < around.now:
        clause = (
            f"its worker {job['worker']} has sent no heartbeat for {format_duration(age)}; the job will be rescued soon"
        )
        yield Reason("silent", clause, _where(job, age))
    elif around.has_begun:
        yield _doing(job, around, age)
    else:
        clause = f"{_on(job)} is starting, last heartbeat {format_duration(age)} ago"
        yield Reason("starting", clause, _where(job, age) | {"phase": "load"})
    if job["stop_requested"] == StopRequest.PREEMPT and job["makes_room_for"]:
        yield _requested(job, f"is being preempted by job {job['makes_room_for']} and will be resumed automatically")
    elif job["stop_requested"]:
        yield _requested(job, f"will {job['stop_requested']} at the end of its step, as requested")


def _doing(job: Row, around: ExplainContext, age: float) -> Reason:
    progress = job["progress"] or {}
    phase, step, total = progress.get("phase", "train"), progress.get("step"), progress.get("total_steps")
    at = "" if step is None else f" at step {step:,} of {total:,}" if total else f" at step {step:,}"
    clause = f"{_on(job)} is {_PHASES.get(phase, phase)}{at}, last heartbeat {format_duration(age)} ago"
    shown = {name: progress.get(name) for name in ("phase", "step", "total_steps", "epoch", "percent", "eta_seconds")}
    return Reason("doing", clause, _where(job, age) | shown)


def _on(job: Row) -> str:
    return f"attempt {job['fence']} on {job['worker']}"


def _where(job: Row, age: float) -> dict[str, Any]:
    return {"worker": job["worker"], "attempt": job["fence"], "heartbeat_age_seconds": round(max(0.0, age), 3)}


def _requested(job: Row, clause: str) -> Reason:
    fields = {"request": job["stop_requested"]}
    if job["stop_requested"] == StopRequest.PREEMPT:
        fields["makes_room_for"] = job["makes_room_for"]
    return Reason("stop_requested", f"it {clause}", fields)
