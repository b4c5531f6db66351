"""Add the hash and the name of a personal access token to the sessions, and an index of these sessions.

The migration reads the table once to build the index, which is empty then. Calls for sessions wait meanwhile. A node of
an earlier version takes a personal access token for a session without a token: it lists and revokes it.

Revision ID: 0009
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None
compatible_since = "0.1.0"
undo_loses = "the personal access tokens"


def upgrade() -> None:
    op.add_column("sessions", sa.Column("personal_hash", sa.LargeBinary(), nullable=True))
    op.add_column("sessions", sa.Column("name", sa.Text(), nullable=True))
    op.create_index(
        "sessions_by_personal_token",
        "sessions",
        ["subject", "create_time", "id"],
        postgresql_where=sa.text("personal_hash IS NOT NULL"),
        sqlite_where=sa.text("personal_hash IS NOT NULL"),
    )


def downgrade() -> None:
    # The rows stay. A session without a row could no longer be revoked.
    op.drop_index("sessions_by_personal_token", "sessions")
    op.drop_column("sessions", "name")
    op.drop_column("sessions", "personal_hash")
