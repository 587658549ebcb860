"""Pairs have a rank and a quota, labels reasons and hidden repeats"""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

# Of the rows there were; new ones always say.
ADDED: dict[str, dict[str, tuple[Any, Any]]] = {
    "pairs": {
        "rank": (sa.Double(), "0"),
        "wanted": (sa.Integer(), "1"),
        "judged": (sa.Integer(), "0"),
        "open": (sa.Boolean(), sa.true()),
        "withdrawn": (sa.Boolean(), sa.false()),
    },
    "labels": {"reasons": (sa.JSON(), "[]"), "repeat": (sa.Boolean(), sa.false())},
    "pair_leases": {"repeat": (sa.Boolean(), sa.false())},
}


def upgrade() -> None:
    for table, columns in ADDED.items():
        with op.batch_alter_table(table, schema=None) as batch_op:
            for name, (kind, default) in columns.items():
                batch_op.add_column(sa.Column(name, kind, nullable=False, server_default=default))
    op.execute(
        "UPDATE pairs SET judged = (SELECT count(DISTINCT user_id) FROM labels "
        "WHERE labels.pair_id = pairs.id AND labels.choice <> 'skip')"
    )
    op.execute(sa.text("UPDATE pairs SET open = :no WHERE judged >= wanted").bindparams(no=False))
    for table, columns in ADDED.items():
        with op.batch_alter_table(table, schema=None) as batch_op:
            for name, (kind, _) in columns.items():
                batch_op.alter_column(name, existing_type=kind, server_default=None)
    with op.batch_alter_table("pairs", schema=None) as batch_op:
        batch_op.create_index("ix_pairs_queue", ["open", "rank", "created", "id"], unique=False)


def downgrade() -> None:
    with op.batch_alter_table("pairs", schema=None) as batch_op:
        batch_op.drop_index("ix_pairs_queue")
    for table, columns in ADDED.items():
        with op.batch_alter_table(table, schema=None) as batch_op:
            for name in columns:
                batch_op.drop_column(name)
