"""Deployments have versions and a history: every change is a row, the newest of a name is what it wants"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

OLD = sa.table("deployments", *map(sa.column, ("model_name", "job_id", "export", "created")))


def upgrade() -> None:
    changes = op.create_table(
        "deployment_changes",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("model_name", sa.String(), nullable=False),
        sa.Column("time", sa.Double(), nullable=False),
        sa.Column("action", sa.String(), nullable=False),
        sa.Column("user", sa.String(), nullable=True),
        sa.Column("versions", sa.JSON(), nullable=False),
        sa.Column("previous", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_deployment_changes")),
    )
    with op.batch_alter_table("deployment_changes", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_deployment_changes_model_name"), ["model_name"], unique=False)
    rows = op.get_bind().execute(sa.select(OLD).order_by(OLD.c.created)).mappings()
    kept = [
        {
            "model_name": row["model_name"], "time": row["created"], "action": "deploy", "user": None, "previous": [],
            "versions": [{"job": row["job_id"], "export": row["export"], "weight": 1.0}],
        }
        for row in rows
    ]  # fmt: skip
    op.bulk_insert(changes, kept)
    op.drop_table("deployments")


def downgrade() -> None:
    """Names with what they last wanted; of two versions, the one with the larger share."""
    op.create_table(
        "deployments",
        sa.Column("model_name", sa.String(), nullable=False),
        sa.Column("job_id", sa.String(), nullable=False),
        sa.Column("export", sa.String(), nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_deployments_job_id_jobs")),
        sa.PrimaryKeyConstraint("model_name", name=op.f("pk_deployments")),
    )
    changes = sa.table(
        "deployment_changes",
        *map(sa.column, ("id", "model_name", "time")),
        sa.column("versions", sa.JSON()),
    )
    newest = {row["model_name"]: row for row in op.get_bind().execute(sa.select(changes).order_by("id")).mappings()}
    for name, row in newest.items():
        for version in sorted(row["versions"], key=lambda version: -version["weight"])[:1]:
            values = {"model_name": name, "job_id": version["job"], "export": version["export"], "created": row["time"]}
            op.execute(OLD.insert().values(**values))
    with op.batch_alter_table("deployment_changes", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_deployment_changes_model_name"))
    op.drop_table("deployment_changes")
