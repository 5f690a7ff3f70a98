"""Index attempts by end, to find those that ran in a time window."""

from alembic import op

revision = "0016"
down_revision = "0015"


def upgrade() -> None:
    op.create_index("ix_attempts_ended", "attempts", ["ended_at"], unique=False)


def downgrade() -> None:
    op.drop_index("ix_attempts_ended", "attempts")
