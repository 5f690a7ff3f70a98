"""Health check for containers: `python -m worker.hardware.health [--beat]`.

Exit code 0 if this host's workers (or its beat) are healthy: a worker while its heartbeat in SQL is younger than a
lease and not all of them left their device, beat if it answers a ping through Redis.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from sqlalchemy import select

from nightshift.errors import NightshiftError
from shared.celery_app import answers
from shared.clock import db_now
from shared.db.engine import get_engine, read
from shared.db.schema import workers
from shared.fleet.workers import DISK_FULL
from shared.settings import Settings, get_settings

#: Timeout of a ping to beat (seconds).
PING_SECONDS = 3.0


def stale_workers(settings: Settings) -> list[str] | None:
    """Return the names of this host's workers without a recent heartbeat, or None if it has no worker."""
    fresh = workers.c.heartbeat_at > db_now() - settings.lease_seconds
    query = select(workers.c.name, fresh).where(workers.c.host == settings.host_name, workers.c.state != "offline")
    with read(get_engine()) as conn:
        rows = conn.execute(query).all()
    return [name for name, is_fresh in rows if not is_fresh] if rows else None


def left_devices(settings: Settings) -> list[str] | None:
    """Return why each worker of this host left its device, if all did; None: one works.

    While one works, the others must not make an orchestrator restart it. A restart frees no disk.
    """
    query = select(workers.c.name, workers.c.left_because, workers.c.state)
    with read(get_engine()) as conn:
        rows = conn.execute(query.where(workers.c.host == settings.host_name, workers.c.state != "offline")).all()
    left = [row for row in rows if row.left_because is not None and row.state != DISK_FULL]
    told = [f"{row.name} left its device: {row.left_because}" for row in left]
    return told if rows and len(told) == len(rows) else None


def problem(argv: Sequence[str]) -> str | None:
    """Return what is wrong, or None."""
    settings = get_settings()
    if "--beat" in argv:
        healthy = answers(settings, f"beat@{settings.host_name}", PING_SECONDS)
        return None if healthy else "beat does not answer a ping"
    stale = stale_workers(settings)
    if stale is None:
        return f"no worker of host {settings.host_name} is registered"
    if stale:
        return f"no heartbeat from {', '.join(stale)}"
    left = left_devices(settings)
    return "; ".join(left) if left else None


def main(argv: Sequence[str]) -> int:
    """Run the check and return its exit code."""
    try:
        wrong = problem(argv)
    except NightshiftError as error:
        wrong = str(error)
    if wrong:
        print(wrong, file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
