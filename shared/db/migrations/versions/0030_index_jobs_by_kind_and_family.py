"""Index jobs by kind and family, so that the list finds rare ones in a long queue."""

from alembic import op

revision = "0030"
down_revision = "0029"
INDEXES = {"ix_jobs_kinds": "kind", "ix_jobs_families": "family"}


def upgrade() -> None:
    for name, column in INDEXES.items():
        op.create_index(name, "jobs", ["owner_id", column, "created_at", "id"])


def downgrade() -> None:
    for name in INDEXES:
        op.drop_index(name, "jobs")
