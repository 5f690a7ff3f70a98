"""Entry point of Alembic: `shared.db.migrate` passes an open transaction."""

from __future__ import annotations

from alembic import context

from nightshift.errors import ConfigurationError
from shared.db.schema import metadata

connection = context.config.attributes["connection"]
if connection.dialect.name == "sqlite" and connection.exec_driver_sql("PRAGMA foreign_keys").scalar():
    raise ConfigurationError(
        "foreign keys are on, so a table that is rebuilt would take along what points at it: "
        "migrate by shared.db.migrate, which switches them off"
    )
context.configure(
    connection=connection,
    target_metadata=metadata,
    transactional_ddl=True,  # SQLite too: the driver begins nothing by itself, so DDL rolls back
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
