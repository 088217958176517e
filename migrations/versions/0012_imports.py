"""Models that no job made: they are imported. Models say their licence and what they can take."""

import sqlalchemy as sa
from alembic import op

revision = "0012_imports"
down_revision = "0011_queued"
branch_labels = None
depends_on = None

# The older schema has no place for what no job made; what was built on it stays.
FORGET = """
UPDATE jobs SET base_artifact_id = NULL WHERE base_artifact_id IN (SELECT id FROM artifacts WHERE job_id IS NULL);
UPDATE artifacts SET base_artifact_id = NULL WHERE base_artifact_id IN (SELECT id FROM artifacts WHERE job_id IS NULL);
DELETE FROM artifact_files WHERE artifact_id IN (SELECT id FROM artifacts WHERE job_id IS NULL);
DELETE FROM artifacts WHERE job_id IS NULL
"""


def upgrade() -> None:
    with op.batch_alter_table("artifacts") as artifacts:
        artifacts.alter_column("job_id", existing_type=sa.String(), nullable=True)
        artifacts.add_column(sa.Column("licence", sa.String()))
        artifacts.add_column(sa.Column("limits", sa.JSON()))


def downgrade() -> None:
    for statement in FORGET.split(";"):
        op.execute(statement)
    with op.batch_alter_table("artifacts") as artifacts:
        artifacts.drop_column("limits")
        artifacts.drop_column("licence")
        artifacts.alter_column("job_id", existing_type=sa.String(), nullable=False)
