"""References to data set versions from jobs and schedules, and deletion of versions without references.

A transaction that adds a reference (a submission, a schedule, a job that pins its data) takes a shared lock on the
version's row; a deletion takes the exclusive lock before it looks for references. So neither misses the other, on
PostgreSQL and on SQLite, which has a single writer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from sqlalchemy import Connection, and_, delete, func, select

from nightshift.errors import Conflict, InvalidRequest, NotFound
from shared import ownership
from shared.db.engine import on_commit
from shared.db.schema import dataset_versions as _versions
from shared.db.schema import datasets as _datasets
from shared.db.schema import jobs as _jobs
from shared.db.schema import schedules as _schedules
from shared.db.schema import sweeps as _sweeps
from shared.events import emit


def named_in(spec: Mapping[str, Any]) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield (field path, reference) of every data set that a job's spec names."""
    if spec.get("dataset"):
        yield ("dataset",), str(spec["dataset"])
    if spec.get("promote"):
        yield ("promote", "evaluate_on"), str(spec["promote"]["evaluate_on"])


def hold_named(conn: Connection, spec: Mapping[str, Any]) -> None:
    """Share the locks on all versions that a spec names by number until the end of the transaction.

    Raises InvalidRequest if one does not exist.
    """
    for place, ref in named_in(spec):
        if "@" in ref and not hold(conn, ref):
            raise InvalidRequest.field(place, f"there is no data set {ref!r}")


def hold(conn: Connection, ref: str) -> bool:
    """Share the lock on `name@3` until the end of the transaction; return False if it does not exist."""
    return conn.execute(select(_versions.c.version).where(_this(ref)).with_for_update(read=True)).first() is not None


def _this(ref: str) -> Any:
    name, _, number = ref.partition("@")
    return and_(_versions.c.name == name, _versions.c.version == int(number))


NOUN = "data set"


def require(conn: Connection, name: str, asking: str | None) -> None:
    """Raise Forbidden if the data set has another owner. `asking` None: Nightshift itself."""
    owner_id = conn.scalar(select(_datasets.c.owner_id).where(_datasets.c.name == name))
    ownership.require(NOUN, name, owner_id, asking)


def refuse_builtin(conn: Connection, name: str, asking: str | None) -> None:
    """Raise Conflict for a built-in data set, on which all users rely. `asking` None: Nightshift itself."""
    if asking is not None and conn.scalar(select(_datasets.c.builtin).where(_datasets.c.name == name)):
        raise Conflict(f"{name!r} is built in: it has no owner and cannot be changed.")


def delete_version(conn: Connection, name: str, version: int, asking: str | None = None) -> None:
    """Delete a version. Its number is not reused; the pruner removes its files. `asking` None: Nightshift itself.

    Raises Forbidden; NotFound; Conflict while it is in use, and for a built-in set.
    """
    ref = f"{name}@{version}"
    if conn.execute(select(_versions.c.version).where(_this(ref)).with_for_update()).first() is None:
        raise NotFound.of("data set version", ref)
    require(conn, name, asking)
    refuse_builtin(conn, name, asking)
    needed = holders(conn, name, [version])[version]
    if needed:
        more = f" and {len(needed) - 5} more" if len(needed) > 5 else ""
        raise Conflict(f"{ref} cannot be deleted: it is used by {', '.join(needed[:5])}{more}.")
    conn.execute(delete(_versions).where(_this(ref)))
    on_commit(conn, partial(emit, "dataset.deleted", name=name, version=version))


def holders(conn: Connection, name: str, numbers: Sequence[int]) -> dict[int, list[str]]:
    """Return the holders of each version: `job <id>`, `the schedule 'nightly'`.

    Holders are unfinished jobs that read the version or will read it, and schedules and unfinished sweeps that
    name it. A job that names no version takes the newest when it starts, so it holds one only if no other is left.
    """
    if not numbers:
        return {}
    count = conn.scalar(select(func.count()).where(_versions.c.name == name)) or 0
    living = conn.execute(select(_jobs.c.id, _jobs.c.spec, _jobs.c.pinned).where(_jobs.c.finished_at.is_(None))).all()
    planned = conn.execute(select(_schedules.c.name, _schedules.c.job).order_by(_schedules.c.name)).all()
    unfinished = select(_sweeps.c.id, _sweeps.c.job, _sweeps.c.on_best).where(_sweeps.c.finished_at.is_(None))
    sweeps = conn.execute(unfinished.order_by(_sweeps.c.id)).all()
    found = {}
    for number in numbers:
        ref = f"{name}@{number}"
        means_it = {ref, name} if count == 1 else {ref}
        held = (_jobs_with(living, ref, means_it), _schedules_with(planned, means_it), _sweeps_with(sweeps, means_it))
        found[number] = [one for each in held for one in each]
    return found


def _jobs_with(living: Sequence[Any], ref: str, means_it: set[str]) -> list[str]:
    return [f"job {row.id}" for row in living if any(_means(row, place, means_it, ref) for place in PINNED_AS)]


#: Field path of a data set in a job's spec -> its key in `pinned` once the job has started.
PINNED_AS = {("dataset",): "dataset", ("promote", "evaluate_on"): "evaluate_on"}


def _means(row: Any, place: tuple[str, ...], means_it: set[str], ref: str) -> bool:
    pinned = row.pinned.get(PINNED_AS[place])
    return pinned == ref if pinned else dict(named_in(row.spec)).get(place) in means_it


def _schedules_with(planned: Sequence[Any], means_it: set[str]) -> list[str]:
    return [f"the schedule {row.name!r}" for row in planned if means_it & {ref for _, ref in named_in(row.job)}]


def _sweeps_with(unfinished: Sequence[Any], means_it: set[str]) -> list[str]:
    specs = ((row.id, {**row.job, "promote": row.on_best.get("promote")}) for row in unfinished)
    return [f"sweep {sweep_id}" for sweep_id, spec in specs if means_it & {ref for _, ref in named_in(spec)}]
