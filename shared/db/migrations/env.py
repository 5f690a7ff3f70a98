"""Alembic's entry: `shared.db.migrate` hands in an open transaction."""

from __future__ import annotations

from alembic import context

from shared.db.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transactional_ddl=True,  # SQLite too: the driver begins nothing by itself, so DDL rolls back
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
