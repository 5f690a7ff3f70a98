"""The data of a job's page, except curves and log, read in one transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection

from nightshift.states import JobState
from shared.clock import iso
from shared.fleet.keys import owner_names
from shared.jobs import queries
from shared.jobs.explain import explain
from shared.jobs.states import StopRequest

#: Stop requests of users, in the order of the buttons.
_USER_REQUESTS = (StopRequest.PAUSE, StopRequest.FINISH, StopRequest.CANCEL)


def overview(conn: Connection, job_id: str, owner: str | None, lease_seconds: float) -> dict[str, Any]:
    """Return {job, seq, now, who, why, actions, attempts, timeline, checkpoints, artifacts, shards}.

    Raises NotFound.
    """
    row = queries.get_job(conn, job_id, owner)
    around = queries.explain_context(conn, row, lease_seconds)
    found = explain(row, around)
    attempts = queries.attempts(conn, job_id)[::-1]
    return {
        "job": queries.job_view(row),
        "seq": row["event_seq"],
        "now": iso(around.now),
        "who": owner_names(conn, {row["owner_id"]}).get(row["owner_id"], row["owner_id"]),
        "why": {"sentence": found.sentence, "reasons": [reason.sentence for reason in found.reasons]},
        "actions": actions(row),
        "attempts": attempts,
        "timeline": timeline(queries.state_events(conn, job_id), attempts),
        "checkpoints": queries.checkpoints(conn, job_id),
        "artifacts": queries.artifacts(conn, job_id),
        "shards": queries.list_shards(conn, job_id) if "shards" in row["pinned"] else [],
    }


def actions(row: Mapping[Any, Any]) -> list[str]:
    """Return the actions that the job's state allows, as decided in `transitions.requests` and `archiving`."""
    state, requested = JobState(row["state"]), row["stop_requested"]
    if row["part_of"] is not None:
        return []
    if state is JobState.WAITING and "shards" in row["pinned"]:
        has_begun = row["progress"] is not None
        return ["pause", *(["finish"] if has_begun else []), "cancel"]
    if state.is_final:
        return ["archive" if row["archived_at"] is None else "unarchive", "delete"]
    if state is JobState.RUNNING:
        pending = StopRequest(requested) if requested else None
        return [request.value for request in _USER_REQUESTS if request.outranks(pending)]
    moves = {JobState.QUEUED: ["pause"], JobState.PAUSED: ["resume"]}.get(state, [])
    return [*moves, *(["finish"] if row["checkpoint_id"] else []), "cancel"]


def timeline(events: Sequence[Mapping[str, Any]], attempts: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the job's states over time: {state, from, to, attempt, outcome}; `to` is None for the current one."""
    outcomes = {attempt["attempt"]: attempt["outcome"] for attempt in attempts}
    ends = [event["at"] for event in events[1:]] + [None]
    stretches = [
        {
            "state": event["data"].get("state"),
            "from": event["at"],
            "to": end,
            "attempt": event["attempt"],
            "outcome": outcomes.get(event["attempt"]) if event["data"].get("state") == "running" else None,
        }
        for event, end in zip(events, ends, strict=True)
    ]
    return [stretch for stretch in stretches if stretch["state"] and not JobState(stretch["state"]).is_final]
