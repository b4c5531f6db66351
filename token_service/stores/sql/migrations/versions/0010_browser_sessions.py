"""Add what browser logins need: columns of sessions, an index by upstream session, and the deliveries of logouts.

The migration reads the table once to build the index, which is empty then. Calls for sessions wait meanwhile. A node of
an earlier version opens sessions without these values. Revocations before the migration are not delivered as logouts.

Revision ID: 0010
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None
compatible_since = "0.1.0"
undo_loses = "the identity claims and upstreams of sessions, and the logouts that wait to be delivered"


def upgrade() -> None:
    for name in ("identity_claims", "upstream", "upstream_session"):
        op.add_column("sessions", sa.Column(name, sa.Text(), nullable=True))
    op.create_index(
        "sessions_by_upstream_session",
        "sessions",
        ["upstream", "upstream_session"],
        postgresql_where=sa.text("upstream_session IS NOT NULL"),
        sqlite_where=sa.text("upstream_session IS NOT NULL"),
    )
    op.create_table(
        "logout_deliveries",
        sa.Column("session_id", sa.Uuid(), nullable=False),
        sa.Column("client_id", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("create_time", sa.BigInteger(), nullable=False),
        sa.Column("due_time", sa.BigInteger(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("session_id", name="logout_deliveries_pkey"),
    )
    op.create_index("logout_deliveries_by_due_time", "logout_deliveries", ["due_time"])
    op.create_table(
        "logout_cursor",
        sa.Column("id", sa.SmallInteger(), nullable=False, autoincrement=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="logout_cursor_pkey"),
        sa.CheckConstraint("id = 1", name=op.f("logout_cursor_one_row_check")),
    )
    op.execute("INSERT INTO logout_cursor (id, sequence) SELECT 1, sequence FROM log_head")


def downgrade() -> None:
    op.drop_table("logout_cursor")
    op.drop_table("logout_deliveries")
    op.drop_index("sessions_by_upstream_session", "sessions")
    for name in ("upstream_session", "upstream", "identity_claims"):
        op.drop_column("sessions", name)
