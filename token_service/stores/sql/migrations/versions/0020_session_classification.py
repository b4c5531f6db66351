"""Add to each session the classification of its client at the login, and an index of events by on whose behalf.

A node of an earlier version leaves the column empty. Such a session has no known classification, so a change of the
classification of its client does not revoke it.

Revision ID: 0020
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None
compatible_since = "0.1.0"
undo_loses = "which sessions began under which classification"


def upgrade() -> None:
    op.add_column("sessions", sa.Column("classification", sa.Text(), nullable=True))
    op.create_index(
        "audit_events_by_on_behalf_of",
        "audit_events",
        ["on_behalf_of", "time"],
        postgresql_where=sa.text("on_behalf_of <> ''"),
        sqlite_where=sa.text("on_behalf_of <> ''"),
    )


def downgrade() -> None:
    op.drop_index("audit_events_by_on_behalf_of", "audit_events")
    op.drop_column("sessions", "classification")
