"""reserver: keep devices that come free for gangs that have waited long enough."""

from __future__ import annotations

from sqlalchemy import Engine

from shared.db.engine import read, write
from shared.jobs import transitions
from shared.settings import Settings
from worker.maintenance.service import Counts


def run_once(engine: Engine, settings: Settings) -> Counts:
    """Return {"reserved": devices that are kept for another gang than before, "asked": jobs that give way}."""
    patience = settings.gang_patience_seconds
    with read(engine) as conn:
        if not transitions.has_reservations_to_change(conn, patience):
            return {"reserved": 0, "asked": 0}
    with write(engine) as conn:
        reserved = transitions.reserve(conn, patience, settings.preempt_priority_gap)
    with write(engine) as conn:
        return {"reserved": reserved, "asked": len(transitions.give_way(conn))}
