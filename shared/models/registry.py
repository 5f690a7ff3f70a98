"""The model registry: versions made when a job succeeds, aliases that point at them, references resolved.

A **model_ref** is `name` (= `name@champion`), `name@3`, `name@alias` or `job:<id>`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, func, select, text
from sqlalchemy import insert as plain_insert

from shared.clock import db_now, iso
from shared.db.engine import insert
from shared.db.schema import artifacts, jobs, model_aliases, model_versions
from shared.errors import InvalidRequest, NotFound

if TYPE_CHECKING:
    from shared.jobs.transitions.values import ModelVersionRecord

CHAMPION = "champion"
#: The artifact whose folder a model is loaded from.
WEIGHTS = "model/model.safetensors"


@dataclass(frozen=True)
class ResolvedModel:
    """Where a reference leads: the job whose artifacts hold the model."""

    job_id: str
    #: Folder of `model.safetensors` and `config.json`, relative to the storage root.
    folder: str
    family: str
    framework: str
    name: str | None = None
    version: int | None = None


def create_version(conn: Connection, job_id: str, record: ModelVersionRecord, at: float) -> int:
    """The next version of `record.name`; the first becomes its champion. Inside the transaction of `succeed`."""
    if conn.dialect.name == "postgresql":  # two jobs of one name may end at once; SQLite has one writer
        conn.execute(text("SELECT pg_advisory_xact_lock(hashtext(:name))"), {"name": f"model:{record.name}"})
    newest = conn.scalar(select(func.max(model_versions.c.version)).where(model_versions.c.name == record.name))
    version = (newest or 0) + 1
    row = {
        "name": record.name,
        "version": version,
        "job_id": job_id,
        "family": record.family,
        "framework": record.framework,
        "dataset": record.dataset,
        "parent": record.parent,
        "metrics": record.metrics,
        "created_at": at,
    }
    conn.execute(plain_insert(model_versions), row)
    alias = {"name": record.name, "alias": CHAMPION, "version": version, "updated_at": at}
    conn.execute(insert(conn, model_aliases).values(**alias).on_conflict_do_nothing())
    return version


def set_alias(conn: Connection, name: str, alias: str, version: int) -> None:
    """Point an alias at a version. Raises NotFound when there is no such version."""
    found = conn.scalar(
        select(model_versions.c.version).where(model_versions.c.name == name, model_versions.c.version == version)
    )
    if found is None:
        raise NotFound.of("model version", f"{name}@{version}")
    row = {"name": name, "alias": alias, "version": version, "updated_at": db_now()}
    changed = {"version": version, "updated_at": db_now()}
    statement = insert(conn, model_aliases).values(**row)
    conn.execute(statement.on_conflict_do_update(index_elements=["name", "alias"], set_=changed))


def resolve(conn: Connection, model_ref: str, owner_id: str | None = None) -> ResolvedModel:
    """Raises InvalidRequest (naming what there is) when the reference leads nowhere.

    `job:<id>` sees the owner's jobs only (unless `owner_id` is None) and may be shortened while unique.
    """
    if model_ref.startswith("job:"):
        return _of_job(conn, model_ref, owner_id)
    name, _, selector = model_ref.partition("@")
    version = _version(conn, name, selector or CHAMPION)
    row = conn.execute(
        select(model_versions.c.job_id, model_versions.c.family, model_versions.c.framework).where(
            model_versions.c.name == name, model_versions.c.version == version
        )
    ).one_or_none()
    if row is None:
        raise _unknown(conn, name, model_ref)
    return ResolvedModel(row.job_id, _folder(conn, row.job_id, model_ref), row.family, row.framework, name, version)


def _version(conn: Connection, name: str, selector: str) -> int | None:
    if selector.isascii() and selector.isdigit():
        return int(selector[:9])
    return conn.scalar(
        select(model_aliases.c.version).where(model_aliases.c.name == name, model_aliases.c.alias == selector)
    )


def _of_job(conn: Connection, model_ref: str, owner_id: str | None) -> ResolvedModel:
    prefix = model_ref.removeprefix("job:")
    statement = select(jobs.c.id, jobs.c.family, jobs.c.framework, jobs.c.state).where(
        jobs.c.id >= prefix, jobs.c.id < prefix + "g"
    )
    if owner_id is not None:
        statement = statement.where(jobs.c.owner_id == owner_id)
    rows = conn.execute(statement.limit(2)).all()
    if len(rows) != 1:
        why = "there is no such job" if not rows else "several jobs begin so; give more of the id"
        raise InvalidRequest.field(("model_ref",), f"{model_ref!r}: {why}")
    row = rows[0]
    if row.state != "succeeded":
        raise InvalidRequest.field(("model_ref",), f"{model_ref!r}: the job is {row.state}, it has no model yet")
    return ResolvedModel(row.id, _folder(conn, row.id, model_ref), row.family or "", row.framework or "")


def _folder(conn: Connection, job_id: str, model_ref: str) -> str:
    stored = conn.scalar(select(artifacts.c.stored_as).where(artifacts.c.job_id == job_id, artifacts.c.path == WEIGHTS))
    if stored is None:
        raise InvalidRequest.field(("model_ref",), f"{model_ref!r}: job {job_id} left no {WEIGHTS}")
    return str(stored).rpartition("/")[0]


def _unknown(conn: Connection, name: str, model_ref: str) -> InvalidRequest:
    known = conn.scalars(select(model_versions.c.name).distinct().order_by(model_versions.c.name).limit(20)).all()
    if name not in known:
        has = f"there are: {', '.join(known)}" if known else "no model is registered yet (submit with register_as)"
        return InvalidRequest.field(("model_ref",), f"there is no model {name!r}; {has}")
    aliases = conn.scalars(select(model_aliases.c.alias).where(model_aliases.c.name == name)).all()
    newest = conn.scalar(select(func.max(model_versions.c.version)).where(model_versions.c.name == name))
    return InvalidRequest.field(
        ("model_ref",), f"{model_ref!r}: {name} has versions 1 to {newest} and the aliases {', '.join(aliases)}"
    )


def list_models(conn: Connection) -> list[dict[str, Any]]:
    """One entry per name: newest version, number of versions, aliases, the champion's metrics."""
    found: dict[str, dict[str, Any]] = {}
    for version in conn.execute(select(model_versions).order_by(model_versions.c.name, model_versions.c.version)):
        entry = found.setdefault(version.name, {"name": version.name, "aliases": {}, "champion": None})
        entry |= {
            "family": version.family,
            "framework": version.framework,
            "latest_version": version.version,
            "updated_at": iso(version.created_at),
        }
    champion = (model_versions.c.name == model_aliases.c.name) & (model_versions.c.version == model_aliases.c.version)
    aliases = select(model_aliases.c.alias, model_versions).join(model_versions, champion)
    for row in conn.execute(aliases):
        found[row.name]["aliases"][row.alias] = row.version
        if row.alias == CHAMPION:
            found[row.name]["champion"] = {"version": row.version, "job_id": row.job_id, "metrics": row.metrics}
    return list(found.values())


def show_model(conn: Connection, name: str) -> dict[str, Any]:
    """All versions, newest first, and the aliases. Raises NotFound."""
    rows = conn.execute(
        select(model_versions).where(model_versions.c.name == name).order_by(model_versions.c.version.desc())
    ).all()
    if not rows:
        raise NotFound.of("model", name)
    aliases = conn.execute(select(model_aliases.c.alias, model_aliases.c.version).where(model_aliases.c.name == name))
    versions = [{**row._mapping, "created_at": iso(row.created_at)} for row in rows]
    return {"name": name, "aliases": {row.alias: row.version for row in aliases}, "versions": versions}
