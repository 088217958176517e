"""A job may need several workers at once, which are taken all or none, and labels that they must have."""

import sqlalchemy as sa
from alembic import op

revision = "0020_gangs"
down_revision = "0019_installation"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("jobs", sa.Column("nodes", sa.BigInteger(), server_default="1", nullable=False))
    op.add_column("jobs", sa.Column("requires", sa.String(), server_default="", nullable=False))
    asking = sa.text("state = 'queued' AND (nodes > 1 OR requires <> '')")
    op.create_index("ix_jobs_asking", "jobs", ["nodes", "requires"], postgresql_where=asking, sqlite_where=asking)
    op.add_column("workers", sa.Column("labels", sa.JSON()))
    op.add_column("workers", sa.Column("offers_to", sa.String()))
    op.add_column("workers", sa.Column("offers_until", sa.Double()))
    op.create_table(
        "gang_members",
        sa.Column("job_id", sa.String(), nullable=False),
        sa.Column("fence", sa.BigInteger(), nullable=False),
        sa.Column("node_rank", sa.BigInteger(), nullable=False),
        sa.Column("num_nodes", sa.BigInteger(), nullable=False),
        sa.Column("worker", sa.String(), nullable=False),
        sa.Column("master_addr", sa.String(), nullable=False),
        sa.Column("master_port", sa.BigInteger(), nullable=False),
        sa.Column("lease_expires_at", sa.Double(), nullable=False),
        sa.Column("ended_at", sa.Double()),
        sa.Column("failure", sa.JSON()),
        sa.CheckConstraint("node_rank > 0 AND node_rank < num_nodes", name="ck_gang_members_ranks"),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_gang_members_job_id"),
        sa.PrimaryKeyConstraint("job_id", "fence", "node_rank", name="pk_gang_members"),
    )
    op.create_index("ix_gang_members_worker", "gang_members", ["worker"])


def downgrade() -> None:
    op.drop_table("gang_members")
    for name in ("offers_until", "offers_to", "labels"):
        op.drop_column("workers", name)
    op.drop_index("ix_jobs_asking", table_name="jobs")
    op.drop_column("jobs", "requires")
    op.drop_column("jobs", "nodes")
