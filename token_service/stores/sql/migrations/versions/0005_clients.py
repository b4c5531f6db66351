"""Add the registered clients, and their revision to the head of the log.

Nodes of an earlier version neither read nor change them.

Revision ID: 0005
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None
compatible_since = "0.1.0"
undo_loses = "the registered clients and their secrets"


def upgrade() -> None:
    op.add_column(
        "log_head", sa.Column("client_revision", sa.BigInteger(), nullable=False, server_default="0")
    )
    op.create_table(
        "clients",
        sa.Column("client_id", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("create_time", sa.BigInteger(), nullable=False),
        sa.Column("update_time", sa.BigInteger(), nullable=False),
        sa.Column("metadata", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("client_id", name="clients_pkey"),
    )
    op.create_index("clients_by_revision", "clients", ["revision"])
    op.create_index("clients_by_create_time", "clients", ["create_time", "client_id"])
    op.create_table(
        "client_secrets",
        sa.Column("client_id", sa.Text(), nullable=False),
        sa.Column("secret_id", sa.Text(), nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.Column("create_time", sa.BigInteger(), nullable=False),
        sa.Column("expire_time", sa.BigInteger(), nullable=True),
        sa.Column("last_use_time", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("client_id", "secret_id", name="client_secrets_pkey"),
    )


def downgrade() -> None:
    op.drop_table("client_secrets")
    op.drop_table("clients")
    op.drop_column("log_head", "client_revision")
