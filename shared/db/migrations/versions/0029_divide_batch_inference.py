"""Add the job that a job is a shard of."""

import sqlalchemy as sa
from alembic import op

revision = "0029"
down_revision = "0028"
EXISTS = sa.text("part_of IS NOT NULL")


def upgrade() -> None:
    op.add_column("jobs", sa.Column("part_of", sa.String(length=32), nullable=True))
    op.create_index("ix_jobs_part_of", "jobs", ["part_of", "id"], sqlite_where=EXISTS, postgresql_where=EXISTS)


def downgrade() -> None:
    op.drop_index("ix_jobs_part_of", "jobs")
    op.drop_column("jobs", "part_of")
