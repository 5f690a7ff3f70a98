"""Data sets for the data set pages: changes per version, jobs and models made from it, and what holds it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, func, or_, select

from nightshift.errors import NotFound
from shared.clock import iso
from shared.datasets import builtins, references, views
from shared.datasets.builtins import BUILTIN
from shared.db.counters import DATASETS, counted
from shared.db.schema import counters, dataset_versions, jobs, model_versions
from shared.jobs.ownership import of_owner
from shared.settings import Settings

#: Most versions, jobs and models of one data set in an answer.
VERSIONS, JOBS, MODELS = 50, 12, 12


def overview(conn: Connection, settings: Settings) -> list[dict[str, Any]]:
    """Return `views.list_datasets` with the number of jobs that name each set.

    Unregistered built-in sets have only their name and availability.
    """
    used = _jobs_by_name(conn)
    found = {item["name"]: {**item, "registered": True} for item in views.list_datasets(conn)}
    for name in BUILTIN:
        if name not in found:
            found[name] = _unregistered(settings, name)
    return [found[name] | {"jobs": used.get(name, 0)} for name in sorted(found)]


def _unregistered(settings: Settings, name: str) -> dict[str, Any]:
    availability = builtins.availability(settings, name)
    return {"name": name, "builtin": True, "registered": False, "availability": availability}


def _jobs_by_name(conn: Connection) -> Counter[str]:
    found: Counter[str] = Counter()
    for row in counted(conn, DATASETS, "label"):
        found[row.label.partition("@")[0]] += row.n
    return found


def detail(
    conn: Connection, settings: Settings, ref: str, owner_id: str | None, before: int | None = None
) -> dict[str, Any]:
    """Return everything about `name` or `name@3`, with its newest versions (of those before `before`).

    Jobs of other owners are left out. Raises NotFound.
    """
    name = ref.partition("@")[0]
    try:
        shown = views.show(conn, ref)
    except NotFound:
        if ref not in BUILTIN:
            raise
        return {**_unregistered(settings, ref), "versions": [], **_uses(conn, ref, owner_id)}
    return {
        **shown,
        "registered": True,
        "newest": shown["versions"][-1]["version"],
        "versions": versions(conn, name, before),
        **_uses(conn, name, owner_id),
    }


def versions(conn: Connection, name: str, before: int | None = None) -> list[dict[str, Any]]:
    """Return versions, newest first: size, rows, change to the previous one, jobs, models and holders."""
    table = dataset_versions.c
    within = (table.name == name) if before is None else (table.name == name) & (table.version < before)
    rows = conn.execute(
        select(dataset_versions).where(within).order_by(table.version.desc()).limit(VERSIONS + 1)
    ).mappings().all()  # fmt: skip
    used = _by_version(conn, name, jobs.c.pinned["dataset"].as_string(), _names(jobs.c.dataset, name))
    made = _by_version(conn, name, model_versions.c.dataset, _names(model_versions.c.dataset, name))
    held = references.holders(conn, name, [row["version"] for row in rows[:VERSIONS]])
    return [
        {
            **{key: row[key] for key in ("version", "sha256", "size_bytes")},
            "created_at": iso(row["created_at"]),
            "rows": _counts(row["summary"]),
            "change": change(rows[place + 1]["summary"], row["summary"]) if place + 1 < len(rows) else None,
            "jobs": used[row["version"]],
            "models": made[row["version"]],
            "held_by": held[row["version"]],
        }
        for place, row in enumerate(rows[:VERSIONS])
    ]


def _counts(summary: Mapping[str, Any]) -> dict[str, int]:
    return {part: facts["count"] for part, facts in summary["splits"].items()}


def change(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """Return {rows: {part: difference}, classes: [new ones], gone: [removed ones], tags: …, gone_tags: …}.

    Unchanged parts are left out.
    """
    before, after = _counts(old), _counts(new)
    rows = {part: after.get(part, 0) - before.get(part, 0) for part in [*after, *(before.keys() - after.keys())]}
    return {
        "rows": {part: difference for part, difference in rows.items() if difference},
        "classes": _without(new["classes"], old["classes"]),
        "gone": _without(old["classes"], new["classes"]),
        "tags": _without(new.get("tags", ()), old.get("tags", ())),
        "gone_tags": _without(old.get("tags", ()), new.get("tags", ())),
    }


def _without(names: Sequence[str], known: Sequence[str]) -> list[str]:
    return [name for name in names if name not in known]


def _names(column: ColumnElement[Any], name: str) -> ColumnElement[bool]:
    """Match `pets` and any `pets@3`."""
    return or_(column == name, column.startswith(f"{name}@", autoescape=True))


def _by_version(conn: Connection, name: str, ref: ColumnElement[Any], within: ColumnElement[bool]) -> Counter[int]:
    """Count the rows that name each version."""
    counted: Counter[int] = Counter()
    for found, count in conn.execute(select(ref, func.count()).where(within).group_by(ref)):
        if number := version_in(name, found):
            counted[number] += count
    return counted


def version_in(name: str, ref: str | None) -> int | None:
    """Return 3 for `pets@3`, or None if `ref` names no version of `name`."""
    before, _, number = (ref or "").partition("@")
    return int(number) if before == name and number.isascii() and number.isdigit() else None


def _uses(conn: Connection, name: str, owner_id: str | None) -> dict[str, Any]:
    every = counted(conn, DATASETS, "measure", where=_names(counters.c.label, name))
    return {
        "used": {"jobs": sum(row.n for row in every)},
        "jobs": _jobs(conn, name, owner_id),
        "models": _models(conn, name),
    }


def _jobs(conn: Connection, name: str, owner_id: str | None) -> list[dict[str, Any]]:
    """Return the newest jobs of this owner, with the version each reads (None until it starts)."""
    columns = (jobs.c.id, jobs.c.name, jobs.c.kind, jobs.c.family, jobs.c.state, jobs.c.created_at)
    pinned = jobs.c.pinned["dataset"].as_string().label("pinned")
    mine = (_names(jobs.c.dataset, name), of_owner(owner_id))
    newest = select(*columns, pinned).where(*mine).order_by(jobs.c.created_at.desc(), jobs.c.id).limit(JOBS)
    return [
        {
            **{key: row[key] for key in ("id", "name", "kind", "family", "state")},
            "version": version_in(name, row["pinned"]),
            "created_at": iso(row["created_at"]),
        }
        for row in conn.execute(newest).mappings()
    ]


def _models(conn: Connection, name: str) -> Sequence[dict[str, Any]]:
    table = model_versions.c
    newest = (
        select(table.name, table.version, table.family, table.dataset, table.created_at)
        .where(_names(table.dataset, name))
        .order_by(table.created_at.desc())
        .limit(MODELS)
    )
    return [
        {
            "name": row.name,
            "version": row.version,
            "family": row.family,
            "dataset_version": version_in(name, row.dataset),
            "created_at": iso(row.created_at),
        }
        for row in conn.execute(newest)
    ]
