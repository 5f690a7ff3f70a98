"""Index queued jobs by device, framework and plug-in, so that a claim reads no job that it cannot take."""

import sqlalchemy as sa
from alembic import op

revision = "0025"
down_revision = "0024"


def upgrade() -> None:
    # SQLite can add no stored column, PostgreSQL can index no other.
    stored = True if op.get_bind().dialect.name == "postgresql" else None
    requires = "device || '/' || coalesce(framework, '') || '/' || coalesce(plugin, '')"
    op.add_column(
        "jobs", sa.Column("requires", sa.String(length=64), sa.Computed(requires, persisted=stored), nullable=True)
    )
    op.create_index(
        "ix_jobs_requires",
        "jobs",
        ["requires", "priority", "run_at", "id"],
        sqlite_where=sa.text("state = 'queued'"),
        postgresql_where=sa.text("state = 'queued'"),
    )


def downgrade() -> None:
    op.drop_index("ix_jobs_requires", "jobs")
    op.drop_column("jobs", "requires")
