"""The event log, which numbers the events of the outbox, and the places of its consumers.

A node of an earlier version writes to the outbox as before and deletes the rows there that are older than 7 days.

Revision ID: 0015
"""

from __future__ import annotations

import secrets

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None
compatible_since = "0.1.0"
undo_loses = "the events that readers have not read yet, and the places of readers"


def upgrade() -> None:
    op.create_table(
        "events",
        sa.Column("sequence", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("chain_id", sa.Text(), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("create_time", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("sequence", name="events_pkey"),
    )
    head = op.create_table(
        "event_head",
        sa.Column("id", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("epoch", sa.Text(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("purged_sequence", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="event_head_pkey"),
        sa.CheckConstraint("id = 1", name=op.f("event_head_one_row_check")),
    )
    op.bulk_insert(head, [{"id": 1, "epoch": secrets.token_urlsafe(12), "sequence": 0, "purged_sequence": 0}])
    op.create_table(
        "event_consumers",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("update_time", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="event_consumers_pkey"),
    )


def downgrade() -> None:
    for name in ("event_consumers", "event_head", "events"):
        op.drop_table(name)
