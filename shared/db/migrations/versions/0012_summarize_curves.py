"""Add summaries of curves, by which the table of jobs sorts and filters."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"

_FILL = """
INSERT INTO curve_summaries (job_id, name, step, last, lowest, highest)
SELECT ends.job_id, ends.name, ends.step, metrics.value, ends.lowest, ends.highest
FROM (
    SELECT job_id, name, max(step) AS step, min(value) AS lowest, max(value) AS highest FROM metrics
    GROUP BY job_id, name
) AS ends
JOIN metrics ON metrics.job_id = ends.job_id AND metrics.name = ends.name AND metrics.step = ends.step
"""


def upgrade() -> None:
    op.create_table(
        "curve_summaries",
        sa.Column("job_id", sa.String(length=32), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("step", sa.BigInteger(), nullable=False),
        sa.Column("last", sa.Float(53), nullable=False),
        sa.Column("lowest", sa.Float(53), nullable=False),
        sa.Column("highest", sa.Float(53), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job_id", "name"),
    )
    if op.get_bind().dialect.name == "postgresql":  # months of points exceed the statement timeout
        op.execute("SET LOCAL statement_timeout = 0")
    op.execute(_FILL)


def downgrade() -> None:
    op.drop_table("curve_summaries")
