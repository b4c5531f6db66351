"""The head of the log says what its newest entry is, and up to where validators are waited for.

By its newest entry a log is told from one that was put back to a backup and has grown since. Of which entry
the time is, is kept with it: a node of an earlier version leaves both as they were when it appends another.

Revision ID: 0003
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("log_head", sa.Column("newest_sequence", sa.BigInteger(), nullable=True))
    op.add_column("log_head", sa.Column("newest_time", sa.BigInteger(), nullable=True))
    op.add_column(
        "log_head", sa.Column("awaited_sequence", sa.BigInteger(), nullable=False, server_default="0")
    )
