"""Add the origin of a session and of its last use, and the reason of the newest revocation to each floor.

A node of an earlier version raises a floor without a reason. So the floor also names the sequence that its reason
belongs to.

Revision ID: 0008
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None
compatible_since = "0.1.0"
undo_loses = "the origins of sessions, and the reasons of floors"


def upgrade() -> None:
    for name in ("create_ip_address", "create_user_agent", "last_ip_address", "last_user_agent"):
        op.add_column("sessions", sa.Column(name, sa.Text(), nullable=True))
    op.add_column(
        "revocation_floors", sa.Column("reason", sa.SmallInteger(), nullable=False, server_default="0")
    )
    op.add_column("revocation_floors", sa.Column("reason_sequence", sa.BigInteger(), nullable=True))


def downgrade() -> None:
    op.drop_column("revocation_floors", "reason_sequence")
    op.drop_column("revocation_floors", "reason")
    for name in ("last_user_agent", "last_ip_address", "create_user_agent", "create_ip_address"):
        op.drop_column("sessions", name)
