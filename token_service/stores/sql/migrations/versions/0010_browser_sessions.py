"""Add the identity claims and the upstream of a browser login to the sessions, and an index by upstream session.

The migration reads the table once to build the index, which is empty then. Calls for sessions wait meanwhile. A node of
an earlier version opens sessions without these values.

Revision ID: 0010
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


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
