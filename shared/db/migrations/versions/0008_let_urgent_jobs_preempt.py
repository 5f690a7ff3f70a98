"""Add preemption: which jobs may preempt, and which running job is preempted for which."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"

_RUNNING = sa.text("state = 'running'")


def upgrade() -> None:
    op.add_column("jobs", sa.Column("preempts", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("jobs", sa.Column("makes_room_for", sa.String(length=32), nullable=True))
    op.create_index(
        "ix_jobs_urgent",
        "jobs",
        ["rank", "id"],
        sqlite_where=sa.text("state = 'queued' AND preempts = 1"),
        postgresql_where=sa.text("state = 'queued' AND preempts"),
    )
    op.create_index(
        "ix_jobs_makes_room", "jobs", ["makes_room_for"], unique=True, sqlite_where=_RUNNING, postgresql_where=_RUNNING
    )


def downgrade() -> None:
    op.drop_index("ix_jobs_makes_room", "jobs")
    op.drop_index("ix_jobs_urgent", "jobs")
    op.drop_column("jobs", "makes_room_for")
    op.drop_column("jobs", "preempts")
