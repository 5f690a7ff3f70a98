"""pruner: removes what nothing refers to any more. Rows decide, files follow; a listed file is never touched.

- folders of deleted checkpoints, then their rows (the supervisor removes them itself; this is for when it died before)
- of final jobs: folders of attempts with no listed artifact, half-written checkpoints, checkpoints without a row
- folders of deleted jobs
- folders of data sets that no version names
- workers that have not been heard of are marked offline
- deliveries to webhooks that were settled a month ago
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

#: Up to which (finished_at, id) this process has looked; after a restart it looks at all once more.
_seen: dict[str, tuple[float, str]] = {}


def run_once(engine: Engine, settings: Settings) -> Counts:
    """{"checkpoints", "attempts", "leftovers", "deleted", "datasets": folders removed, "offline": workers marked,
    "deliveries": rows removed}."""
    counts = dict.fromkeys(("checkpoints", "attempts", "leftovers", "deleted", "datasets"), 0)
    try:
        _remove_files(engine, settings, counts)
    except StorageUnavailable as error:  # the rest of the house is kept in order all the same
        emit("storage.unavailable", error=str(error))
    with write(engine) as conn:
        counts["offline"] = len(workers.mark_offline(conn, settings.lease_seconds))
        counts["deliveries"] = deliveries.prune(conn)
    return counts


def _remove_files(engine: Engine, settings: Settings, counts: Counts) -> None:
    storage = storage_of(settings)
    counts["checkpoints"] = _deleted_checkpoints(engine, storage)
    with read(engine) as conn:
        done = _final_jobs(conn, settings, _seen.get(str(engine.url), (0.0, "")))
    for job_id, finished_at in done:
        counts["attempts"] += _attempts(engine, storage, job_id)
        counts["leftovers"] += _leftovers(engine, storage, job_id)
        _seen[str(engine.url)] = (finished_at, job_id)
    counts["deleted"] = _deleted_jobs(engine, settings)
    counts["datasets"] = gc.clear(engine, storage.shelf())


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
    """Jobs that ended long enough ago for a frozen runner of theirs to have been killed."""
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
    """Remove the folders of attempts that did not win; files that an earlier attempt listed stay."""
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
    """Remove checkpoint folders that have no row: half-written ones, and those whose row never came."""
    folder = f"jobs/{job_id}"
    found = [f"checkpoints/{name}" for name in storage.children(f"{folder}/checkpoints")]
    if not found:
        return 0
    with read(engine) as conn:
        listed = set(conn.scalars(select(checkpoints.c.path).where(checkpoints.c.job_id == job_id)))
    return sum(storage.remove(f"{folder}/{path}") for path in found if path not in listed)


def _deleted_jobs(engine: Engine, settings: Settings) -> int:
    """Remove all folders of jobs whose rows are gone. The mark goes last: whoever dies before it does it again."""
    with read(engine) as conn:
        gone = archiving.with_files(conn, _quiet_seconds(settings), BATCH)
    done = [job_id for job_id in gone if storage_of(settings).remove_job(job_id)]
    failpoint("delete.files_removed")
    if done:
        with write(engine) as conn:
            archiving.without_files(conn, done)
    return len(done)


def _quiet_seconds(settings: Settings) -> float:
    return 2 * settings.lease_seconds + settings.stop_grace_seconds
