"""Drop foreign keys that would delete millions of rows in one transaction; add `removals` to delete them in batches."""

import re

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"

#: Table -> its column that referred to another table, and that table.
_FREED = {
    "metrics": ("job_id", "jobs"),
    "job_logs": ("job_id", "jobs"),
    "job_events": ("job_id", "jobs"),
    "system_samples": ("job_id", "jobs"),
    "schedule_ticks": ("schedule_id", "schedules"),
    "webhook_deliveries": ("webhook_id", "webhooks"),
}


def upgrade() -> None:
    op.create_table(
        "removals",
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("removed_at", sa.Float(53), nullable=False),
        sa.PrimaryKeyConstraint("kind", "id"),
    )
    if op.get_bind().dialect.name == "sqlite":
        _rewrite(without=True)
        return
    for table, (column, _) in _FREED.items():
        op.drop_constraint(f"{table}_{column}_fkey", table, type_="foreignkey")


def downgrade() -> None:
    for table, (column, parent) in _FREED.items():
        op.execute(f"DELETE FROM {table} WHERE {column} NOT IN (SELECT id FROM {parent})")
    op.drop_table("removals")
    if op.get_bind().dialect.name == "sqlite":
        _rewrite(without=False)
        return
    for table, (column, parent) in _FREED.items():
        op.create_foreign_key(f"{table}_{column}_fkey", table, parent, [column], ["id"], ondelete="CASCADE")


def _rewrite(*, without: bool) -> None:
    """Change SQLite's schema in place: copying tables of millions of rows would take too long.

    SQLite's documentation describes this for constraints ("Making other kinds of table schema changes").
    """
    conn = op.get_bind()
    version = conn.exec_driver_sql("PRAGMA schema_version").scalar_one()
    conn.exec_driver_sql("PRAGMA writable_schema = ON")
    for table, (column, parent) in _FREED.items():
        was = conn.execute(_sql_of, {"table": table}).scalar_one()
        now = _without(was, column, parent) if without else _with(was, column, parent)
        conn.execute(_set_sql, {"table": table, "sql": now})
    conn.exec_driver_sql(f"PRAGMA schema_version = {version + 1}")
    conn.exec_driver_sql("PRAGMA writable_schema = RESET")
    for table in _FREED:
        has = bool(conn.exec_driver_sql(f"PRAGMA foreign_key_list({table})").all())
        if has is without:
            raise RuntimeError(
                f"the foreign key of {table} could not be changed: {conn.execute(_sql_of, {'table': table})}"
            )


_sql_of = sa.text("SELECT sql FROM sqlite_master WHERE type = 'table' AND name = :table")
_set_sql = sa.text("UPDATE sqlite_master SET sql = :sql WHERE type = 'table' AND name = :table")


def _without(sql: str, column: str, parent: str) -> str:
    key = rf',\s*FOREIGN KEY\s*\("?{column}"?\)\s*REFERENCES\s*"?{parent}"?\s*\("?id"?\)\s*ON DELETE CASCADE'
    return re.sub(key, "", sql)


def _with(sql: str, column: str, parent: str) -> str:
    end = sql.rindex(")")
    return f"{sql[:end].rstrip()}, \n\tFOREIGN KEY({column}) REFERENCES {parent} (id) ON DELETE CASCADE\n{sql[end:]}"
