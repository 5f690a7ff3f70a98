"""Add archiving and deletion of jobs; the indexes of the table of jobs stay covering."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"

#: Index -> columns before, columns now.
_INDEXES = {
    "ix_jobs_newest": (["owner_id", "created_at", "id"], ["owner_id", "created_at", "id", "archived_at"]),
    "ix_jobs_states": (["owner_id", "state", "created_at"], ["owner_id", "state", "archived_at", "created_at"]),
    "ix_jobs_created": (["created_at", "id"], ["created_at", "id", "archived_at"]),
}


def upgrade() -> None:
    op.add_column("jobs", sa.Column("archived_at", sa.Float(53), nullable=True))
    for name, (_, now) in _INDEXES.items():
        op.drop_index(name, "jobs")
        op.create_index(name, "jobs", now, unique=False)
    op.create_table(
        "deleted_jobs",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("owner_id", sa.String(length=64), nullable=False),
        sa.Column("idempotency_key", sa.String(length=255), nullable=True),
        sa.Column("body_hash", sa.String(length=64), nullable=True),
        sa.Column("has_files", sa.Boolean(), nullable=False),
        sa.Column("finished_at", sa.Float(53), nullable=False),
        sa.Column("deleted_at", sa.Float(53), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("owner_id", "idempotency_key"),
    )
    op.create_index(
        "ix_deleted_jobs_files",
        "deleted_jobs",
        ["finished_at"],
        unique=False,
        sqlite_where=sa.text("has_files = 1"),
        postgresql_where=sa.text("has_files"),
    )


def downgrade() -> None:
    op.drop_table("deleted_jobs")
    for name, (before, _) in _INDEXES.items():
        op.drop_index(name, "jobs")
        op.create_index(name, "jobs", before, unique=False)
    op.drop_column("jobs", "archived_at")
