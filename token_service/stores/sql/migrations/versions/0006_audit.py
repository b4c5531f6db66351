"""The audit trail: chains of events, checkpoints of the chains, the outbox of events, and samples of cursors.

Revision ID: 0006
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None
compatible_since = "0.1.0"
undo_loses = "the audit trail, and the events that wait to be delivered"

_TEXTS_BEFORE_SALT = (
    *("action", "category", "actor_kind", "actor_name", "actor_client_id", "actor_proof"),
    *("session_id", "client_id", "target_kind", "target_id", "outcome", "reason", "fields"),
    *("on_behalf_of", "subject", "comment", "ip_address", "user_agent"),
)


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text(), nullable=False)


def upgrade() -> None:
    op.create_table(
        "audit_events",
        sa.Column("chain_id", sa.Text(), nullable=False),
        sa.Column("position", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("time", sa.BigInteger(), nullable=False),
        *map(_text, _TEXTS_BEFORE_SALT),
        sa.Column("salt", sa.LargeBinary(), nullable=True),
        sa.Column("personal_hash", sa.LargeBinary(), nullable=False),
        _text("key_version"),
        sa.Column("mac", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("chain_id", "position", name="audit_events_pkey"),
    )
    op.create_index("audit_events_by_time", "audit_events", ["time", "chain_id", "position"])
    for column in ("subject", "session_id", "target_id"):
        op.create_index(
            f"audit_events_by_{column}",
            "audit_events",
            [column, "time"],
            postgresql_where=sa.text(f"{column} <> ''"),
            sqlite_where=sa.text(f"{column} <> ''"),
        )
    op.create_table(
        "audit_chains",
        sa.Column("chain_id", sa.Text(), nullable=False),
        sa.Column("last_position", sa.BigInteger(), nullable=False),
        sa.Column("last_mac", sa.LargeBinary(), nullable=False),
        sa.Column("last_time", sa.BigInteger(), nullable=False),
        sa.Column("checkpoint_position", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("chain_id", name="audit_chains_pkey"),
    )
    op.create_table(
        "audit_checkpoints",
        sa.Column("number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("create_time", sa.BigInteger(), nullable=False),
        sa.Column("full", sa.Boolean(), nullable=False),
        _text("heads"),
        _text("cuts"),
        _text("key_version"),
        _text("previous_mac"),
        _text("mac"),
        sa.PrimaryKeyConstraint("number", name="audit_checkpoints_pkey"),
    )
    op.create_table(
        "outbox",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        _text("type"),
        _text("payload"),
        sa.Column("create_time", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="outbox_pkey"),
    )
    op.create_index("outbox_by_create_time", "outbox", ["create_time"])
    op.create_table(
        "cursor_samples",
        sa.Column("time", sa.BigInteger(), autoincrement=False, nullable=False),
        _text("subscriber"),
        _text("epoch"),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("time", "subscriber", name="cursor_samples_pkey"),
    )


def downgrade() -> None:
    for name in ("cursor_samples", "outbox", "audit_checkpoints", "audit_chains", "audit_events"):
        op.drop_table(name)
