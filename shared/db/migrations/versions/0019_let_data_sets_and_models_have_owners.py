"""Add owners of data sets and models, as far as those of existing ones are known."""

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"

#: The owner of the job of the lowest existing version. A job is kept as long as a version refers to it.
_MODELS = """
INSERT INTO models (name, owner_id, created_at)
SELECT first.name, jobs.owner_id, model_versions.created_at
FROM (SELECT name, min(version) AS version FROM model_versions GROUP BY name) AS first
JOIN model_versions ON model_versions.name = first.name AND model_versions.version = first.version
LEFT JOIN jobs ON jobs.id = model_versions.job_id
"""

#: The uploader was not recorded. If all keys have one owner, it is that one, otherwise None.
_DATASETS = """
UPDATE datasets SET owner_id = (SELECT min(owner_id) FROM api_keys)
WHERE NOT builtin AND (SELECT count(DISTINCT owner_id) FROM api_keys) = 1
"""


def upgrade() -> None:
    op.create_table(
        "models",
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("owner_id", sa.String(length=64), nullable=True),
        sa.Column("created_at", sa.Float(precision=53), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.add_column("datasets", sa.Column("owner_id", sa.String(length=64), nullable=True))
    op.execute(_MODELS)
    op.execute(_DATASETS)


def downgrade() -> None:
    op.drop_column("datasets", "owner_id")
    op.drop_table("models")
