"""Keep what the counters for Prometheus need of a job that is deleted."""

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"


def upgrade() -> None:
    op.add_column("deleted_jobs", sa.Column("kind", sa.String(length=16), nullable=True))
    op.add_column("deleted_jobs", sa.Column("state", sa.String(length=16), nullable=True))
    op.add_column("deleted_jobs", sa.Column("started_at", sa.Float(53), nullable=True))
    columns = ["kind", "state", "started_at", "finished_at"]
    op.create_index("ix_deleted_jobs_durations", "deleted_jobs", columns, unique=False)
    op.create_table(
        "deleted_attempts",
        sa.Column("outcome", sa.String(length=16), nullable=False),
        sa.Column("job_id", sa.String(length=32), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["deleted_jobs.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("outcome", "job_id"),
    )


def downgrade() -> None:
    op.drop_table("deleted_attempts")
    op.drop_index("ix_deleted_jobs_durations", "deleted_jobs")
    for column in ("started_at", "state", "kind"):
        op.drop_column("deleted_jobs", column)
