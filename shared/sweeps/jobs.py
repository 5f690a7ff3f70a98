"""The job of a trial: the sweep's spec with the trial's parameters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from shared.jobs.transitions import NewJob
from shared.specs.jobs import AnyJob, FinetuneJob, job_spec_adapter, with_training_defaults
from shared.sweeps import space

#: Key of a job's `pinned` with its sweep and the number of its trial.
PINNED = "sweep"
#: Longest name of a job (characters).
_LONGEST = 200


def spec_of(job: Mapping[str, Any], pinned: Mapping[str, Any], values: Mapping[str, Any]) -> AnyJob:
    """Return the complete spec of a job with these parameters. Raises InvalidRequest, pydantic's ValidationError."""
    spec = job_spec_adapter.validate_python(space.assigned(job, values))
    return with_training_defaults(spec, pinned["family"]) if isinstance(spec, FinetuneJob) else spec


def new_trial(sweep: Any, number: int, values: Mapping[str, Any]) -> NewJob:
    """Return the job of a trial. Raises InvalidRequest, pydantic's ValidationError."""
    spec = spec_of(sweep.job, sweep.pinned, values)
    named = spec.model_copy(update={"name": _named(sweep, f"trial {number}")})
    return NewJob(sweep.owner_id, named, pinned={**sweep.pinned, PINNED: {"id": sweep.id, "number": number}})


def new_promoted(sweep: Any, number: int, values: Mapping[str, Any], on_best: Mapping[str, Any]) -> NewJob:
    """Return the job that trains once more with the best parameters, registers its model and compares it."""
    chosen = {"register_as": on_best["register_as"], "promote": on_best["promote"]}
    spec = spec_of({**sweep.job, **chosen}, sweep.pinned, values)
    named = spec.model_copy(update={"name": _named(sweep, f"best, as trial {number}")})
    return NewJob(sweep.owner_id, named, pinned=dict(sweep.pinned))


def _named(sweep: Any, what: str) -> str:
    base = sweep.name or sweep.job.get("name") or f"sweep {sweep.id[:8]}"
    return f"{base[: _LONGEST - len(what) - 3]} · {what}"
