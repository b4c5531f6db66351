"""Add to each node's report the node itself, and the list of its subscribers while an operator asks for it.

A node of an earlier version leaves the new columns of its own row empty.

Revision ID: 0014
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None
compatible_since = "0.1.0"
undo_loses = ""


def upgrade() -> None:
    op.add_column("nodes", sa.Column("details", sa.Text(), nullable=True))
    op.add_column(
        "nodes", sa.Column("wants_subscribers", sa.SmallInteger(), nullable=False, server_default="0")
    )
    op.add_column("nodes", sa.Column("subscribers", sa.LargeBinary(), nullable=True))
    op.add_column("nodes", sa.Column("subscribers_time", sa.BigInteger(), nullable=True))


def downgrade() -> None:
    for name in ("subscribers_time", "subscribers", "wants_subscribers", "details"):
        op.drop_column("nodes", name)
