"""Add reports of the conformance kit."""

import sqlalchemy as sa
from alembic import op

revision = "0023"
down_revision = "0022"


def upgrade() -> None:
    op.create_table(
        "conformance_reports",
        sa.Column("plugin", sa.String(length=32), nullable=False),
        sa.Column("record", sa.String(length=64), nullable=False),
        sa.Column("package", sa.String(length=300), nullable=False),
        sa.Column("passed", sa.Boolean(), nullable=False),
        sa.Column("report", sa.JSON(), nullable=False),
        sa.Column("checked_at", sa.Float(precision=53), nullable=False),
        sa.PrimaryKeyConstraint("plugin", "record"),
    )


def downgrade() -> None:
    op.drop_table("conformance_reports")
