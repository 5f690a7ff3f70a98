"""Models for the model pages: metrics and origin of each version, and comparisons."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, select

from nightshift.errors import NotFound
from nightshift.metrics import result_sense
from shared.clock import iso
from shared.db.schema import jobs, model_aliases, model_versions, schedule_ticks, schedules
from shared.fleet.keys import owner_names
from shared.models import ownership, registry
from shared.models.registry import is_number
from shared.specs.families import FAMILIES

#: Newest versions in the curve of a row in the list.
CURVE = 40
#: Most versions of a model in an answer, and points of a curve over all of them.
VERSIONS, POINTS = 25, 200


def senses(family: str, names: Sequence[str]) -> dict[str, str | None]:
    """Return `max` or `min` for each metric, whichever is better, or None (a speed, a loss of the last batches).

    Ordered by relevance: metrics that the family is judged by, then others with a sense (training metrics last), then
    the rest.
    """
    judged = FAMILIES[family].judged_by if family in FAMILIES else ()
    found = {name: result_sense(name) for name in names}
    sensed = sorted((name for name, sense in found.items() if sense), key=lambda name: name.startswith("train_"))
    order = [*judged, *sensed, *names]
    return {name: found[name] for name in dict.fromkeys(order) if name in found}


def headline(family: str, names: Sequence[str]) -> str | None:
    """Return the main metric of the versions: the first one of `senses` that has a sense."""
    return next((name for name, sense in senses(family, names).items() if sense), None)


def overview(conn: Connection, owner_id: str | None = None) -> list[dict[str, Any]]:
    """Return `list_models` for an owner, with the number of versions and the headline metric of the newest ones."""
    metrics: dict[str, list[Any]] = {}
    table = model_versions.c
    ordered = select(table.name, table.version, table.metrics).order_by(table.name, table.version)
    for row in conn.execute(ordered):
        metrics.setdefault(row.name, []).append((row.version, row.metrics))
    return [model | _summary(model, metrics.get(model["name"], [])) for model in registry.list_models(conn, owner_id)]


def _summary(model: Mapping[str, Any], versions: list[Any]) -> dict[str, Any]:
    newest = versions[-CURVE:]
    name = headline(model["family"], _names(measured for _, measured in newest))
    points = [(version, measured[name]) for version, measured in newest if name and is_number(measured.get(name))]
    return {"versions": len(versions), "metric": name, "points": points}


def detail(conn: Connection, name: str, owner_id: str | None, before: int | None = None) -> dict[str, Any]:
    """Return everything about a model, with its newest versions (of those before `before`) and reduced curves.

    Jobs of other owners are left out. Raises NotFound.
    """
    table = model_versions.c
    measured = conn.execute(
        select(table.version, table.metrics).where(table.name == name).order_by(table.version)
    ).all()
    if not measured:
        raise NotFound.of("model", name)
    shown = versions(conn, name, owner_id, before)
    named = _aliases(conn, name)
    names = _names(metrics for _, metrics in measured)
    newest = select(table.family).where(table.name == name).order_by(table.version.desc())
    family = conn.scalars(newest).first() or ""
    marked = {item["version"] for item in named}
    return {
        "name": name,
        "owner_id": ownership.owner_of(conn, name),
        "description": registry.description(conn, name),
        "aliases": named,
        "metric": headline(family, names),
        "senses": senses(family, names),
        "total": len(measured),
        "charts": {key: curve(measured, key, marked) for key in senses(family, names)},
        "versions": shown,
        "promotions": any(version["promotion"] for version in shown),
        "next": shown[-1]["version"] if shown and shown[-1]["version"] != measured[0][0] else None,
    }


def versions(conn: Connection, name: str, owner_id: str | None, before: int | None) -> list[dict[str, Any]]:
    """Return up to `VERSIONS` versions, newest first."""
    table = model_versions.c
    within = [table.name == name] + ([] if before is None else [table.version < before])
    newest = select(model_versions).where(*within).order_by(table.version.desc()).limit(VERSIONS)
    rows = conn.execute(newest).mappings().all()
    made_by = _jobs(conn, [row["job_id"] for row in rows], jobs.c.result["promotion"].label("promotion"))
    planned = _schedules(conn, [row["job_id"] for row in rows], owner_id)
    return [
        _version({**row, "created_at": iso(row["created_at"])}, made_by.get(row["job_id"]), owner_id)
        | {"schedule": planned.get(row["job_id"])}
        for row in rows
    ]


def curve(measured: Sequence[Any], name: str, marked: Collection[int]) -> dict[str, list[Any]]:
    """Return {version: […], value: […]} of one metric, oldest first.

    A long curve keeps the minimum and maximum of each stretch of versions, and all versions in `marked` (with an
    alias), so that outliers stay visible.
    """
    points = [(version, metrics[name]) for version, metrics in measured if is_number(metrics.get(name))]
    kept = set(points if len(points) <= POINTS else [points[0], points[-1]])
    if len(points) > POINTS:
        length = 2 * len(points) / POINTS
        stretches = [points[int(start * length) : int((start + 1) * length)] for start in range(POINTS // 2)]
        kept.update(pick(part, key=lambda point: point[1]) for part in stretches if part for pick in (min, max))
        kept.update(point for point in points if point[0] in marked)
    ordered = sorted(kept)
    return {"version": [version for version, _ in ordered], "value": [value for _, value in ordered]}


def _schedules(conn: Connection, ids: Sequence[str], owner_id: str | None) -> dict[str, dict[str, Any]]:
    """Return the schedule of each job that was submitted by one."""
    mine = [] if owner_id is None else [schedules.c.owner_id == owner_id]
    joined = schedule_ticks.join(schedules, schedules.c.id == schedule_ticks.c.schedule_id)
    found = select(schedule_ticks.c.job_id, schedules.c.id, schedules.c.name).select_from(joined)
    rows = conn.execute(found.where(schedule_ticks.c.job_id.in_(ids), *mine))
    return {row.job_id: {"id": row.id, "name": row.name} for row in rows}


def existing(conn: Connection, name: str, numbers: Sequence[int]) -> list[int]:
    """Return those of `numbers` that exist, in the same order."""
    table = model_versions.c
    found = set(conn.scalars(select(table.version).where(table.name == name, table.version.in_(numbers))))
    return [number for number in numbers if number in found]


def _aliases(conn: Connection, name: str) -> list[dict[str, Any]]:
    rows = conn.execute(select(model_aliases).where(model_aliases.c.name == name).order_by(model_aliases.c.alias))
    return [{"alias": row.alias, "version": row.version, "since": iso(row.updated_at)} for row in rows]


_SHOWN_AS_IS = ("version", "family", "framework", "dataset", "parent", "metrics", "description", "tags", "created_at")


def _version(version: Mapping[str, Any], job: Any, owner_id: str | None) -> dict[str, Any]:
    mine = job is not None and owner_id in (None, job["owner_id"])
    promotion = job["promotion"] if job else None
    return {
        **{key: version[key] for key in _SHOWN_AS_IS},
        "job": {"id": job["id"], "name": job["name"]} if mine else None,
        "who": job["who"] if job else None,
        "promotion": {key: promotion.get(key) for key in ("promoted", "reason", "alias")} if promotion else None,
    }


def _jobs(conn: Connection, ids: Sequence[str], also: Any) -> dict[str, dict[str, Any]]:
    """Return each job's name, owner and the column `also`; whole rows would be large for a thousand jobs."""
    columns = (jobs.c.id, jobs.c.name, jobs.c.owner_id, also)
    found: list[Any] = []
    for start in range(0, len(ids), 500):
        chunk = select(*columns).where(jobs.c.id.in_(ids[start : start + 500]))
        found += conn.execute(chunk).mappings().all()
    names = owner_names(conn, {row["owner_id"] for row in found})
    return {row["id"]: {**row, "who": names.get(row["owner_id"], row["owner_id"])} for row in found}


def side_by_side(conn: Connection, name: str, numbers: Sequence[int], owner_id: str | None) -> dict[str, Any]:
    """Compare versions: every metric with the best values, and the settings in which their jobs differ.

    Settings of other owners' jobs are left out. Raises NotFound.
    """
    chosen = [registry.show_version(conn, name, number) for number in numbers]
    made_by = _jobs(conn, [version["job_id"] for version in chosen], jobs.c.spec)
    mine = [made_by.get(version["job_id"]) for version in chosen]
    specs = [job["spec"] if job and owner_id in (None, job["owner_id"]) else None for job in mine]
    better = senses(chosen[0]["family"], _names(version["metrics"] for version in chosen))
    datasets = {version["dataset"] for version in chosen}
    return {
        "versions": list(numbers),
        "jobs": [version["job_id"] if spec is not None else None for version, spec in zip(chosen, specs, strict=True)],
        "same_dataset": len(datasets) == 1 and None not in datasets,
        "datasets": [version["dataset"] for version in chosen],
        "metrics": [
            _row(key, sense, [version["metrics"].get(key) for version in chosen]) for key, sense in better.items()
        ],
        "settings": differing(specs),
    }


def _row(name: str, sense: str | None, values: list[Any]) -> dict[str, Any]:
    """Return a row of metrics; `best` holds the indices of the best values, unless all are equal."""
    numbers = [value for value in values if is_number(value)]
    best = (max if sense == "max" else min)(numbers) if sense and len(set(numbers)) > 1 else None
    places = [place for place, value in enumerate(values) if best is not None and value == best]
    return {"name": name, "sense": sense, "values": values, "best": places}


def differing(specs: Sequence[Mapping[str, Any] | None]) -> list[dict[str, Any]]:
    """Return [{name: "training.epochs", values: […]}, …] of the settings that differ; None if unknown."""
    flat = [dict(_flat(spec)) if spec is not None else {} for spec in specs]
    names = dict.fromkeys(name for spec in flat for name in spec)
    known = [spec for spec, given in zip(flat, specs, strict=True) if given is not None]
    changed = [name for name in names if len({repr(spec.get(name)) for spec in known}) > 1]
    return [{"name": name, "values": [spec.get(name) for spec in flat]} for name in changed]


def _flat(value: Mapping[str, Any], before: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for key, item in value.items():
        found += _flat(item, f"{before}{key}.") if isinstance(item, Mapping) else [(f"{before}{key}", item)]
    return found


def _names(measured: Any) -> list[str]:
    """Return the metrics that are a number in any of them, in order of first appearance."""
    return list(dict.fromkeys(key for one in measured for key, value in one.items() if is_number(value)))
