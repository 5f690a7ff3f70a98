"""Add what a worker's device cannot do, and whether it takes jobs for any device."""

import sqlalchemy as sa
from alembic import op

revision = "0024"
down_revision = "0023"


def upgrade() -> None:
    op.add_column("workers", sa.Column("unusable", sa.JSON(), nullable=False, server_default="{}"))
    op.add_column("workers", sa.Column("left_because", sa.String(length=500), nullable=True))
    op.add_column("workers", sa.Column("takes_auto", sa.Boolean(), nullable=False, server_default=sa.true()))


def downgrade() -> None:
    for column in ("takes_auto", "left_because", "unusable"):
        op.drop_column("workers", column)
