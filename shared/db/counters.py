"""Counters: how many jobs, attempts and deliveries of a sort there are, without reading them.

Triggers change the counters in the transaction that changes a row, so a crash leaves both or neither. The measures,
with what `label` and `detail` say:

jobs, archived   jobs of an owner       state, kind
queued           queued jobs            device, priority; `position` is the second in which they become due
datasets         jobs of an owner       the data set that they name
seconds          jobs that ran          kind, state; `position`: the bucket, `amount`: milliseconds; deleted ones too
deleted          deleted jobs           (nothing), kind
attempts         attempts that ended    outcome; those of deleted jobs too
deliveries       deliveries             state
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Row,
    Select,
    String,
    Table,
    and_,
    bindparam,
    case,
    cast,
    delete,
    func,
    literal,
    literal_column,
    or_,
    select,
    text,
    true,
    tuple_,
    union_all,
)

from shared.clock import read_clock
from shared.db.engine import insert
from shared.db.schema import attempts, counters, deleted_attempts, deleted_jobs, jobs, webhook_deliveries

JOBS, ARCHIVED, QUEUED, DATASETS, SECONDS, DELETED, ATTEMPTS, DELIVERIES = (
    "jobs", "archived", "queued", "datasets", "seconds", "deleted", "attempts", "deliveries",
)  # fmt: skip
#: Upper edges of the buckets of `seconds`, from a batch of predictions to two days of training. Other edges need a
#: migration that counts anew.
EDGES = (1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3_600.0, 14_400.0, 43_200.0, 172_800.0)
#: Rows of changes on PostgreSQL that one call of `fold` takes. Too low: they pile up while many jobs are
#: submitted. Too high: long transactions.
BATCH = 5_000
#: Age after which seconds of the past become one row. Too low: a clock that is set back counts jobs as due too early.
#: Too high: more rows to read.
_PAST_SECONDS = 60
#: Key of the advisory lock that lets one process fold at a time on PostgreSQL ("count" in ASCII).
_LOCK_KEY = 0x636F756E74
_KEY = ("measure", "owner_id", "position", "label", "detail")
_VALUES = ("n", "amount")


def counted(
    conn: Connection, measure: str | Sequence[str], *by: str, where: ColumnElement[bool] | None = None
) -> Sequence[Row[Any]]:
    """Return the sums `n` and `amount` of one or more measures by some columns, without those that are zero."""
    statement = _sums(by) if where is None else _sums(by).where(where)
    return conn.execute(statement, {"of": [measure] if isinstance(measure, str) else list(measure)}).all()


@cache
def _sums(by: tuple[str, ...]) -> Select[Any]:
    """Return the query of sums. Built once: building it takes longer than executing it."""
    columns = [counters.c[name] for name in by]
    n, amount = func.sum(counters.c.n), func.sum(counters.c.amount)
    sums = (cast(n, BigInteger).label("n"), cast(amount, BigInteger).label("amount"))
    statement = (
        select(*columns, *sums).where(counters.c.measure.in_(bindparam("of", expanding=True))).group_by(*columns)
    )
    return statement.having(n != 0).order_by(*columns)


def kept_for(owner_id: str | None) -> ColumnElement[bool]:
    """Return the SQL condition for counters of an owner; None: of all owners."""
    return true() if owner_id is None else counters.c.owner_id == owner_id


# -- folding --------------------------------------------------------------------------------------


def can_fold(conn: Connection) -> bool:
    """Return whether `fold` has something to do; reads only."""
    return conn.execute(select(counters.c.measure).where(_foldable(read_clock(conn))).limit(1)).first() is not None


def fold(conn: Connection) -> int:
    """Add rows of changes, and those of past seconds, to the counters they belong to; return how many."""
    if conn.dialect.name == "postgresql" and not conn.scalar(select(func.pg_try_advisory_xact_lock(_LOCK_KEY))):
        return 0
    now = read_clock(conn)
    primary = [counters.c[name] for name in (*_KEY, "change")]
    some = select(*primary).where(_foldable(now)).limit(BATCH)
    gone = conn.execute(delete(counters).where(tuple_(*primary).in_(some)).returning(counters)).mappings().all()
    sums: dict[tuple[Any, ...], list[int]] = {}
    for row in gone:
        is_past = row["measure"] == QUEUED and row["position"] < now - _PAST_SECONDS
        key = tuple(0 if name == "position" and is_past else row[name] for name in _KEY)
        values = sums.setdefault(key, [0, 0])
        values[0] += row["n"]
        values[1] += row["amount"]
    _add(conn, sums)
    conn.execute(delete(counters).where(counters.c.change == 0, counters.c.n == 0, counters.c.amount == 0))
    return len(gone)


def _foldable(now: float) -> ColumnElement[bool]:
    past = and_(counters.c.position > 0, counters.c.position < now - _PAST_SECONDS)
    return or_(counters.c.change != 0, and_(counters.c.measure == QUEUED, past))


def _add(conn: Connection, sums: dict[tuple[Any, ...], list[int]]) -> None:
    if not sums:
        return
    statement = insert(conn, counters)
    added = {name: counters.c[name] + statement.excluded[name] for name in _VALUES}
    conn.execute(
        statement.on_conflict_do_update(index_elements=[*_KEY, "change"], set_=added),
        [dict(zip((*_KEY, "change", *_VALUES), (*key, 0, *values), strict=True)) for key, values in sums.items()],
    )


# -- counting anew --------------------------------------------------------------------------------


def differences(conn: Connection) -> list[str]:
    """Return a line for each counter that is not what counting the rows gives. Reads all rows."""
    kept, found = _by_sort(_kept(conn)), _by_sort(_recounted(conn))
    none = (0, 0)
    return [
        f"{' '.join(filter(None, key))} {kept.get(key, none)[0]}, but there are {found.get(key, none)[0]}"
        for key in sorted(kept.keys() | found.keys())
        if kept.get(key, none) != found.get(key, none)
    ]


def stop_counting(conn: Connection) -> None:
    """Let PostgreSQL's triggers count nothing in this transaction, which has to end with `recount`.

    Millions of changes would be millions of rows to fold.
    """
    if conn.dialect.name == "postgresql":
        conn.execute(text("SET LOCAL nightshift.counting = 'off'"))


def recount(conn: Connection) -> None:
    """Replace all counters by what counting the rows gives."""
    if conn.dialect.name == "postgresql":
        # Waits for transactions that have changed a counter, and holds back those that are about to.
        conn.execute(text("SET LOCAL lock_timeout = 0"))
        conn.execute(text("SET LOCAL statement_timeout = 0"))
        conn.execute(text("LOCK TABLE counters IN EXCLUSIVE MODE"))
    sums: dict[tuple[Any, ...], list[int]] = {}
    for key, (n, amount) in _recounted(conn):  # a key comes twice that deleted jobs have, too
        values = sums.setdefault(key, [0, 0])
        values[0] += n
        values[1] += amount
    conn.execute(delete(counters))
    _add(conn, sums)


#: The key of a counter, and `n` and `amount`.
Sums = Iterator[tuple[tuple[Any, ...], tuple[int, int]]]


def _by_sort(counts: Sums) -> dict[tuple[str, ...], tuple[int, int]]:
    """Add up the seconds of queued jobs, because those of the past are folded; leave out what is zero."""
    sums: dict[tuple[str, ...], tuple[int, int]] = {}
    for (measure, owner_id, position, label, detail), (n, amount) in counts:
        key = (measure, owner_id, "" if measure != SECONDS else str(position), label, detail)
        before = sums.get(key, (0, 0))
        sums[key] = (before[0] + n, before[1] + amount)
    return {key: values for key, values in sums.items() if any(values)}


def _kept(conn: Connection) -> Sums:
    return _rows(conn, select(*(counters.c[name] for name in (*_KEY, *_VALUES))))


def _recounted(conn: Connection) -> Sums:
    return _rows(conn, union_all(*_selections(conn.dialect.name)))


def _rows(conn: Connection, statement: Any) -> Sums:
    for *key, n, amount in conn.execute(statement):
        yield tuple(key), (int(n), int(amount))


def _selections(dialect: str) -> Iterator[Select[Any]]:
    """Yield the SELECT of each measure from the rows that it counts; what the triggers do is in the migrations."""
    owner, nothing, zero = jobs.c.owner_id, literal(""), literal(0)
    is_archived = case((jobs.c.archived_at.is_(None), JOBS), else_=ARCHIVED)
    yield _selected(is_archived, owner, zero, jobs.c.state, jobs.c.kind)
    # SQLite may lack floor(), and its cast truncates; PostgreSQL's rounds.
    second = cast(jobs.c.run_at if dialect == "sqlite" else func.floor(jobs.c.run_at), BigInteger)
    priority = cast(jobs.c.priority, String(8))
    queued = _selected(literal(QUEUED), nothing, second, jobs.c.device, priority)
    yield queued.where(jobs.c.state == "queued")
    yield _selected(literal(DATASETS), owner, zero, jobs.c.dataset, nothing).where(jobs.c.dataset.is_not(None))
    yield from map(_durations, (jobs, deleted_jobs))
    gone = deleted_jobs.c.kind
    yield _selected(literal(DELETED), nothing, zero, nothing, gone).where(gone.is_not(None))
    ended = attempts.c.outcome
    yield _selected(literal(ATTEMPTS), nothing, zero, ended, nothing).where(ended.is_not(None))
    n = func.sum(deleted_attempts.c.attempts)
    yield _selected(literal(ATTEMPTS), nothing, zero, deleted_attempts.c.outcome, nothing, n=n)
    yield _selected(literal(DELIVERIES), nothing, zero, webhook_deliveries.c.state, nothing)


def _durations(table: Table) -> Select[Any]:
    took = case((table.c.finished_at > table.c.started_at, table.c.finished_at - table.c.started_at), else_=0.0)
    bucket = case(*((took <= edge, number) for number, edge in enumerate(EDGES)), else_=len(EDGES))
    # Integers: a sum of fractions depends on their order, and Prometheus takes a counter that decreases for a reset.
    milliseconds = func.sum(cast(func.round(took * 1000), BigInteger))
    key = (literal(SECONDS), literal(""), bucket, table.c.kind, table.c.state)
    ran = (table.c.finished_at.is_not(None), table.c.started_at.is_not(None), table.c.kind.is_not(None))
    return _selected(*key, amount=milliseconds).where(*ran)


def _selected(*key: Any, n: Any = None, amount: Any = None) -> Select[Any]:
    named = [part.label(name) for name, part in zip(_KEY, key, strict=True)]
    n = func.count() if n is None else n
    amount = literal(0) if amount is None else amount
    values = (cast(n, BigInteger).label("n"), cast(amount, BigInteger).label("amount"))
    return select(*named, *values).group_by(*(literal_column(str(place)) for place in range(1, len(_KEY) + 1)))
