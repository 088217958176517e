"""Jobs can be paused: two more states."""

import sqlalchemy as sa
from alembic import op

revision = "0002_pauses"
down_revision = "0001_initial"
branch_labels = None
depends_on = None

ENDED = "'succeeded','failed','cancelled'"
# The first migration's names have the prefix twice: it gave them with it, and the naming convention put it before them.
BEFORE = {
    "ck_jobs_ck_jobs_state": f"state IN ('queued','preparing','running',{ENDED})",
    "ck_jobs_ck_jobs_lease": "(lease_expires_at IS NOT NULL) = (state IN ('preparing','running'))",
}
AFTER = {
    "ck_jobs_state": f"state IN ('queued','preparing','running','pausing','paused',{ENDED})",
    "ck_jobs_lease": "(lease_expires_at IS NOT NULL) = (state IN ('preparing','running','pausing'))",
}


def upgrade() -> None:
    replace_checks(BEFORE, AFTER)


def downgrade() -> None:
    op.execute("UPDATE jobs SET state = 'running' WHERE state = 'pausing'")
    op.execute("UPDATE jobs SET state = 'queued' WHERE state = 'paused'")
    replace_checks(AFTER, BEFORE)


def replace_checks(old: dict[str, str], new: dict[str, str]) -> None:
    with op.batch_alter_table("jobs") as jobs:
        for name in old:
            jobs.drop_constraint(op.f(name), type_="check")
        for name, rule in new.items():
            jobs.create_check_constraint(op.f(name), sa.text(rule))
