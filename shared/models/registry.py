"""Model registry: creates versions and resolves references. `aliases.py` moves the aliases.

A **model_ref** is `name` (= `name@champion`), `name@3`, `name@alias` or `job:<id>`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, func, select
from sqlalchemy import insert as plain_insert

from nightshift.errors import InvalidRequest, NotFound
from nightshift.metrics import is_of_steps
from shared.clock import iso
from shared.db.rows import existing
from shared.db.schema import (
    artifacts,
    dataset_versions,
    jobs,
    model_aliases,
    model_changes,
    model_descriptions,
    model_versions,
    models,
)
from shared.jobs.ownership import of_owner
from shared.models import aliases, ownership
from shared.models.visibility import without_foreign_jobs

if TYPE_CHECKING:
    from shared.jobs.transitions.values import ModelVersionRecord

CHAMPION = "champion"
#: The folder of artifacts that a model is loaded from.
MODEL = "model"
#: Most generations of fine-tuned models that are followed back.
_MOST_GENERATIONS = 20


@dataclass(frozen=True)
class ResolvedModel:
    """The target of a reference: the job whose artifacts hold the model."""

    job_id: str
    #: Folder of the model's files (of a family: `model.safetensors` and `config.json`), relative to the storage root.
    folder: str
    family: str
    framework: str
    name: str | None = None
    version: int | None = None


def create_version(conn: Connection, job_id: str, record: ModelVersionRecord, at: float, owner_id: str) -> int:
    """Create the next version of `record.name` in the caller's transaction; return its number.

    `owner_id` becomes the owner of a new name. The first version becomes the champion, unless a promotion decides that.
    Raises Forbidden; then nothing is written.
    """
    aliases.lock(conn, record.name)
    ownership.claim(conn, record.name, owner_id)
    version = _newest_ever(conn, record.name) + 1
    row = {name: value for name, value in vars(record).items() if name != "promotion"}
    conn.execute(plain_insert(model_versions), row | {"version": version, "job_id": job_id, "created_at": at})
    if not _decided_by_promotion(record) and aliases.current(conn, record.name, CHAMPION) is None:
        aliases.set_alias(conn, record.name, CHAMPION, version, who=f"job:{job_id}", why="the first version")
    return version


def _decided_by_promotion(record: ModelVersionRecord) -> bool:
    return record.promotion is not None and record.promotion.alias == CHAMPION


def _newest_ever(conn: Connection, name: str) -> int:
    """Return the highest version number ever assigned; numbers of deleted versions are not reused."""
    newest = conn.scalar(select(func.max(model_versions.c.version)).where(model_versions.c.name == name))
    deletions = (model_changes.c.name == name, model_changes.c.change == "delete")
    deleted = conn.scalar(select(func.max(model_changes.c.from_version)).where(*deletions))
    return max(newest or 0, deleted or 0)


def resolve(conn: Connection, model_ref: str, owner_id: str | None = None) -> ResolvedModel:
    """Resolve a model reference. Raises InvalidRequest, listing the existing models or versions.

    `job:<id>` is limited to the owner's jobs (`owner_id` None: all), and any unique prefix of the id will do.
    """
    if model_ref.startswith("job:"):
        return _of_job(conn, model_ref, owner_id)
    name, _, selector = model_ref.partition("@")
    version = selected(conn, name, selector or CHAMPION)
    table = model_versions.c
    this = (table.name == name, table.version == version)
    row = conn.execute(select(table.job_id, table.family, table.framework).where(*this)).one_or_none()
    if row is None:
        raise _unknown(conn, name, model_ref)
    return ResolvedModel(row.job_id, _folder(conn, row.job_id, model_ref), row.family, row.framework, name, version)


def selected(conn: Connection, name: str, selector: str) -> int | None:
    """Return the version that a number or an alias names; a number need not exist, an unknown alias gives None."""
    if selector.isascii() and selector.isdigit():
        return int(selector[:9])
    return aliases.current(conn, name, selector)


def _of_job(conn: Connection, model_ref: str, owner_id: str | None) -> ResolvedModel:
    prefix = model_ref.removeprefix("job:")
    statement = select(jobs.c.id, jobs.c.family, jobs.c.framework, jobs.c.state).where(
        jobs.c.id >= prefix, jobs.c.id < prefix + "g", of_owner(owner_id)
    )
    rows = conn.execute(statement.limit(2)).all()
    if len(rows) != 1:
        why = "there is no such job" if not rows else "the id is ambiguous; give more of its characters"
        raise InvalidRequest.field(("model_ref",), f"{model_ref!r}: {why}")
    row = rows[0]
    if row.state != "succeeded":
        raise InvalidRequest.field(("model_ref",), f"{model_ref!r}: the job is {row.state} and has no model")
    return ResolvedModel(row.id, _folder(conn, row.id, model_ref), row.family or "", row.framework or "")


def _folder(conn: Connection, job_id: str, model_ref: str) -> str:
    """Return the folder of a job's model, that of the newest attempt. Files of programs' models have any names."""
    files = (artifacts.c.job_id == job_id, artifacts.c.path.startswith(f"{MODEL}/"))
    newest = select(artifacts.c.path, artifacts.c.stored_as).where(*files).order_by(artifacts.c.fence.desc()).limit(1)
    row = conn.execute(newest).one_or_none()
    if row is None:
        raise InvalidRequest.field(("model_ref",), f"{model_ref!r}: job {job_id} has no artifacts in {MODEL}/")
    return str(row.stored_as).removesuffix(row.path) + MODEL


def maker_of(conn: Connection, job_id: str) -> dict[str, Any]:
    """Return `plugin`, what a model's job has pinned of its family's package, if it has."""
    pinned = conn.scalar(select(jobs.c.pinned).where(jobs.c.id == job_id)) or {}
    return {"plugin": pinned["plugin"]} if "plugin" in pinned else {}


def spec_of(conn: Connection, job_id: str) -> dict[str, Any] | None:
    """Return the model spec of a job's model: its own, or that of the model it was fine-tuned from.

    Returns None if a job in between was deleted.
    """
    for _ in range(_MOST_GENERATIONS):
        row = conn.execute(select(jobs.c.spec, jobs.c.pinned).where(jobs.c.id == job_id)).one_or_none()
        if row is None or "model" in row.spec:
            return dict(row.spec["model"]) if row else None
        parent = row.pinned.get("parent") or {}
        ref = f"{parent['name']}@{parent['version']}" if parent.get("name") else parent.get("ref", "")
        try:
            job_id = resolve(conn, ref).job_id
        except InvalidRequest:
            return None
    return None


def classes_of(conn: Connection, job_id: str) -> list[str] | None:
    """Return the classes of a job's model, from its training data; None if they are unknown."""
    ref = conn.scalar(select(jobs.c.pinned["dataset"].as_string()).where(jobs.c.id == job_id))
    if ref is None:
        return None
    name, _, version = ref.partition("@")
    this = (dataset_versions.c.name == name, dataset_versions.c.version == int(version))
    summary = conn.scalar(select(dataset_versions.c.summary).where(*this))
    return list(summary["classes"]) if summary else None


def _unknown(conn: Connection, name: str, model_ref: str) -> InvalidRequest:
    known = conn.scalars(select(model_versions.c.name).distinct().order_by(model_versions.c.name).limit(20)).all()
    if name not in known:
        hint = f"models: {', '.join(known)}" if known else "no model is registered yet (submit a job with register_as)"
        return InvalidRequest.field(("model_ref",), f"there is no model {name!r}; {hint}")
    named = conn.scalars(select(model_aliases.c.alias).where(model_aliases.c.name == name)).all()
    newest = conn.scalar(select(func.max(model_versions.c.version)).where(model_versions.c.name == name))
    return InvalidRequest.field(
        ("model_ref",),
        f"{model_ref!r} does not exist; {name} has versions 1 to {newest} and aliases {', '.join(named)}",
    )


def list_models(conn: Connection, owner_id: str | None = None) -> list[dict[str, Any]]:
    """Return one entry per model: newest version, aliases, the champion's metrics. For `job_id` see visibility.py."""
    found: dict[str, dict[str, Any]] = {}
    owned = {row.name: row.owner_id for row in conn.execute(select(models.c.name, models.c.owner_id))}
    for version in conn.execute(select(model_versions).order_by(model_versions.c.name, model_versions.c.version)):
        entry = found.setdefault(
            version.name, {"name": version.name, "owner_id": owned.get(version.name), "aliases": {}, "champion": None}
        )
        entry |= {
            "family": version.family,
            "framework": version.framework,
            "latest_version": version.version,
            "updated_at": iso(version.created_at),
        }
    champion = (model_versions.c.name == model_aliases.c.name) & (model_versions.c.version == model_aliases.c.version)
    pointed_at = select(model_aliases.c.alias, model_versions).join(model_versions, champion)
    for row in conn.execute(pointed_at):
        found[row.name]["aliases"][row.alias] = row.version
        if row.alias == CHAMPION:
            found[row.name]["champion"] = {"version": row.version, "job_id": row.job_id, "metrics": row.metrics}
    without_foreign_jobs(conn, [model["champion"] for model in found.values() if model["champion"]], owner_id)
    return list(found.values())


def show_model(conn: Connection, name: str, owner_id: str | None = None) -> dict[str, Any]:
    """Return a model with its versions, newest first, and aliases. For `job_id` see visibility.py. Raises NotFound."""
    rows = conn.execute(
        select(model_versions).where(model_versions.c.name == name).order_by(model_versions.c.version.desc())
    ).all()
    if not rows:
        raise NotFound.of("model", name)
    named = conn.execute(select(model_aliases.c.alias, model_aliases.c.version).where(model_aliases.c.name == name))
    versions = [{**row._mapping, "created_at": iso(row.created_at)} for row in rows]
    without_foreign_jobs(conn, versions, owner_id)
    return {
        "name": name,
        "owner_id": ownership.owner_of(conn, name),
        "description": description(conn, name),
        "aliases": {row.alias: row.version for row in named},
        "versions": versions,
    }


def show_version(conn: Connection, name: str, version: int, owner_id: str | None = None) -> dict[str, Any]:
    """Return one version. For `job_id` see visibility.py. Raises NotFound."""
    this = (model_versions.c.name == name, model_versions.c.version == version)
    row = conn.execute(select(model_versions).where(*this)).one_or_none()
    row = existing(row, "model version", f"{name}@{version}")
    shown = {**row._mapping, "created_at": iso(row.created_at)}
    without_foreign_jobs(conn, [shown], owner_id)
    return shown


def description(conn: Connection, name: str) -> str | None:
    """Return the description of a model, or None."""
    return conn.scalar(select(model_descriptions.c.description).where(model_descriptions.c.name == name))


def compare(conn: Connection, name: str, first: str, second: str, owner_id: str | None = None) -> dict[str, Any]:
    """Compare the metrics of two versions (numbers or aliases). Raises NotFound.

    Differences are meaningful only if both were measured on the same data set version (`same_dataset`).
    """
    shown = show_model(conn, name, owner_id)
    a, b = (_chosen(shown, selector) for selector in (first, second))
    numbers = {key: (a["metrics"].get(key), b["metrics"].get(key)) for key in [*a["metrics"], *b["metrics"]]}
    return {
        "name": name,
        "a": a,
        "b": b,
        "same_dataset": a["dataset"] is not None and a["dataset"] == b["dataset"],
        "metrics": {key: _side_by_side(key, *pair) for key, pair in numbers.items()},
    }


def _chosen(shown: dict[str, Any], selector: str) -> dict[str, Any]:
    number = int(selector[:9]) if selector.isascii() and selector.isdigit() else shown["aliases"].get(selector)
    for version in shown["versions"]:
        if version["version"] == number:
            return dict(version)
    raise NotFound.of("model version", f"{shown['name']}@{selector}")


def _side_by_side(name: str, a: Any, b: Any) -> dict[str, Any]:
    """Return two values and their difference, except for metrics of single steps, which do not describe a model."""
    both = not is_of_steps(name) and is_number(a) and is_number(b)
    return {"a": a, "b": b, "difference": b - a if both else None}


def is_number(value: Any) -> bool:
    """Return whether a metric's value is a number; JSON's true and false are none."""
    return isinstance(value, int | float) and not isinstance(value, bool)
