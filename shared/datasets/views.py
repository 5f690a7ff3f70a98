"""Data sets in the API's format."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, RowMapping, func, select

from shared.clock import iso
from shared.datasets.models import DatasetVersion
from shared.datasets.registry import resolve, version_of
from shared.db.schema import dataset_versions as _versions
from shared.db.schema import datasets as _datasets


def list_datasets(conn: Connection) -> list[dict[str, Any]]:
    """Return the newest version of each data set, sorted by name."""
    return [_view(version_of(row), bool(row["builtin"]), row["owner_id"]) for row in _newest(conn)]


def newest_versions(conn: Connection) -> list[DatasetVersion]:
    """Return the same versions with their whole summaries."""
    return [version_of(row) for row in _newest(conn)]


def _newest(conn: Connection) -> list[RowMapping]:
    newest = (
        select(_versions.c.name, func.max(_versions.c.version).label("version")).group_by(_versions.c.name).subquery()
    )
    rows = conn.execute(
        select(_versions, _datasets.c.builtin, _datasets.c.owner_id)
        .join(newest, (newest.c.name == _versions.c.name) & (newest.c.version == _versions.c.version))
        .join(_datasets, _datasets.c.name == _versions.c.name)
        .order_by(_versions.c.name)
    )
    return list(rows.mappings())


def show(conn: Connection, ref: str) -> dict[str, Any]:
    """Return the answer of `GET /datasets/{name}`: the newest (or named) version and a list of all versions."""
    version = resolve(conn, ref)
    named = select(_datasets.c.builtin, _datasets.c.owner_id).where(_datasets.c.name == version.name)
    dataset = conn.execute(named).one()
    every = conn.execute(select(_versions).where(_versions.c.name == version.name).order_by(_versions.c.version))
    return {
        **_view(version, dataset.builtin, dataset.owner_id),
        "preview": version.summary.get("preview"),
        "versions": [
            {
                "version": v["version"],
                "sha256": v["sha256"],
                "rows": {part: facts["count"] for part, facts in v["summary"]["splits"].items()},
                "created_at": iso(v["created_at"]),
            }
            for v in every.mappings()
        ],
    }


def _view(version: DatasetVersion, builtin: bool, owner_id: str | None) -> dict[str, Any]:
    meta = version.summary
    return {
        "name": version.name, "version": version.version, "kind": meta["kind"], "builtin": builtin,
        "owner_id": owner_id, "availability": "registered",
        "sha256": version.sha256, "size_bytes": version.size_bytes, "classes": meta["classes"],
        "tags": meta.get("tags", []), "image": meta.get("image"), "split": meta["split"], "splits": meta["splits"],
        "created_at": iso(version.created_at),
    }  # fmt: skip
