"""comparison: results and settings of several jobs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, select

from nightshift.metrics import result_sense
from shared.clock import iso
from shared.db.schema import artifacts, curve_summaries, jobs
from shared.fleet.keys import owner_names
from shared.jobs.ownership import of_owner
from shared.jobs.queries.columns import leaves

_SHOWN_AS_IS = ("id", "kind", "name", "state", "family", "framework", "dataset", "priority", "tags", "event_seq")
#: Media types of artifacts that the page shows next to each other.
_PICTURES = ("image/png", "image/jpeg")
#: Fields of a spec that are not settings.
_LABELS = ("name", "tags", "kind", "priority", "run_at", "after", "dataset")


def comparison(conn: Connection, job_ids: Sequence[str], owner_id: str | None) -> list[dict[str, Any]]:
    """Return jobs in the order of `job_ids`; missing ones are left out.

    `results`: metrics of the result, else the last value of a curve; `best`: the best value of each validation curve;
    `settings`: the spec by path; `pictures`: paths of artifacts.
    """
    statement = select(jobs).where(jobs.c.id.in_(job_ids), of_owner(owner_id))
    rows = {row["id"]: row for row in conn.execute(statement).mappings()}
    ends, pictures = _curve_ends(conn, list(rows)), _pictures(conn, list(rows))
    names = owner_names(conn, {row["owner_id"] for row in rows.values()})
    return [
        _view(rows[job_id], ends.get(job_id, []))
        | {"who": names.get(rows[job_id]["owner_id"], rows[job_id]["owner_id"]), "pictures": pictures.get(job_id, [])}
        for job_id in dict.fromkeys(job_ids)
        if job_id in rows
    ]


def _curve_ends(conn: Connection, job_ids: list[str]) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for row in conn.execute(select(curve_summaries).where(curve_summaries.c.job_id.in_(job_ids))):
        found.setdefault(row.job_id, []).append(row)
    return found


def _pictures(conn: Connection, job_ids: list[str]) -> dict[str, list[str]]:
    chosen = (artifacts.c.job_id.in_(job_ids), artifacts.c.media_type.in_(_PICTURES))
    found: dict[str, list[str]] = {}
    for row in conn.execute(select(artifacts.c.job_id, artifacts.c.path).where(*chosen).order_by(artifacts.c.path)):
        found.setdefault(row.job_id, []).append(row.path)
    return found


def _view(row: Mapping[Any, Any], ends: Sequence[Any]) -> dict[str, Any]:
    spec = row["spec"] or {}
    measured = (row["result"] or {}).get("metrics") or {}
    figures = {name: value for name, value in measured.items() if isinstance(value, int | float)}
    senses = {end.name: result_sense(end.name) for end in ends}
    better = {end.name: end.highest if senses[end.name] == "max" else end.lowest for end in ends if senses[end.name]}
    return {
        **{column: row[column] for column in _SHOWN_AS_IS},
        "model": (spec.get("model") or {}).get("preset") or spec.get("model_ref"),
        **{name: iso(row[name]) for name in ("created_at", "started_at", "finished_at")},
        "results": {end.name: end.last for end in ends} | figures,
        "best": better,
        "settings": leaves({name: value for name, value in spec.items() if name not in _LABELS}),
    }
