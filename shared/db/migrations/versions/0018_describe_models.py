"""Add descriptions of models and versions, and tags of versions."""

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"


def upgrade() -> None:
    op.create_table(
        "model_descriptions",
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("updated_at", sa.Float(precision=53), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.add_column("model_versions", sa.Column("description", sa.Text(), nullable=True))
    op.add_column("model_versions", sa.Column("tags", sa.JSON(), nullable=False, server_default="{}"))


def downgrade() -> None:
    op.drop_column("model_versions", "tags")
    op.drop_column("model_versions", "description")
    op.drop_table("model_descriptions")
