"""What the last entry of the log is, so that a log is told from one that was put back to a backup and has grown since.

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
    op.add_column("log_head", sa.Column("newest_time", sa.BigInteger(), nullable=True))
