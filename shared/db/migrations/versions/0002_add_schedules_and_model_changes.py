"""Add schedules, their ticks, and the audit of model aliases."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.create_table(
        "schedules",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("owner_id", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("cron", sa.String(length=100), nullable=False),
        sa.Column("timezone", sa.String(length=64), nullable=False),
        sa.Column("job", sa.JSON(), nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("catch_up", sa.String(length=8), nullable=False),
        sa.Column("catch_up_limit", sa.Integer(), nullable=False),
        sa.Column("max_lateness_seconds", sa.Float(precision=53), nullable=True),
        sa.Column("overlap", sa.String(length=16), nullable=False),
        sa.Column("next_at", sa.Float(precision=53), nullable=True),
        sa.Column("created_at", sa.Float(precision=53), nullable=False),
        sa.Column("updated_at", sa.Float(precision=53), nullable=False),
        sa.CheckConstraint("next_at IS NULL OR enabled", name="due_only_if_enabled"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("owner_id", "name"),
    )
    op.create_index("ix_schedules_due", "schedules", ["next_at"], unique=False)
    op.create_table(
        "schedule_ticks",
        sa.Column("schedule_id", sa.String(length=32), nullable=False),
        sa.Column("due_at", sa.Float(precision=53), nullable=False),
        sa.Column("manual", sa.Boolean(), nullable=False),
        sa.Column("outcome", sa.String(length=16), nullable=False),
        sa.Column("job_id", sa.String(length=32), nullable=True),
        sa.Column("reason", sa.String(length=500), nullable=True),
        sa.Column("decided_at", sa.Float(precision=53), nullable=False),
        sa.CheckConstraint("(outcome = 'submitted') = (job_id IS NOT NULL)", name="job_iff_submitted"),
        sa.ForeignKeyConstraint(["schedule_id"], ["schedules.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("schedule_id", "due_at"),
    )
    op.create_index("ix_schedule_ticks_job", "schedule_ticks", ["job_id"], unique=False)
    op.create_index("ix_schedule_ticks_outcome", "schedule_ticks", ["outcome", "schedule_id", "due_at"], unique=False)
    op.create_table(
        "model_changes",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("change", sa.String(length=16), nullable=False),
        sa.Column("alias", sa.String(length=100), nullable=True),
        sa.Column("from_version", sa.Integer(), nullable=True),
        sa.Column("to_version", sa.Integer(), nullable=True),
        sa.Column("who", sa.String(length=100), nullable=False),
        sa.Column("why", sa.String(length=500), nullable=True),
        sa.Column("at", sa.Float(precision=53), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_model_changes_name", "model_changes", ["name", "id"], unique=False)
    # The current targets of aliases start their history, so that a rollback can return to them.
    op.execute(
        "INSERT INTO model_changes (name, change, alias, to_version, who, why, at) "
        "SELECT name, 'set', alias, version, 'system', 'before the audit began', updated_at FROM model_aliases"
    )


def downgrade() -> None:
    for table in ("model_changes", "schedule_ticks", "schedules"):
        op.drop_table(table)
