"""`skip_if_unchanged`: skip a tick whose job would repeat the schedule's last successful one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, and_, select

from nightshift.errors import RequestError
from shared.datasets import registry as datasets
from shared.datasets.references import PINNED_AS, named_in
from shared.db.schema import jobs, schedule_ticks
from shared.models import registry as models

#: Fields of a spec that do not affect the result.
_LABELS = ("name", "tags")


def unchanged(conn: Connection, schedule_id: str, owner_id: str, spec: Mapping[str, Any]) -> str | None:
    """Return the reason to skip the job, or None if anything has changed.

    Unchanged means the same settings, data set versions and parent model version as in the schedule's last successful
    job. A data set or model that does not exist any more counts as changed.
    """
    last = _last_success(conn, schedule_id)
    if last is None or _work(last.spec) != _work(spec):
        return None
    try:
        now = _reads_now(conn, owner_id, spec)
    except RequestError:
        return None
    if now != _read_then(last.spec, last.pinned):
        return None
    return f"unchanged since job {last.id}: the same settings, {', '.join(now.values())}"


def _last_success(conn: Connection, schedule_id: str) -> Any:
    mine = and_(schedule_ticks.c.job_id == jobs.c.id, schedule_ticks.c.schedule_id == schedule_id)
    statement = select(jobs.c.id, jobs.c.spec, jobs.c.pinned).join(schedule_ticks, mine)
    return conn.execute(
        statement.where(jobs.c.state == "succeeded").order_by(jobs.c.finished_at.desc()).limit(1)
    ).one_or_none()


def _work(spec: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in spec.items() if name not in _LABELS}


def _reads_now(conn: Connection, owner_id: str, spec: Mapping[str, Any]) -> dict[str, str]:
    found: dict[str, str] = {}
    for place, name in named_in(spec):
        version = datasets.resolve(conn, name)
        found[PINNED_AS[place]] = f"{version.name}@{version.version}"
    if ref := spec.get("model_ref"):
        model = models.resolve(conn, ref, owner_id)
        found["parent"] = _model(ref, model.name, model.version)
    return found


def _read_then(spec: Mapping[str, Any], pinned: Mapping[str, Any]) -> dict[str, str]:
    found = {PINNED_AS[place]: str(pinned.get(PINNED_AS[place])) for place, _ in named_in(spec)}
    if ref := spec.get("model_ref"):
        parent = pinned.get("parent") or {}
        found["parent"] = _model(ref, parent.get("name"), parent.get("version"))
    return found


def _model(ref: str, name: str | None, version: int | None) -> str:
    return f"{name}@{version}" if name else ref
