"""Add what jobs need and workers have of plug-ins."""

import sqlalchemy as sa
from alembic import op

revision = "0022"
down_revision = "0021"


def upgrade() -> None:
    op.add_column("jobs", sa.Column("plugin", sa.String(length=32), nullable=True))
    op.add_column("jobs", sa.Column("plugin_record", sa.String(length=64), nullable=True))
    op.add_column("jobs", sa.Column("plugin_state", sa.Integer(), nullable=True))
    op.add_column("workers", sa.Column("plugins", sa.JSON(), nullable=False, server_default="[]"))


def downgrade() -> None:
    op.drop_column("workers", "plugins")
    for column in ("plugin_state", "plugin_record", "plugin"):
        op.drop_column("jobs", column)
