"""Count jobs, attempts and deliveries in the transactions that change them, by triggers."""

from collections.abc import Iterator
from dataclasses import dataclass

import sqlalchemy as sa
from alembic import op

revision = "0026"
down_revision = "0025"


@dataclass(frozen=True)
class Counted:
    """A sort of counter, as SQL of a row `{r}`: `columns` are those it depends on."""

    table: str
    columns: tuple[str, ...]
    measure: str
    condition: str = "{r}.id IS NOT NULL"
    owner_id: str = "''"
    position: str = "0"
    label: str = "''"
    detail: str = "''"
    n: str = "1"
    amount: str = "0"

    @property
    def values(self) -> tuple[str, ...]:
        return (self.measure, self.owner_id, self.position, self.label, self.detail)


EDGES = (1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3_600.0, 14_400.0, 43_200.0, 172_800.0)
TOOK = (
    "(CASE WHEN {r}.finished_at > {r}.started_at THEN {r}.finished_at - {r}.started_at"
    " ELSE CAST(0 AS DOUBLE PRECISION) END)"
)
BUCKET = (
    "CASE " + " ".join(f"WHEN {TOOK} <= {edge} THEN {n}" for n, edge in enumerate(EDGES)) + f" ELSE {len(EDGES)} END"
)
MILLISECONDS = f"CAST(round({TOOK} * 1000) AS BIGINT)"
RAN = "{r}.finished_at IS NOT NULL AND {r}.started_at IS NOT NULL AND {r}.kind IS NOT NULL"
TIMES = ("kind", "state", "started_at", "finished_at")

COUNTED = (
    Counted(
        "jobs",
        ("owner_id", "state", "kind", "archived_at"),
        "CASE WHEN {r}.archived_at IS NULL THEN 'jobs' ELSE 'archived' END",
        owner_id="{r}.owner_id",
        label="{r}.state",
        detail="{r}.kind",
    ),
    Counted(
        "jobs",
        ("state", "run_at", "device", "priority"),
        "'queued'",
        "{r}.state = 'queued'",
        position="CAST(floor({r}.run_at) AS BIGINT)",
        label="{r}.device",
        detail="CAST({r}.priority AS VARCHAR(8))",
    ),
    Counted(
        "jobs",
        ("owner_id", "dataset"),
        "'datasets'",
        "{r}.dataset IS NOT NULL",
        owner_id="{r}.owner_id",
        label="{r}.dataset",
    ),
    Counted("jobs", TIMES, "'seconds'", RAN, "''", BUCKET, "{r}.kind", "{r}.state", amount=MILLISECONDS),
    Counted("deleted_jobs", ("kind",), "'deleted'", "{r}.kind IS NOT NULL", detail="{r}.kind"),
    Counted("deleted_jobs", TIMES, "'seconds'", RAN, "''", BUCKET, "{r}.kind", "{r}.state", amount=MILLISECONDS),
    Counted("attempts", ("outcome",), "'attempts'", "{r}.outcome IS NOT NULL", label="{r}.outcome"),
    Counted(
        "deleted_attempts",
        ("outcome", "attempts"),
        "'attempts'",
        "{r}.outcome IS NOT NULL",
        label="{r}.outcome",
        n="{r}.attempts",
    ),
    Counted("webhook_deliveries", ("state",), "'deliveries'", label="{r}.state"),
)
TABLES = tuple(dict.fromkeys(one.table for one in COUNTED))
KEY = ("measure", "owner_id", "position", "label", "detail", "change")
NAMES = (*KEY, "n", "amount")
ADDED = ", ".join(f"{name} = counters.{name} + excluded.{name}" for name in ("n", "amount"))
ADDING = f"ON CONFLICT ({', '.join(KEY)}) DO UPDATE SET {ADDED}"


#: Indexes that only counting used, with their columns.
DROPPED = (
    ("ix_jobs_durations", "jobs", ["kind", "state", "started_at", "finished_at"]),
    ("ix_deleted_jobs_durations", "deleted_jobs", ["kind", "state", "started_at", "finished_at"]),
    ("ix_attempts_outcome", "attempts", ["outcome"]),
)
STATES = ["owner_id", "state", "archived_at", "created_at"]


def upgrade() -> None:
    for name, table, _ in DROPPED:
        op.drop_index(name, table)
    op.drop_index("ix_jobs_states", "jobs")
    op.create_index("ix_jobs_states", "jobs", [*STATES, "id"])
    op.create_table(
        "counters",
        sa.Column("measure", sa.String(length=16), nullable=False),
        sa.Column("owner_id", sa.String(length=64), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("label", sa.String(length=200), nullable=False),
        sa.Column("detail", sa.String(length=40), nullable=False),
        sa.Column("change", sa.BigInteger(), nullable=False),
        sa.Column("n", sa.BigInteger(), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint(*KEY),
        sqlite_with_rowid=False,
    )
    # The triggers first: on PostgreSQL creating one waits for writers, so that none is missed by the first count.
    is_sqlite = op.get_bind().dialect.name == "sqlite"
    if not is_sqlite:
        op.execute("CREATE SEQUENCE counter_changes")
    statements = [made for table in TABLES for made in (sqlite_triggers if is_sqlite else postgres_triggers)(table)]
    for statement in [*statements, *map(first_count, COUNTED)]:
        # SQLite may lack floor(), and its cast truncates; PostgreSQL's rounds.
        op.execute(statement.replace("floor(", "(") if is_sqlite else statement)


def downgrade() -> None:
    is_sqlite = op.get_bind().dialect.name == "sqlite"
    for table in TABLES:
        if is_sqlite:
            for event in ("insert", "update", "delete"):
                op.execute(f"DROP TRIGGER count_{table}_{event}")
        else:
            op.execute(f"DROP TRIGGER count_{table} ON {table}")
            op.execute(f"DROP TRIGGER count_{table}_update ON {table}")
            op.execute(f"DROP FUNCTION count_{table}()")
    op.drop_table("counters")
    if not is_sqlite:
        op.execute("DROP SEQUENCE counter_changes")
    op.drop_index("ix_jobs_states", "jobs")
    op.create_index("ix_jobs_states", "jobs", STATES)
    for name, table, columns in DROPPED:
        op.create_index(name, table, columns)


def of(table: str) -> list[Counted]:
    return [one for one in COUNTED if one.table == table]


def columns_of(table: str) -> list[str]:
    return list(dict.fromkeys(column for one in of(table) for column in one.columns))


def first_count(one: Counted) -> str:
    values = ", ".join(one.values)
    text = (
        f"INSERT INTO counters ({', '.join(NAMES)}) SELECT {values}, 0, SUM({one.n}), SUM({one.amount})"
        f" FROM {one.table} WHERE {one.condition} GROUP BY 1, 2, 3, 4, 5 {ADDING}"
    )
    return text.format(r=one.table)


def row(one: Counted, of_row: str, sign: str, change: str, changed: str = "") -> str:
    """Return a SELECT of a counter's key and how it changes."""
    values = (*one.values, change, f"{sign}({one.n})", f"{sign}({one.amount})")
    return f"SELECT {', '.join(values)} WHERE {one.condition}{changed}".format(r=of_row)


def into(selected: str) -> str:
    return f"INSERT INTO counters ({', '.join(NAMES)}) {selected} {ADDING};"


def sqlite_triggers(table: str) -> Iterator[str]:
    """SQLite has one writer at a time: each change is added to the counter itself."""

    def body(signs: tuple[tuple[str, str], ...], is_update: bool) -> str:
        return " ".join(
            into(row(one, of_row, sign, "0", f" AND ({changed(one, 'IS NOT')})" if is_update else ""))
            for of_row, sign in signs
            for one in of(table)
        )

    old, new = ("OLD", "-"), ("NEW", "+")
    updated = f"UPDATE OF {', '.join(columns_of(table))}"
    for name, event, signs in (
        ("insert", "INSERT", (new,)),
        ("delete", "DELETE", (old,)),
        ("update", updated, (old, new)),
    ):
        yield f"CREATE TRIGGER count_{table}_{name} AFTER {event} ON {table} BEGIN {body(signs, name == 'update')} END"


def postgres_triggers(table: str) -> Iterator[str]:
    """On PostgreSQL each change adds rows of its own, so that no transaction waits for another.

    Nothing is counted while `nightshift.counting` is off, as a copy of a database sets it, which counts at its end.
    """

    def body(of_row: str, sign: str, event: str) -> str:
        guards = {one: f" AND (TG_OP = '{event}' OR {changed(one, 'IS DISTINCT FROM')})" for one in of(table)}
        return into(
            " UNION ALL ".join(row(one, of_row, sign, "nextval('counter_changes')", guards[one]) for one in of(table))
        )

    yield (
        f"CREATE FUNCTION count_{table}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "IF current_setting('nightshift.counting', true) = 'off' THEN RETURN NULL; END IF; "
        f"IF TG_OP <> 'INSERT' THEN {body('OLD', '-', 'DELETE')} END IF; "
        f"IF TG_OP <> 'DELETE' THEN {body('NEW', '+', 'INSERT')} END IF; RETURN NULL; END $$"
    )
    runs = f"FOR EACH ROW EXECUTE FUNCTION count_{table}()"
    yield f"CREATE TRIGGER count_{table} AFTER INSERT OR DELETE ON {table} {runs}"
    yield f"CREATE TRIGGER count_{table}_update AFTER UPDATE OF {', '.join(columns_of(table))} ON {table} {runs}"


def changed(one: Counted, differs: str) -> str:
    return " OR ".join(f"OLD.{column} {differs} NEW.{column}" for column in one.columns)
