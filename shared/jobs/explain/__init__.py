"""Explain a job's state: a pure function from facts (`shared.jobs.queries.explain_context`) to reasons and a sentence.

Each reason has a code for programs, fields, and a clause of text. The reasons for the current state come first, the
most important one at the front, and form the sentence; `attempt_ended`, unsuccessful attempts, follow, newest first.

waiting    dependency, shard, queued_shard
queued     run_at, back_off, no_worker, no_suitable_worker, no_device, gang_waits, device_failed, disk_full,
           not_listening, workers_busy, devices_kept, worker_free, room_is_made, jobs_ahead, stop_requested
running    doing, starting, silent, stop_requested
paused     paused
final      succeeded, failed, cancelled, dependency
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from nightshift.states import JobState
from shared.jobs.eligibility import Row
from shared.jobs.explain import ended, running, waiting
from shared.jobs.explain.values import MAX_TRIES, MOST_AHEAD, ExplainContext, Reason, Why, clauses, sentence

__all__ = ["MAX_TRIES", "MOST_AHEAD", "ExplainContext", "Reason", "Why", "explain"]


def explain(job: Row, around: ExplainContext) -> Why:
    """Explain the state of `job`, a row of `jobs`."""
    state = JobState(job["state"])
    present = list(_PRESENT[state](job, around))
    introduced = _divided if state is JobState.WAITING and around.shards else _INTRODUCED[state]
    return Why(introduced(present), [*present, *ended.tries(job, around)])


_PRESENT = {
    JobState.WAITING: waiting.waiting,
    JobState.QUEUED: waiting.queued,
    JobState.RUNNING: running.running,
    JobState.PAUSED: waiting.paused,
    JobState.SUCCEEDED: ended.succeeded,
    JobState.FAILED: ended.failed,
    JobState.CANCELLED: ended.cancelled,
}


def _divided(reasons: Sequence[Reason]) -> str:
    count = sum(reason.code == "shard" for reason in reasons)
    if not count:
        return "Its shards have all succeeded; it will be queued within seconds to merge what they left."
    return sentence(f"it is waiting for {count} of its shards: {clauses(reasons)}")


def _waits_for(reasons: Sequence[Reason]) -> str:
    count = len(reasons)
    if not count:
        return "It is waiting for other jobs, which have all succeeded; it will be queued within seconds."
    return sentence(f"it is waiting for {count} other job{'' if count == 1 else 's'}: {clauses(reasons)}")


_INTRODUCED: dict[JobState, Callable[[Sequence[Reason]], str]] = {
    JobState.WAITING: _waits_for,
    JobState.QUEUED: lambda reasons: sentence(f"it is queued: {clauses(reasons)}"),
    JobState.RUNNING: lambda reasons: sentence(f"it is running: {clauses(reasons)}"),
    JobState.PAUSED: lambda reasons: sentence(f"it is paused: {clauses(reasons)}"),
    JobState.SUCCEEDED: lambda reasons: sentence(f"it succeeded: {clauses(reasons)}"),
    JobState.FAILED: lambda reasons: sentence(f"it failed: {clauses(reasons)}"),
    JobState.CANCELLED: lambda reasons: sentence(f"it was cancelled {clauses(reasons)}"),
}
