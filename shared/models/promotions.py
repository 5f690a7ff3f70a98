"""Promotion when a job succeeds: the alias moves or stays in the transaction, and under the fence, of the success."""

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
    """Move the alias if the gate allows it; return the data of the `promotion` event.

    The alias moves only from the version that the new one was compared with: another champion that was set meanwhile
    has not been compared. The caller has registered `version` in this transaction.
    """
    aliases.lock(conn, name)
    now = aliases.current(conn, name, record.alias)
    promoted, reason = record.better, record.reason
    if promoted and now != record.previous:
        promoted, reason = (
            False,
            f"{name}@{record.alias} {_moved(record.previous, now)} during the comparison",
        )
    if promoted:
        aliases.set_alias(conn, name, record.alias, version, who=f"job:{job_id}", why=reason[:500])
    facts = _event_data(name, version, now, record, promoted, reason)
    on_commit(conn, partial(emit, "model.compared", job_id=job_id, **facts))
    return facts


def refused(conn: Connection, name: str, record: PromotionRecord, reason: str) -> dict[str, Any]:
    """Return the data of the `promotion` event for a model that could not be registered and has no version."""
    return _event_data(name, None, aliases.current(conn, name, record.alias), record, False, reason)


def _event_data(
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
        return f"was set to version {now}"
    return f"moved from version {before} to {now}" if now is not None else f"(version {before}) was removed"
