"""Models as a person looks at them: how each version did, what it was made with, several side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, select

from shared.clock import iso
from shared.db.schema import jobs, model_aliases, model_versions
from shared.errors import NotFound
from shared.jobs.queries.columns import sense as sense_of
from shared.jobs.queries.table import owner_names
from shared.models import registry
from shared.specs.families import FAMILIES

#: Versions that make the curve of a row in the list.
CURVE = 40


def senses(family: str, names: Sequence[str]) -> dict[str, str | None]:
    """metric -> `max` or `min`, whichever is better; None where neither is (a learning rate, a speed).

    In the order of what tells most: what the family is judged by, then what has a better side, then the rest.
    """
    judged = FAMILIES[family].judged_by if family in FAMILIES else {}
    found = {name: judged.get(name) or sense_of(name) for name in names}
    order = [*judged, *(name for name, sense in found.items() if sense), *names]
    return {name: found[name] for name in dict.fromkeys(order) if name in found}


def headline(family: str, names: Sequence[str]) -> str | None:
    """The one figure versions are known by: the first that has a better side."""
    return next((name for name, sense in senses(family, names).items() if sense), None)


def overview(conn: Connection) -> list[dict[str, Any]]:
    """`list_models`, each with its number of versions and the curve of its headline over the newest ones."""
    metrics: dict[str, list[Any]] = {}
    rows = conn.execute(
        select(model_versions.c.name, model_versions.c.version, model_versions.c.metrics).order_by(
            model_versions.c.name, model_versions.c.version
        )
    )
    for row in rows:
        metrics.setdefault(row.name, []).append((row.version, row.metrics))
    return [model | _summary(model, metrics.get(model["name"], [])) for model in registry.list_models(conn)]


def _summary(model: Mapping[str, Any], versions: list[Any]) -> dict[str, Any]:
    newest = versions[-CURVE:]
    name = headline(model["family"], _names(measured for _, measured in newest))
    points = [(version, measured[name]) for version, measured in newest if name and _is_number(measured.get(name))]
    return {"versions": len(versions), "metric": name, "points": points}


def detail(conn: Connection, name: str, owner_id: str | None) -> dict[str, Any]:
    """Everything about a model, versions newest first. A job is named to who may see it. Raises NotFound."""
    shown = registry.show_model(conn, name)
    versions = shown["versions"]
    made_by = _jobs(conn, [version["job_id"] for version in versions], jobs.c.result["promotion"].label("promotion"))
    names = _names(version["metrics"] for version in versions)
    family = versions[0]["family"]
    return {
        "name": name,
        "aliases": _aliases(conn, name),
        "metric": headline(family, names),
        "senses": senses(family, names),
        "versions": [_version(version, made_by.get(version["job_id"]), owner_id) for version in versions],
    }


def _aliases(conn: Connection, name: str) -> list[dict[str, Any]]:
    rows = conn.execute(select(model_aliases).where(model_aliases.c.name == name).order_by(model_aliases.c.alias))
    return [{"alias": row.alias, "version": row.version, "since": iso(row.updated_at)} for row in rows]


def _version(version: Mapping[str, Any], job: Any, owner_id: str | None) -> dict[str, Any]:
    mine = job is not None and owner_id in (None, job["owner_id"])
    promotion = job["promotion"] if job else None
    return {
        **{
            key: version[key]
            for key in ("version", "family", "framework", "dataset", "parent", "metrics", "created_at")
        },
        "job": {"id": job["id"], "name": job["name"]} if mine else None,
        "who": job["who"] if job else None,
        "promotion": {key: promotion.get(key) for key in ("promoted", "reason", "alias")} if promotion else None,
    }


def _jobs(conn: Connection, ids: Sequence[str], also: Any) -> dict[str, dict[str, Any]]:
    """Each job's name, owner and one more column; specs and results are large where there are a thousand."""
    columns = (jobs.c.id, jobs.c.name, jobs.c.owner_id, also)
    found: list[Any] = []
    for start in range(0, len(ids), 500):
        chunk = select(*columns).where(jobs.c.id.in_(ids[start : start + 500]))
        found += conn.execute(chunk).mappings().all()
    names = owner_names(conn, {row["owner_id"] for row in found})
    return {row["id"]: {**row, "who": names.get(row["owner_id"], row["owner_id"])} for row in found}


def side_by_side(conn: Connection, name: str, numbers: Sequence[int], owner_id: str | None) -> dict[str, Any]:
    """These versions: every metric with the best of them, and the settings in which their jobs differ.

    Raises NotFound. Settings of somebody else's job are not told.
    """
    shown = {version["version"]: version for version in registry.show_model(conn, name)["versions"]}
    missing = [number for number in numbers if number not in shown]
    if missing:
        raise NotFound.of("model version", f"{name}@{missing[0]}")
    chosen = [shown[number] for number in numbers]
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
    """`best`: the places of the best values, where one is better and not all are alike."""
    numbers = [value for value in values if _is_number(value)]
    best = (max if sense == "max" else min)(numbers) if sense and len(set(numbers)) > 1 else None
    places = [place for place, value in enumerate(values) if best is not None and value == best]
    return {"name": name, "sense": sense, "values": values, "best": places}


def differing(specs: Sequence[Mapping[str, Any] | None]) -> list[dict[str, Any]]:
    """[{name: "training.epochs", values: […]}, …] for what is not the same in all; what is not told is null."""
    flat = [dict(_flat(spec)) if spec is not None else {} for spec in specs]
    names = dict.fromkeys(name for spec in flat for name in spec)
    told = [spec for spec, given in zip(flat, specs, strict=True) if given is not None]
    changed = [name for name in names if len({repr(spec.get(name)) for spec in told}) > 1]
    return [{"name": name, "values": [spec.get(name) for spec in flat]} for name in changed]


def _flat(value: Mapping[str, Any], before: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for key, item in value.items():
        found += _flat(item, f"{before}{key}.") if isinstance(item, Mapping) else [(f"{before}{key}", item)]
    return found


def _names(measured: Any) -> list[str]:
    """Every metric that is a number in one of them, in the order of their first appearance."""
    return list(dict.fromkeys(key for one in measured for key, value in one.items() if _is_number(value)))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
