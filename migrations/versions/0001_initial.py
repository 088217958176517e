"""The first schema: projects, keys, files, jobs with their records, artifacts, outbox."""

import sqlalchemy as sa
from alembic import op

revision = "0001_initial"
down_revision = None
branch_labels = None
depends_on = None

JOB_STATES = "'queued','preparing','running','succeeded','failed','cancelled'"
ENDED = "'succeeded','failed','cancelled'"


def upgrade() -> None:
    create_projects()
    create_jobs()
    create_artifacts()
    create_records()
    create_outbox()


def downgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        # jobs and artifacts refer to each other.
        op.drop_constraint("fk_jobs_base_artifact_id", "jobs", type_="foreignkey")
    for table in (
        "outbox",
        "metrics",
        "events",
        "attempts",
        "artifact_files",
        "artifacts",
        "jobs",
        "files",
        "api_keys",
        "projects",
    ):
        op.drop_table(table)


def create_projects() -> None:
    op.create_table(
        "projects",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_projects"),
        sa.UniqueConstraint("name", name="uq_projects_name"),
    )
    op.create_table(
        "api_keys",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("project_id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("prefix", sa.String(), nullable=False),
        sa.Column("secret_hash", sa.String(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("revoked_at", sa.Double()),
        sa.PrimaryKeyConstraint("id", name="pk_api_keys"),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name="fk_api_keys_project_id"),
        sa.UniqueConstraint("secret_hash", name="uq_api_keys_secret_hash"),
    )
    op.create_index("ix_api_keys_project_id_id", "api_keys", ["project_id", "id"])
    op.create_table(
        "files",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("project_id", sa.String(), nullable=False),
        sa.Column("filename", sa.String(), nullable=False),
        sa.Column("purpose", sa.String(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.String(), nullable=False),
        sa.Column("format", sa.String(), nullable=False),
        sa.Column("row_count", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("deleted_at", sa.Double()),
        sa.CheckConstraint("size_bytes >= 0", name="ck_files_size"),
        sa.CheckConstraint("row_count >= 0", name="ck_files_rows"),
        sa.CheckConstraint("length(sha256) = 64", name="ck_files_sha256"),
        sa.PrimaryKeyConstraint("id", name="pk_files"),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name="fk_files_project_id"),
    )
    op.create_index("ix_files_project_id_id", "files", ["project_id", "id"])


def create_jobs() -> None:
    base = ["base_artifact_id"], ["artifacts.id"], "fk_jobs_base_artifact_id"
    # SQLite lets a table refer to one that is still to come, and cannot add a reference later.
    early = [sa.ForeignKeyConstraint(*base)] if op.get_bind().dialect.name == "sqlite" else []
    op.create_table(
        "jobs",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("project_id", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("spec", sa.JSON(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("priority", sa.BigInteger(), nullable=False),
        sa.Column("base_artifact_id", sa.String()),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("started_at", sa.Double()),
        sa.Column("finished_at", sa.Double()),
        sa.Column("fence", sa.BigInteger(), nullable=False),
        sa.Column("worker", sa.String()),
        sa.Column("lease_expires_at", sa.Double()),
        sa.Column("heartbeat_at", sa.Double()),
        sa.Column("cancel_requested_at", sa.Double()),
        sa.Column("not_before", sa.Double()),
        sa.Column("failures", sa.BigInteger(), nullable=False),
        sa.Column("dispatched_at", sa.Double()),
        sa.Column("dispatches", sa.BigInteger(), nullable=False),
        sa.Column("last_seq", sa.BigInteger(), nullable=False),
        sa.Column("step", sa.BigInteger()),
        sa.Column("total_steps", sa.BigInteger()),
        sa.Column("progress", sa.JSON()),
        sa.Column("failure_class", sa.String()),
        sa.Column("error_code", sa.String()),
        sa.Column("error_message", sa.String()),
        sa.Column("error_mend", sa.String()),
        sa.Column("result", sa.JSON()),
        sa.CheckConstraint(f"state IN ({JOB_STATES})", name="ck_jobs_state"),
        sa.CheckConstraint("(lease_expires_at IS NOT NULL) = (state IN ('preparing','running'))", name="ck_jobs_lease"),
        sa.CheckConstraint(f"(finished_at IS NOT NULL) = (state IN ({ENDED}))", name="ck_jobs_finished"),
        sa.CheckConstraint("fence >= 0 AND failures >= 0 AND dispatches >= 0 AND last_seq >= 0", name="ck_jobs_counts"),
        sa.PrimaryKeyConstraint("id", name="pk_jobs"),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name="fk_jobs_project_id"),
        *early,
    )
    op.create_index("ix_jobs_project_id_id", "jobs", ["project_id", "id"])
    create_partial_index("ix_jobs_queue", "jobs", ["priority", "id", "state"], where="state = 'queued'")
    create_partial_index("ix_jobs_lease", "jobs", ["lease_expires_at"], where="lease_expires_at IS NOT NULL")
    create_partial_index("ix_jobs_base", "jobs", ["base_artifact_id"], where="base_artifact_id IS NOT NULL")
    op.create_table(
        "attempts",
        sa.Column("job_id", sa.String(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("worker", sa.String(), nullable=False),
        sa.Column("started_at", sa.Double(), nullable=False),
        sa.Column("ended_at", sa.Double()),
        sa.Column("outcome", sa.String()),
        sa.Column("failure_class", sa.String()),
        sa.Column("message", sa.String()),
        sa.Column("resume_step", sa.BigInteger()),
        sa.Column("exit_code", sa.BigInteger()),
        sa.PrimaryKeyConstraint("job_id", "number", name="pk_attempts"),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_attempts_job_id"),
    )


def create_artifacts() -> None:
    op.create_table(
        "artifacts",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("project_id", sa.String(), nullable=False),
        sa.Column("job_id", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("layout", sa.String(), nullable=False),
        sa.Column("name", sa.String()),
        sa.Column("version", sa.BigInteger()),
        sa.Column("step", sa.BigInteger(), nullable=False),
        sa.Column("base_artifact_id", sa.String()),
        sa.Column("metrics", sa.JSON(), nullable=False),
        sa.Column("lineage", sa.JSON(), nullable=False),
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("deleted_at", sa.Double()),
        sa.CheckConstraint("kind IN ('model','adapter','checkpoint')", name="ck_artifacts_kind"),
        sa.CheckConstraint("layout IN ('model','adapter')", name="ck_artifacts_layout"),
        sa.CheckConstraint("(name IS NULL) = (version IS NULL)", name="ck_artifacts_version"),
        sa.CheckConstraint("size_bytes >= 0", name="ck_artifacts_size"),
        sa.PrimaryKeyConstraint("id", name="pk_artifacts"),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name="fk_artifacts_project_id"),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_artifacts_job_id"),
        sa.ForeignKeyConstraint(["base_artifact_id"], ["artifacts.id"], name="fk_artifacts_base_artifact_id"),
        sa.UniqueConstraint("project_id", "name", "version", name="uq_artifacts_project_id_name_version"),
        sa.UniqueConstraint("job_id", "kind", "step", name="uq_artifacts_job_id_kind_step"),
    )
    op.create_index("ix_artifacts_project_id_id", "artifacts", ["project_id", "id"])
    if op.get_bind().dialect.name == "postgresql":
        op.create_foreign_key("fk_jobs_base_artifact_id", "jobs", "artifacts", ["base_artifact_id"], ["id"])
    op.create_table(
        "artifact_files",
        sa.Column("artifact_id", sa.String(), nullable=False),
        sa.Column("path", sa.String(), nullable=False),
        sa.Column("sha256", sa.String(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("length(sha256) = 64", name="ck_artifact_files_sha256"),
        sa.CheckConstraint("size_bytes >= 0", name="ck_artifact_files_size"),
        sa.PrimaryKeyConstraint("artifact_id", "path", name="pk_artifact_files"),
        sa.ForeignKeyConstraint(["artifact_id"], ["artifacts.id"], name="fk_artifact_files_artifact_id"),
    )
    op.create_index("ix_artifact_files_sha256", "artifact_files", ["sha256"])


def create_records() -> None:
    op.create_table(
        "events",
        sa.Column("job_id", sa.String(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("attempt", sa.BigInteger()),
        sa.Column("type", sa.String(), nullable=False),
        sa.Column("level", sa.String(), nullable=False),
        sa.Column("message", sa.String(), nullable=False),
        sa.Column("data", sa.JSON()),
        sa.CheckConstraint("level IN ('info','warn','error')", name="ck_events_level"),
        sa.PrimaryKeyConstraint("job_id", "seq", name="pk_events"),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_events_job_id"),
    )
    op.create_table(
        "metrics",
        sa.Column("job_id", sa.String(), nullable=False),
        sa.Column("split", sa.String(), nullable=False),
        sa.Column("step", sa.BigInteger(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("attempt", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("values", sa.JSON(), nullable=False),
        sa.CheckConstraint("split IN ('train','eval')", name="ck_metrics_split"),
        sa.PrimaryKeyConstraint("job_id", "split", "step", name="pk_metrics"),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_metrics_job_id"),
    )
    op.create_index("ix_metrics_job_id_seq", "metrics", ["job_id", "seq"], unique=True)


def create_outbox() -> None:
    number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.create_table(
        "outbox",
        sa.Column("id", number, nullable=False, autoincrement=True),
        sa.Column("job_id", sa.String(), nullable=False),
        sa.Column("topic", sa.String(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("due_at", sa.Double(), nullable=False),
        sa.Column("sent_at", sa.Double()),
        sa.Column("attempts", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_outbox"),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_outbox_job_id"),
    )
    create_partial_index("uq_outbox_unsent", "outbox", ["job_id"], where="sent_at IS NULL", unique=True)
    create_partial_index("ix_outbox_due", "outbox", ["due_at"], where="sent_at IS NULL")


def create_partial_index(name: str, table: str, columns: list[str], *, where: str, unique: bool = False) -> None:
    condition = sa.text(where)
    op.create_index(name, table, columns, unique=unique, postgresql_where=condition, sqlite_where=condition)
