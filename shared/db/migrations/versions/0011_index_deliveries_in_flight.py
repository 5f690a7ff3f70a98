"""Index leased deliveries, and change the index of old ones so that the planner does not use it for pending ones."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    op.create_index(
        "ix_webhook_deliveries_leased",
        "webhook_deliveries",
        ["lease_until"],
        unique=False,
        sqlite_where=sa.text("lease_until IS NOT NULL"),
        postgresql_where=sa.text("lease_until IS NOT NULL"),
    )
    op.drop_index("ix_webhook_deliveries_old", "webhook_deliveries")
    op.create_index("ix_webhook_deliveries_old", "webhook_deliveries", ["created_at", "state"], unique=False)


def downgrade() -> None:
    op.drop_index("ix_webhook_deliveries_old", "webhook_deliveries")
    op.create_index("ix_webhook_deliveries_old", "webhook_deliveries", ["state", "created_at"], unique=False)
    op.drop_index("ix_webhook_deliveries_leased", "webhook_deliveries")
