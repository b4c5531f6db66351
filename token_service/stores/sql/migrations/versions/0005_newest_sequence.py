"""Of which entry the time of the newest one is: a node of an earlier version leaves that as it was when it appends another.

Revision ID: 0005
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("log_head", sa.Column("newest_sequence", sa.BigInteger(), nullable=True))
