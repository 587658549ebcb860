"""Keys can be revoked, have limits and a consent"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("keys", schema=None) as batch_op:
        batch_op.add_column(sa.Column("revoked", sa.Double(), nullable=True))
        batch_op.add_column(sa.Column("requests_per_minute", sa.Integer(), nullable=True))
        batch_op.add_column(sa.Column("tokens_per_minute", sa.Integer(), nullable=True))
        batch_op.add_column(sa.Column("keep_chats", sa.Boolean(), nullable=False, server_default=sa.false()))
    # The default was for the rows there were; new ones always say.
    with op.batch_alter_table("keys", schema=None) as batch_op:
        batch_op.alter_column("keep_chats", existing_type=sa.Boolean(), server_default=None)


def downgrade() -> None:
    with op.batch_alter_table("keys", schema=None) as batch_op:
        for name in ("keep_chats", "tokens_per_minute", "requests_per_minute", "revoked"):
            batch_op.drop_column(name)
