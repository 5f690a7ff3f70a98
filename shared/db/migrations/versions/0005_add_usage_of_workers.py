"""Add the usage of device and host to workers."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.add_column("workers", sa.Column("usage", sa.JSON(), nullable=True))


def downgrade() -> None:
    op.drop_column("workers", "usage")
