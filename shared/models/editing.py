"""Manual changes of the registry: versions from finished jobs, descriptions, tags; each with an audit log entry."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, select, update
from sqlalchemy import delete as delete_from

from nightshift.errors import Conflict, InvalidRequest, NotFound
from shared.clock import db_now, read_clock
from shared.db.engine import insert
from shared.db.schema import model_descriptions, model_versions
from shared.jobs import queries
from shared.models import aliases, registry

#: Most tags of a version, and characters of a new description kept in the audit log.
_MAX_TAGS, _KEPT = 50, 200


def register_job(conn: Connection, name: str, job_id: str, owner_id: str | None, *, who: str, **labels: Any) -> int:
    """Register the model of a finished job; `labels`: description, tags. The first version becomes the champion.

    Raises Forbidden; NotFound (no such job); InvalidRequest (no model); Conflict (already a version of this name).
    """
    from shared.jobs.transitions.values import ModelVersionRecord  # its package imports the registry

    job = queries.get_job(conn, job_id, owner_id)
    _has_model(conn, job_id, owner_id)
    aliases.lock_for(conn, name, who)
    this = (model_versions.c.name == name, model_versions.c.job_id == job_id)
    existing = conn.scalar(select(model_versions.c.version).where(*this))
    if existing is not None:
        raise Conflict(f"Job {job_id} is already registered as {name}@{existing}.")
    result, pinned = job["result"] or {}, job["pinned"]
    model = result.get("model") or {}
    record = ModelVersionRecord(
        name=name,
        family=model.get("family") or job["family"] or pinned.get("family") or "",
        framework=model.get("framework") or job["framework"] or "",
        dataset=pinned.get("dataset"),
        parent=(pinned.get("parent") or {}).get("ref"),
        metrics=result.get("metrics") or {},
        **labels,
    )
    version = registry.create_version(conn, job_id, record, read_clock(conn), who)
    aliases.audit(conn, name, "register", to_version=version, who=who, why=f"from job {job_id}")
    return version


def _has_model(conn: Connection, job_id: str, owner_id: str | None) -> None:
    try:
        registry.resolve(conn, f"job:{job_id}", owner_id)
    except InvalidRequest as error:
        raise InvalidRequest.field(("job",), error.errors[0].msg) from None


def describe(conn: Connection, name: str, description: str | None, *, who: str) -> None:
    """Set the description of a model; None or empty removes it. Raises Forbidden, NotFound."""
    aliases.lock_for(conn, name, who)
    if not aliases.is_known(conn, name):
        raise NotFound.of("model", name)
    if (description or None) == registry.description(conn, name):
        return
    if description:
        row = {"description": description, "updated_at": db_now()}
        statement = insert(conn, model_descriptions).values(name=name, **row)
        conn.execute(statement.on_conflict_do_update(index_elements=["name"], set_=row))
    else:
        conn.execute(delete_from(model_descriptions).where(model_descriptions.c.name == name))
    aliases.audit(conn, name, "describe", who=who, why=_kept(description))


def change_version(conn: Connection, name: str, version: int, changes: Mapping[str, Any], *, who: str) -> None:
    """Change the `description` and `tags` (None removes one) of a version; fields not given stay.

    Raises Forbidden, NotFound, InvalidRequest.
    """
    aliases.lock_for(conn, name, who)
    this = aliases.require_version(conn, name, version)
    row = conn.execute(select(model_versions.c.description, model_versions.c.tags).where(this)).one()
    wanted = dict(changes)
    if "description" in wanted:
        wanted["description"] = wanted["description"] or None
    if "tags" in wanted:
        wanted["tags"] = _merged(row.tags, wanted["tags"])
    new = {field: value for field, value in wanted.items() if getattr(row, field) != value}
    if not new:
        return
    conn.execute(update(model_versions).where(this).values(**new))
    tags = ", ".join(f"{key}={value}" for key, value in new["tags"].items()) if "tags" in new else None
    summary = [
        _kept(new["description"]) if "description" in new else None,
        f"tags: {tags or 'none'}" if "tags" in new else None,
    ]
    why = "; ".join(filter(None, summary))[:500] or None
    aliases.audit(conn, name, "describe", to_version=version, who=who, why=why)


def _merged(before: Mapping[str, str], changes: Mapping[str, str | None]) -> dict[str, str]:
    merged = {key: value for key, value in {**before, **changes}.items() if value is not None}
    if len(merged) > _MAX_TAGS:
        raise InvalidRequest.field(("tags",), f"a version may have at most {_MAX_TAGS} tags, not {len(merged)}")
    return merged


def _kept(description: str | None) -> str | None:
    """Return a description for the audit log: one line, shortened."""
    text = " ".join((description or "").split())
    return text if len(text) <= _KEPT else f"{text[: _KEPT - 1]}…"
