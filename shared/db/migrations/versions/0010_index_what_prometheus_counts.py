"""Add covering indexes for the counts of Prometheus, because rows of jobs are wide."""

from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    op.create_index("ix_jobs_durations", "jobs", ["kind", "state", "started_at", "finished_at"], unique=False)
    op.create_index("ix_attempts_outcome", "attempts", ["outcome"], unique=False)


def downgrade() -> None:
    op.drop_index("ix_attempts_outcome", "attempts")
    op.drop_index("ix_jobs_durations", "jobs")
