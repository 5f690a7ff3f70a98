"""Add the ledger of devices, and what jobs need of them."""

import sqlalchemy as sa
from alembic import op

revision = "0027"
down_revision = "0026"

PLAIN = "device || '/' || coalesce(framework, '') || '/' || coalesce(plugin, '')"
WITH_NEEDS = PLAIN + " || coalesce('#' || needs, '')"


def upgrade() -> None:
    op.create_table(
        "devices",
        sa.Column("id", sa.String(length=200), nullable=False),
        sa.Column("host", sa.String(length=200), nullable=False),
        sa.Column("kind", sa.String(length=8), nullable=False),
        sa.Column("worker", sa.String(length=200), nullable=True),
        sa.Column("model", sa.String(length=200), nullable=False),
        sa.Column("memory_bytes", sa.BigInteger(), nullable=True),
        sa.Column("labels", sa.JSON(), nullable=False, server_default="[]"),
        sa.Column("cordoned_at", sa.Float(53), nullable=True),
        sa.Column("job_id", sa.String(length=32), nullable=True),
        sa.Column("fence", sa.Integer(), nullable=True),
        sa.Column("holder", sa.String(length=200), nullable=True),
        sa.Column("held_since", sa.Float(53), nullable=True),
        sa.Column("reserved_for", sa.String(length=32), nullable=True),
        sa.Column("reserved_until", sa.Float(53), nullable=True),
        sa.Column("yields_below", sa.Integer(), nullable=True),
        sa.Column("is_filler", sa.Boolean(), nullable=False, server_default=sa.false()),
        sa.Column("registered_at", sa.Float(53), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_devices_worker", "devices", ["worker"], unique=True)
    op.create_index("ix_devices_host", "devices", ["host", "kind"])
    op.create_index("ix_devices_job", "devices", ["job_id"])
    op.add_column("jobs", sa.Column("needs", sa.String(length=700), nullable=True))
    _require(WITH_NEEDS, 800)


def downgrade() -> None:
    _require(PLAIN, 64)
    op.drop_column("jobs", "needs")
    op.drop_table("devices")


def _require(expression: str, length: int) -> None:
    """Let `jobs.requires` be computed otherwise: a computed column can only be replaced."""
    op.drop_index("ix_jobs_requires", "jobs")
    op.drop_column("jobs", "requires")
    # SQLite can add no stored column, PostgreSQL can index no other.
    stored = True if op.get_bind().dialect.name == "postgresql" else None
    computed = sa.Computed(expression, persisted=stored)
    op.add_column("jobs", sa.Column("requires", sa.String(length=length), computed, nullable=True))
    op.create_index(
        "ix_jobs_requires",
        "jobs",
        ["requires", "priority", "run_at", "id"],
        sqlite_where=sa.text("state = 'queued'"),
        postgresql_where=sa.text("state = 'queued'"),
    )
