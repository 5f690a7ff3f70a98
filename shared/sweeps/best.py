"""What a sweep does with its best trial at the end: register its model, promote it, give a schedule its parameters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError
from sqlalchemy import Connection, select

from nightshift.errors import InvalidRequest, RequestError
from shared.db.schema import schedules, sweep_trials
from shared.jobs import transitions as job_transitions
from shared.models import editing
from shared.schedules import queries as schedule_queries
from shared.schedules import transitions as schedule_transitions
from shared.specs.jobs import job_spec_adapter
from shared.sweeps import transitions
from shared.sweeps.jobs import new_promoted, spec_of

#: Fields of a spec that a schedule takes from the best trial, beside those that the sweep varied.
_LEARNED = {"model", "training", "program", "params"}


def apply(conn: Connection, sweep: Any) -> None:
    """Do what `on_best` says with the best trial, and write what was done. Nothing that is refused stops the rest.

    After more trials it is done again only for another best trial, or if it was refused.
    """
    wanted = sweep.on_best
    if not (wanted.get("register_as") or wanted.get("schedule")):
        return
    mine = (sweep_trials.c.sweep_id == sweep.id, sweep_trials.c.number == sweep.best)
    trial = conn.execute(select(sweep_trials).where(*mine)).one()
    before = sweep.outcome or {}
    done = before if before.get("trial") == trial.number else {}
    outcome: dict[str, Any] = {"trial": trial.number, **{name: done[name] for name in done if name in _DONE}}
    for name, act, told in _ACTS:
        if not wanted.get(name) or any(one in outcome for one in told):
            continue
        try:
            with conn.begin_nested():
                outcome |= act(conn, sweep, trial, wanted)
        except (RequestError, ValidationError) as error:
            why = transitions.refused_because(error) if isinstance(error, RequestError) else str(error)
            outcome["refused"] = {**outcome.get("refused", {}), name: why[:500]}
    if outcome != before:
        transitions.write_outcome(conn, sweep.id, outcome)


def _registered(conn: Connection, sweep: Any, trial: Any, wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Register the trial's model, or submit the job that trains it once more and compares it with the champion."""
    name = wanted["register_as"]
    if wanted.get("promote"):
        submitted = job_transitions.submit(conn, new_promoted(sweep, trial.number, trial.params, wanted))
        return {"job_id": submitted.job_id}
    description = f"The best of {sweep.started} trials of sweep {sweep.id}: {sweep.metric} {trial.value:g}"
    owner = sweep.owner_id
    version = editing.register_job(conn, name, trial.job_id, owner, who=owner, description=description, tags={})
    return {"registered": f"{name}@{version}"}


def _scheduled(conn: Connection, sweep: Any, trial: Any, wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Give the schedule's jobs the best parameters; its names, data set and promotion stay."""
    reference = wanted["schedule"]
    schedule_id = schedule_queries.find_id(conn, reference, sweep.owner_id)
    job = conn.execute(select(schedules.c.job).where(schedules.c.id == schedule_id)).scalar_one()
    found = spec_of(sweep.job, sweep.pinned, trial.params).model_dump(mode="json")
    if found["kind"] != job["kind"]:
        message = f"its jobs are of the kind {job['kind']}, those of the sweep of {found['kind']}"
        raise InvalidRequest.field(("on_best", "schedule"), message)
    taken = {path.split(".")[0] for path in trial.params} | _LEARNED
    changed = {**job, **{name: found[name] for name in taken if name in found}}
    complete = job_spec_adapter.validate_python({**changed, "name": None, "tags": {}}).model_dump(mode="json")
    labelled = {**complete, "name": job.get("name"), "tags": job.get("tags") or {}}
    schedule_transitions.change(conn, schedule_id, sweep.owner_id, {"job": labelled})
    return {"schedule": reference}


#: What `on_best` may ask for, who does it, and under which names the outcome tells that it was done.
_ACTS = (("register_as", _registered, ("registered", "job_id")), ("schedule", _scheduled, ("schedule",)))
_DONE = {name for _, _, names in _ACTS for name in names}
