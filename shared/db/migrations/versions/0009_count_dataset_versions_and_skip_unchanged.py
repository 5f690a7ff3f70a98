"""Add the highest version number of a data set, and `skip_if_unchanged` of schedules."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    op.add_column("datasets", sa.Column("last_version", sa.Integer(), nullable=False, server_default="0"))
    op.execute(
        "UPDATE datasets SET last_version = "
        "coalesce((SELECT max(version) FROM dataset_versions WHERE dataset_versions.name = datasets.name), 0)"
    )
    op.add_column("schedules", sa.Column("skip_if_unchanged", sa.Boolean(), nullable=False, server_default=sa.false()))


def downgrade() -> None:
    with op.batch_alter_table("schedules") as table:
        table.drop_column("skip_if_unchanged")
    with op.batch_alter_table("datasets") as table:
        table.drop_column("last_version")
