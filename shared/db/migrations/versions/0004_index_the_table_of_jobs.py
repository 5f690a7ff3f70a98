"""Add indexes for counts and sort orders of the table of jobs."""

from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.create_index("ix_jobs_states", "jobs", ["owner_id", "state", "created_at"], unique=False)
    op.create_index("ix_jobs_created", "jobs", ["created_at", "id"], unique=False)


def downgrade() -> None:
    op.drop_index("ix_jobs_created", "jobs")
    op.drop_index("ix_jobs_states", "jobs")
