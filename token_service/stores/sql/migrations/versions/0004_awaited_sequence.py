"""Up to where somebody waits for validators to confirm, so that every node asks its own.

Revision ID: 0004
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "log_head", sa.Column("awaited_sequence", sa.BigInteger(), nullable=False, server_default="0")
    )
