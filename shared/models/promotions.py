"""What becomes of a promotion when its job succeeds: in that transaction, under that fence, the alias moves or
stays."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection

from shared.db.engine import on_commit
from shared.events import emit
from shared.models import aliases

if TYPE_CHECKING:
    from shared.jobs.transitions.values import PromotionRecord


def settle(conn: Connection, job_id: str, name: str, version: int, record: PromotionRecord) -> dict[str, Any]:
    """The data of the `promotion` event. The alias moves only from the version that the new one was compared with: a
    champion that came meanwhile has not been beaten. The caller has registered `version` in this transaction."""
    aliases.lock(conn, name)
    now = aliases.current(conn, name, record.alias)
    promoted, reason = record.better, record.reason
    if promoted and now != record.previous:
        promoted, reason = (
            False,
            f"{name}@{record.alias} {_moved(record.previous, now)} while this was compared with it",
        )
    if promoted:
        aliases.set_alias(conn, name, record.alias, version, who=f"job:{job_id}", why=reason[:500])
    told = _told(name, version, now, record, promoted, reason)
    on_commit(conn, partial(emit, "model.compared", job_id=job_id, **told))
    return told


def refused(conn: Connection, name: str, record: PromotionRecord, reason: str) -> dict[str, Any]:
    """The same where the new model could not be registered, so that it has no version."""
    return _told(name, None, aliases.current(conn, name, record.alias), record, False, reason)


def _told(
    name: str, version: int | None, now: int | None, record: PromotionRecord, promoted: bool, reason: str
) -> dict[str, Any]:
    facts = asdict(record)
    return {
        "name": name,
        "alias": record.alias,
        "version": version,
        "previous": now,
        "promoted": promoted,
        "reason": reason,
        **{key: facts[key] for key in ("metric", "candidate", "champion", "lower_bound", "evaluated_on")},
    }


def _moved(before: int | None, now: int | None) -> str:
    if before is None:
        return f"came to point at version {now}"
    return f"moved from version {before} to {now}" if now is not None else f"ceased to point at version {before}"
