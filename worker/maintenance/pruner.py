"""pruner: remove files and rows that nothing refers to any more.

Rows decide, files follow; a listed file is never touched. Removed are

- folders of deleted checkpoints, then their rows (the supervisor normally removes them, unless it was killed before)
- of final jobs: folders of attempts with no listed artifact, half-written checkpoints, checkpoints without a row
- folders of deleted jobs
- folders of data sets that no version names
- webhook deliveries that ended a month ago

Workers without a heartbeat are marked offline.
"""

from __future__ import annotations

from sqlalchemy import Connection, Engine, and_, delete, or_, select

from nightshift.states import FINAL_STATES
from shared.clock import db_now
from shared.datasets import gc
from shared.db.engine import read, write
from shared.db.schema import artifacts, attempts, checkpoints, jobs
from shared.errors import StorageUnavailable
from shared.events import emit
from shared.failpoints import failpoint
from shared.fleet import workers
from shared.jobs.states import AttemptOutcome
from shared.jobs.transitions import archiving
from shared.settings import Settings
from shared.storage import LocalStorage, storage_of
from shared.webhooks import deliveries
from worker.maintenance.service import Counts

#: Jobs or checkpoints per pass.
BATCH = 500

#: By database: the last (finished_at, id) that this process has checked. It starts over after a restart.
_seen: dict[str, tuple[float, str]] = {}


def run_once(engine: Engine, settings: Settings) -> Counts:
    """Return counts of what was removed, and of workers marked offline ("offline").

    "checkpoints", "attempts", "leftovers", "deleted" and "datasets" count folders, "deliveries" rows.
    """
    counts = dict.fromkeys(("checkpoints", "attempts", "leftovers", "deleted", "datasets"), 0)
    try:
        _remove_files(engine, settings, counts)
    except StorageUnavailable as error:  # the rest does not depend on the storage
        emit("storage.unavailable", error=str(error))
    with write(engine) as conn:
        counts["offline"] = len(workers.mark_offline(conn, settings.lease_seconds))
        counts["deliveries"] = deliveries.prune(conn)
    return counts


def _remove_files(engine: Engine, settings: Settings, counts: Counts) -> None:
    storage = storage_of(settings)
    counts["checkpoints"] = _deleted_checkpoints(engine, storage)
    with read(engine) as conn:
        final = _final_jobs(conn, settings, _seen.get(str(engine.url), (0.0, "")))
    for job_id, finished_at in final:
        counts["attempts"] += _attempts(engine, storage, job_id)
        counts["leftovers"] += _leftovers(engine, storage, job_id)
        _seen[str(engine.url)] = (finished_at, job_id)
    counts["deleted"] = _deleted_jobs(engine, settings)
    counts["datasets"] = gc.clear(engine, storage)


def _deleted_checkpoints(engine: Engine, storage: LocalStorage) -> int:
    with read(engine) as conn:
        rows = conn.execute(
            select(checkpoints.c.id, checkpoints.c.job_id, checkpoints.c.path)
            .where(checkpoints.c.state == "deleted")
            .limit(BATCH)
        ).all()
    for row in rows:
        storage.remove(f"jobs/{row.job_id}/{row.path}")
    if rows:
        with write(engine) as conn:
            gone = [row.id for row in rows]
            conn.execute(delete(checkpoints).where(checkpoints.c.id.in_(gone), checkpoints.c.state == "deleted"))
    return len(rows)


def _final_jobs(conn: Connection, settings: Settings, after: tuple[float, str]) -> list[tuple[str, float]]:
    """Return jobs that ended long enough ago for a frozen runner of theirs to have been killed."""
    quiet = _quiet_seconds(settings)
    later = or_(jobs.c.finished_at > after[0], and_(jobs.c.finished_at == after[0], jobs.c.id > after[1]))
    rows = conn.execute(
        select(jobs.c.id, jobs.c.finished_at)
        .where(jobs.c.state.in_(sorted(FINAL_STATES)), later, jobs.c.finished_at < db_now() - quiet)
        .order_by(jobs.c.finished_at, jobs.c.id)
        .limit(BATCH)
    )
    return [(row.id, row.finished_at) for row in rows]


def _attempts(engine: Engine, storage: LocalStorage, job_id: str) -> int:
    """Remove the folders of unsuccessful attempts, except files that an earlier attempt listed."""
    folder = f"jobs/{job_id}/attempts"
    found = storage.children(folder)
    if not found:
        return 0
    with read(engine) as conn:
        listed = conn.scalars(select(artifacts.c.fence).where(artifacts.c.job_id == job_id))
        won = conn.scalars(
            select(attempts.c.fence).where(
                attempts.c.job_id == job_id, attempts.c.outcome == AttemptOutcome.SUCCEEDED.value
            )
        )
        kept = {str(fence) for fence in (*listed, *won)}
    return sum(storage.remove(f"{folder}/{name}") for name in found if name not in kept)


def _leftovers(engine: Engine, storage: LocalStorage, job_id: str) -> int:
    """Remove checkpoint folders that have no row, such as half-written ones."""
    folder = f"jobs/{job_id}"
    found = [f"checkpoints/{name}" for name in storage.children(f"{folder}/checkpoints")]
    if not found:
        return 0
    with read(engine) as conn:
        listed = set(conn.scalars(select(checkpoints.c.path).where(checkpoints.c.job_id == job_id)))
    return sum(storage.remove(f"{folder}/{path}") for path in found if path not in listed)


def _deleted_jobs(engine: Engine, settings: Settings) -> int:
    """Remove all folders of jobs whose rows are gone.

    The mark is removed last, so that a killed process does not lose the rest of the work.
    """
    with read(engine) as conn:
        gone = archiving.with_files(conn, _quiet_seconds(settings), BATCH)
    removed = [job_id for job_id in gone if storage_of(settings).remove_job(job_id)]
    failpoint("delete.files_removed")
    if removed:
        with write(engine) as conn:
            archiving.without_files(conn, removed)
    return len(removed)


def _quiet_seconds(settings: Settings) -> float:
    return 2 * settings.lease_seconds + settings.stop_grace_seconds
