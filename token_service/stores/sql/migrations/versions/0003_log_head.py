"""The time of the newest entry, and the highest sequence that a wait needs confirmed, in the head of the log.

The time distinguishes a log from one that was restored from a backup and has grown since then. The head also names the
sequence that the time belongs to, because a node of an earlier version changes neither when it appends an entry.

Revision ID: 0003
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None
compatible_since = "0.1.0"
undo_loses = "the time of the newest entry, by which nodes notice a restored database"


def upgrade() -> None:
    op.add_column("log_head", sa.Column("newest_sequence", sa.BigInteger(), nullable=True))
    op.add_column("log_head", sa.Column("newest_time", sa.BigInteger(), nullable=True))
    op.add_column(
        "log_head", sa.Column("awaited_sequence", sa.BigInteger(), nullable=False, server_default="0")
    )


def downgrade() -> None:
    for name in ("awaited_sequence", "newest_time", "newest_sequence"):
        op.drop_column("log_head", name)
