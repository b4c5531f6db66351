"""Event streams of receivers (Shared Signals Framework), and the events that wait in them.

Revision ID: 0019
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None
compatible_since = "0.1.0"
undo_loses = "the event streams of receivers, and the events that wait in them"


def upgrade() -> None:
    op.create_table(
        "event_streams",
        sa.Column("stream_id", sa.Text(), nullable=False),
        sa.Column("client_id", sa.Text(), nullable=False),
        sa.Column("slot", sa.SmallInteger(), nullable=False),
        sa.Column("method", sa.Text(), nullable=False),
        sa.Column("endpoint_url", sa.Text(), nullable=False),
        sa.Column("push_authorization", sa.LargeBinary(), nullable=False),
        sa.Column("wrapping_key_id", sa.Text(), nullable=False),
        sa.Column("events_requested", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("create_time", sa.BigInteger(), nullable=False),
        sa.Column("verify_time", sa.BigInteger(), nullable=True),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("stream_id", name="event_streams_pkey"),
    )
    op.create_index("event_streams_by_client", "event_streams", ["client_id", "slot"], unique=True)
    op.create_table(
        "waiting_events",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("stream_id", sa.Text(), nullable=False),
        sa.Column("token_id", sa.Text(), nullable=False),
        sa.Column("event_type", sa.Text(), nullable=False),
        sa.Column("chain_id", sa.Text(), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("create_time", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="waiting_events_pkey"),
    )
    op.create_index("waiting_events_by_stream", "waiting_events", ["stream_id", "id"])
    op.create_index("waiting_events_by_token", "waiting_events", ["stream_id", "token_id"], unique=True)
    op.create_table(
        "removed_subjects",
        sa.Column("stream_id", sa.Text(), nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("stream_id", "fingerprint", name="removed_subjects_pkey"),
    )


def downgrade() -> None:
    for name in ("removed_subjects", "waiting_events", "event_streams"):
        op.drop_table(name)
    # Their consumers would keep places that nothing reads.
    op.execute("DELETE FROM event_consumers WHERE name LIKE 'ssf:%'")
