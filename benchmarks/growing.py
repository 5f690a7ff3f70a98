"""A database with any number of queued jobs: copies of submitted ones, written by one statement."""

from __future__ import annotations

from sqlalchemy import Engine, func, select, text

from shared.db import counters
from shared.db.engine import read, write
from shared.db.schema import jobs
from tests.support.factories import submit_job

#: Copies begin with this letter; submitted ids are of hexadecimal digits.
_PREFIX = "g"
_NUMBERS = {
    "sqlite": "(WITH RECURSIVE g(n) AS (SELECT {first} UNION ALL SELECT n + 1 FROM g WHERE n < {last})"
    " SELECT n FROM g) g",
    "postgresql": "generate_series({first}, {last}) g(n)",
}
_ID = {"sqlite": "printf('g%015x', g.n)", "postgresql": "'g' || lpad(to_hex(g.n), 15, '0')"}
#: Copies in one transaction.
_TOGETHER = 100_000


def grow(engine: Engine, count: int) -> None:
    """Add due jobs for a GPU until there are `count` copies."""
    with read(engine) as conn:
        there = conn.scalar(select(func.count()).where(jobs.c.id >= _PREFIX)) or 0
    original = submit_job(engine, resources={"device": "gpu"}).job_id
    for first in range(there + 1, count + 1, _TOGETHER):
        _copy(engine, original, first, min(count, first + _TOGETHER - 1))
    with write(engine) as conn:
        counters.recount(conn)
    _analyze(engine)


def _copy(engine: Engine, original: str, first: int, last: int) -> None:
    dialect = engine.dialect.name
    names = [column.name for column in jobs.c if column.computed is None and column.name != "id"]
    # A millisecond apart, as if they had been submitted one after the other.
    values = [f"{name} - 0.001 * g.n" if name in ("run_at", "created_at") else f'"{name}"' for name in names]
    numbers = _NUMBERS[dialect].format(first=first, last=last)
    columns = ", ".join(f'"{name}"' for name in names)
    chosen = f"SELECT {_ID[dialect]}, {', '.join(values)} FROM jobs, {numbers} WHERE jobs.id = :original"
    with write(engine) as conn:
        if dialect == "postgresql":
            conn.execute(text("SET LOCAL statement_timeout = 0"))
        counters.stop_counting(conn)
        conn.execute(text(f"INSERT INTO jobs (id, {columns}) {chosen}"), {"original": original})


def _analyze(engine: Engine) -> None:
    if engine.dialect.name == "postgresql":
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as conn:
            conn.execute(text("VACUUM ANALYZE"))
