"""reserver: free devices that ended attempts hold, and keep those that come free for gangs that waited long enough."""

from __future__ import annotations

from sqlalchemy import Engine

from shared.db.engine import read, write
from shared.jobs import transitions
from shared.settings import Settings
from worker.maintenance.service import Counts


def run_once(engine: Engine, settings: Settings) -> Counts:
    """Return {"freed": attempts that had left devices, "reserved": devices kept for another gang, "asked": jobs}.

    The jobs that are asked give way to a gang.
    """
    patience = settings.gang_patience_seconds
    with read(engine) as conn:
        has_left = bool(transitions.left_devices(conn))
        has_changes = transitions.has_reservations_to_change(conn, patience)
    counts = {"freed": 0, "reserved": 0, "asked": 0}
    if has_left:
        with write(engine) as conn:
            counts["freed"] = len(transitions.free_left_devices(conn))
    if has_changes:
        with write(engine) as conn:
            gap = settings.preempt_priority_gap
            counts["reserved"] = transitions.reserve(conn, patience, gap, settings.lease_seconds)
        with write(engine) as conn:
            counts["asked"] = len(transitions.give_way(conn))
    return counts
