"""Why a job is where it is: a pure decision. Facts in (`shared.jobs.queries.surroundings`), reasons and a sentence out.

Each reason has a code for programs, fields, and a clause for people. The reasons of the present come first, the decisive
one at their head, and make up the sentence; `attempt_ended`, the tries that did not count, follow, newest first.

waiting    dependency
queued     run_at, back_off, no_worker, no_suitable_worker, workers_busy, worker_free, room_is_made, jobs_ahead,
           stop_requested
running    doing, starting, silent, stop_requested
paused     paused
final      succeeded, failed, cancelled, dependency
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from shared.clock import iso, spelled
from shared.jobs.matching import Row, fits
from shared.jobs.states import AttemptOutcome, JobState, StopRequest

#: Tries that are told of; a job that was drained every night has many.
MAX_TRIES = 10


@dataclass(frozen=True)
class Surroundings:
    """What a job's state depends on besides its row. Times are the database's."""

    now: float
    lease_seconds: float = 30.0
    attempts: Sequence[Row] = ()  # newest first
    workers: Sequence[Row] = ()  # online ones
    ahead: int = 0  # due jobs that its workers would take first
    awaited: Sequence[tuple[str, str | None]] = ()  # (id, state) of the jobs it comes after; None: gone
    has_begun: bool = False  # the present attempt has told its progress
    victim: str | None = None  # the job that was asked to make room for it


@dataclass(frozen=True)
class Reason:
    code: str
    clause: str
    fields: dict[str, Any] = field(default_factory=dict)

    @property
    def sentence(self) -> str:
        return _sentence(self.clause)


@dataclass(frozen=True)
class Why:
    sentence: str
    reasons: list[Reason]


def explain(job: Row, around: Surroundings) -> Why:
    """`job`: its row in `jobs`."""
    state = JobState(job["state"])
    present = list(_PRESENT[state](job, around))
    return Why(_INTRODUCED[state](present), [*present, *_tries(job, around)])


def _sentence(text: str) -> str:
    text = " ".join(text.split())
    return f"{text[:1].upper()}{text[1:]}{'' if text.endswith(('.', '!', '?', '…')) else '.'}"


def _clauses(reasons: Sequence[Reason]) -> str:
    return "; ".join(reason.clause.rstrip(".") for reason in reasons)


# -- states in which nothing holds it -------------------------------------------------------------


def _waiting(job: Row, around: Surroundings) -> Iterator[Reason]:
    for job_id, state in around.awaited:
        if state != JobState.SUCCEEDED:
            yield Reason("dependency", f"job {job_id} is {state or 'gone'}", {"job_id": job_id, "state": state})


def _queued(job: Row, around: Surroundings) -> Iterator[Reason]:
    if job["stop_requested"] == StopRequest.FINISH:
        yield _requested(job, "was asked to finish, so it runs once more, only to end")
    if job["run_at"] > around.now:
        yield _not_yet(job, around)
        return
    fitting = [worker for worker in around.workers if fits(job, worker)]
    if fitting:
        yield _taken(fitting)
        if around.victim:
            clause = f"job {around.victim} was asked to make room for it and does so after a checkpoint"
            yield Reason("room_is_made", clause, {"job_id": around.victim})
        if around.ahead:
            jobs_are = "1 queued job is" if around.ahead == 1 else f"{around.ahead} queued jobs are"
            yield Reason("jobs_ahead", f"{jobs_are} ahead of it, by priority and waiting time", {"count": around.ahead})
    elif around.workers:
        yield _unsuited(job, around)
    else:
        clause = "no worker is online (`nightshift up` or `nightshift worker` starts one)"
        yield Reason("no_worker", clause, _wanted(job))


def _not_yet(job: Row, around: Surroundings) -> Reason:
    seconds = job["run_at"] - around.now
    until = {"until": iso(job["run_at"]), "seconds": round(seconds, 3)}
    last = around.attempts[0] if around.attempts else None
    if last is None or last["outcome"] not in _CHARGED:
        return Reason("run_at", f"it was asked not to start before {until['until']}, in {spelled(seconds)}", until)
    clause = f"it is tried again in {spelled(seconds)}, after attempt {last['fence']} ended {_how(last)}"
    fields = until | _attempt_fields(last) | {"retries": job["retries"], "max_retries": job["max_retries"]}
    return Reason("back_off", clause, fields | {"lost_streak": job["lost_streak"]})


#: Endings after which a job may have to wait before the next try.
_CHARGED = {
    outcome.value
    for outcome in (
        AttemptOutcome.JOB_ERROR,
        AttemptOutcome.OUT_OF_MEMORY,
        AttemptOutcome.CRASHED,
        AttemptOutcome.STALLED,
        AttemptOutcome.LOST,
    )
}


def _wanted(job: Row) -> dict[str, Any]:
    return {"device": job["device"], "framework": job["framework"]}


def _unsuited(job: Row, around: Surroundings) -> Reason:
    wanted = [f"device {job['device']}" if job["device"] != "auto" else "", job["framework"] or ""]
    online = len(around.workers)
    there = "the worker online does not have" if online == 1 else f"none of the {online} workers online has"
    clause = f"{there} what it needs: {' and '.join(filter(None, wanted))}"
    return Reason("no_suitable_worker", clause, _wanted(job) | {"workers_online": online})


def _taken(fitting: Sequence[Row]) -> Reason:
    busy = [{"name": worker["name"], "job_id": worker["job_id"]} for worker in fitting if worker["job_id"]]
    if len(busy) < len(fitting):
        free = [worker["name"] for worker in fitting if not worker["job_id"]]
        return Reason("worker_free", "a worker is free, so it should start within seconds", {"workers": free})
    shown = ", ".join(f"{worker['name']} with {worker['job_id']}" for worker in busy[:3])
    more = f" and {len(busy) - 3} more" if len(busy) > 3 else ""
    whole = "the only worker that can run it is busy" if len(busy) == 1 else "all workers that can run it are busy"
    return Reason("workers_busy", f"{whole} ({shown}{more})", {"workers": busy})


def _paused(job: Row, around: Surroundings) -> Iterator[Reason]:
    yield Reason("paused", f"it was asked to pause; `nightshift resume {job['id']}` puts it back in the queue")


# -- running --------------------------------------------------------------------------------------

#: Phases of a run (`worker.protocol.Progress.phase`) as people say them.
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


def _running(job: Row, around: Surroundings) -> Iterator[Reason]:
    heard = around.now - (job["lease_until"] - around.lease_seconds)
    if job["lease_until"] < around.now:
        clause = (
            f"its worker {job['worker']} has not been heard of for {spelled(heard)}; another one takes it over soon"
        )
        yield Reason("silent", clause, _where(job, heard))
    elif around.has_begun:
        yield _doing(job, around, heard)
    else:
        clause = f"{_on(job)} is starting, last heartbeat {spelled(heard)} ago"
        yield Reason("starting", clause, _where(job, heard) | {"phase": "load"})
    if job["stop_requested"] == StopRequest.PREEMPT and job["makes_room_for"]:
        yield _requested(job, f"was asked to make room for job {job['makes_room_for']}, and goes on later by itself")
    elif job["stop_requested"]:
        yield _requested(job, f"was asked to {job['stop_requested']} and does so at the end of its step")


def _doing(job: Row, around: Surroundings, heard: float) -> Reason:
    progress = job["progress"] or {}
    phase, step, total = progress.get("phase", "train"), progress.get("step"), progress.get("total_steps")
    at = "" if step is None else f" at step {step:,} of {total:,}" if total else f" at step {step:,}"
    clause = f"{_on(job)} is {_PHASES.get(phase, phase)}{at}, last heartbeat {spelled(heard)} ago"
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


# -- final ----------------------------------------------------------------------------------------


def _succeeded(job: Row, around: Surroundings) -> Iterator[Reason]:
    took = f" after {spelled(job['finished_at'] - job['started_at'])}" if job["started_at"] else ""
    yield Reason("succeeded", f"attempt {job['fence']} on {job['worker']} ended well{took}", _ended_at(job, around))


def _failed(job: Row, around: Surroundings) -> Iterator[Reason]:
    error = job["error"] or {"type": "unknown", "message": "no error was kept"}
    tries = f" after {job['fence']} attempts" if job["fence"] > 1 else ""
    yield Reason("failed", f"{error['type']}{tries}: {error['message']}", {"error": error} | _ended_at(job, around))
    yield from _waiting(job, around)


def _cancelled(job: Row, around: Surroundings) -> Iterator[Reason]:
    when = f"while attempt {job['fence']} ran" if job["fence"] and _last_cancelled(around) else "while nothing ran"
    yield Reason("cancelled", f"by request, {when}", _ended_at(job, around))


def _last_cancelled(around: Surroundings) -> bool:
    return bool(around.attempts) and around.attempts[0]["outcome"] == AttemptOutcome.CANCELLED


def _ended_at(job: Row, around: Surroundings) -> dict[str, Any]:
    ended = {"at": iso(job["finished_at"]), "attempt": job["fence"]}
    return ended | (_attempt_fields(around.attempts[0]) if around.attempts else {})


# -- the tries that did not count -----------------------------------------------------------------


def _tries(job: Row, around: Surroundings) -> Iterator[Reason]:
    """Crash, loss, preemption, drain, error. What a final job's own ending says is not said again."""
    told = around.attempts[1:] if JobState(job["state"]).is_final else around.attempts
    for attempt in [row for row in told if row["outcome"] is not None][:MAX_TRIES]:
        clause = f"attempt {attempt['fence']} on {attempt['worker']} ended {_how(attempt)}"
        yield Reason("attempt_ended", clause, _attempt_fields(attempt))


def _how(attempt: Row) -> str:
    message = (attempt["error"] or {}).get("message")
    shown = str(attempt["outcome"]).replace("_", " ")
    return f"{shown} ({message})" if message else shown


def _attempt_fields(attempt: Row) -> dict[str, Any]:
    names = ("worker", "outcome", "error", "exit_code", "signal", "peak_memory_bytes", "peak_device_memory_bytes")
    return {"attempt": attempt["fence"]} | {name: attempt[name] for name in names}


# -- by state -------------------------------------------------------------------------------------

_PRESENT = {
    JobState.WAITING: _waiting,
    JobState.QUEUED: _queued,
    JobState.RUNNING: _running,
    JobState.PAUSED: _paused,
    JobState.SUCCEEDED: _succeeded,
    JobState.FAILED: _failed,
    JobState.CANCELLED: _cancelled,
}


def _waits_for(reasons: Sequence[Reason]) -> str:
    count = len(reasons)
    if not count:
        return "It waits for other jobs, which have all succeeded; it is queued within seconds."
    return _sentence(f"it waits for {count} other job{'' if count == 1 else 's'}: {_clauses(reasons)}")


_INTRODUCED: dict[JobState, Callable[[Sequence[Reason]], str]] = {
    JobState.WAITING: _waits_for,
    JobState.QUEUED: lambda reasons: _sentence(f"it is queued: {_clauses(reasons)}"),
    JobState.RUNNING: lambda reasons: _sentence(f"it runs: {_clauses(reasons)}"),
    JobState.PAUSED: lambda reasons: _sentence(f"it is paused: {_clauses(reasons)}"),
    JobState.SUCCEEDED: lambda reasons: _sentence(f"it succeeded: {_clauses(reasons)}"),
    JobState.FAILED: lambda reasons: _sentence(f"it failed: {_clauses(reasons)}"),
    JobState.CANCELLED: lambda reasons: _sentence(f"it was cancelled {_clauses(reasons)}"),
}
