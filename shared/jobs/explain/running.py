"""What a running job does, or why it does nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from shared.clock import format_duration
from shared.jobs.eligibility import Row
from shared.jobs.explain.values import ExplainContext, Reason
from shared.jobs.states import StopRequest

#: Phases of a run (`worker.runners.messages.Progress.phase`) as people say them.
_PHASES = {
    "device": "waiting for its device, which a process of an earlier attempt still holds,",
    "load": "loading its data and weights",
    "first_step": "preparing its first step",
    "train": "training",
    "infer": "computing predictions",
    "validate": "validating",
    "checkpoint": "writing a checkpoint",
    "evaluate": "evaluating",
    "figures": "drawing figures",
    "write": "writing its results",
}


def running(job: Row, around: ExplainContext) -> Iterator[Reason]:
    heard = around.now - (job["lease_until"] - around.lease_seconds)
    if job["lease_until"] < around.now:
        clause = f"its worker {job['worker']} has not been heard of for {format_duration(heard)}; another one takes it over soon"
        yield Reason("silent", clause, _where(job, heard))
    elif around.has_begun:
        yield _doing(job, around, heard)
    else:
        clause = f"{_on(job)} is starting, last heartbeat {format_duration(heard)} ago"
        yield Reason("starting", clause, _where(job, heard) | {"phase": "load"})
    if job["stop_requested"] == StopRequest.PREEMPT and job["makes_room_for"]:
        yield _requested(job, f"was asked to make room for job {job['makes_room_for']}, and goes on later by itself")
    elif job["stop_requested"]:
        yield _requested(job, f"was asked to {job['stop_requested']} and does so at the end of its step")


def _doing(job: Row, around: ExplainContext, heard: float) -> Reason:
    progress = job["progress"] or {}
    phase, step, total = progress.get("phase", "train"), progress.get("step"), progress.get("total_steps")
    at = "" if step is None else f" at step {step:,} of {total:,}" if total else f" at step {step:,}"
    clause = f"{_on(job)} is {_PHASES.get(phase, phase)}{at}, last heartbeat {format_duration(heard)} ago"
    shown = {name: progress.get(name) for name in ("phase", "step", "total_steps", "epoch", "percent", "eta_seconds")}
    return Reason("doing", clause, _where(job, heard) | shown)


def _on(job: Row) -> str:
    return f"attempt {job['fence']} on {job['worker']}"


def _where(job: Row, heard: float) -> dict[str, Any]:
    return {"worker": job["worker"], "attempt": job["fence"], "heartbeat_age_seconds": round(max(0.0, heard), 3)}


def _requested(job: Row, clause: str) -> Reason:
    fields = {"request": job["stop_requested"]}
    if job["stop_requested"] == StopRequest.PREEMPT:
        fields["makes_room_for"] = job["makes_room_for"]
    return Reason("stop_requested", f"it {clause}", fields)
