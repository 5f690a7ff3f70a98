"""Add the hardware of attempts and samples of their resource usage."""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"


def upgrade() -> None:
    op.add_column("attempts", sa.Column("environment", sa.JSON(none_as_null=True), nullable=True))
    op.create_table(
        "system_samples",
        sa.Column("job_id", sa.String(length=32), nullable=False),
        sa.Column("fence", sa.Integer(), nullable=False),
        sa.Column("at", sa.Float(53), nullable=False),
        sa.Column("cpu_percent", sa.Float(53), nullable=True),
        sa.Column("memory_bytes", sa.BigInteger(), nullable=True),
        sa.Column("gpu_percent", sa.Float(53), nullable=True),
        sa.Column("gpu_memory_bytes", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job_id", "fence", "at"),
    )


def downgrade() -> None:
    op.drop_table("system_samples")
    op.drop_column("attempts", "environment")
