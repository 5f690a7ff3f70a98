"""How a trial ended, from the row of its job."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from nightshift.states import JobState
from shared.jobs.states import StopRequest
from shared.sweeps.models import TrialState


@dataclass(frozen=True)
class Ended:
    """The end of a trial."""

    number: int
    state: TrialState
    value: float | None = None
    reason: str | None = None
    steps: int | None = None


def ended(row: Any, metric: str) -> Ended | None:
    """Return how a trial ended, or None while its job has not.

    `row` has `number` and `pruning` of the trial, and `job_state`, `stop_requested`, `result`, `error` and `progress`
    of its job, which are None if the job was deleted; `last` is the last point of the objective's curve, or None.
    """
    if row.job_state is None:
        return Ended(row.number, TrialState.FAILED, reason="its job was deleted")
    state, steps = JobState(row.job_state), (row.progress or {}).get("step")
    if state is JobState.CANCELLED:
        return Ended(row.number, TrialState.CANCELLED, reason="its job was cancelled", steps=steps)
    if state is JobState.FAILED:
        why = (row.error or {}).get("message") or "its job failed"
        return Ended(row.number, TrialState.FAILED, reason=str(why)[:500], steps=steps)
    if state is not JobState.SUCCEEDED:
        return None
    measured = ((row.result or {}).get("metrics") or {}).get(metric, row.last)
    if isinstance(measured, bool) or not isinstance(measured, int | float):
        return Ended(row.number, TrialState.FAILED, reason=f"its result has no metric {metric!r}", steps=steps)
    finished_early = row.pruning or row.stop_requested == StopRequest.FINISH.value
    done = TrialState.PRUNED if finished_early else TrialState.COMPLETE
    return Ended(row.number, done, float(measured), steps=steps)
