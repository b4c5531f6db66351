"""The first schema.

Revision ID: 0001
"""

from __future__ import annotations

import secrets

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None
compatible_since = "0.1.0"
undo_loses = None


def upgrade() -> None:
    op.create_table(
        "sessions",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("create_time", sa.BigInteger(), nullable=False),
        sa.Column("rotate_time", sa.BigInteger(), nullable=False),
        sa.Column("last_use_time", sa.BigInteger(), nullable=False),
        sa.Column("idle_expire_time", sa.BigInteger(), nullable=False),
        sa.Column("absolute_expire_time", sa.BigInteger(), nullable=False),
        sa.Column("purge_time", sa.BigInteger(), nullable=False),
        sa.Column("revoke_time", sa.BigInteger(), nullable=True),
        sa.Column("generation", sa.BigInteger(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("key_version", sa.Integer(), nullable=False),
        sa.Column("retries", sa.Integer(), nullable=False),
        sa.Column("access_token_ttl", sa.Integer(), nullable=True),
        sa.Column("revoke_reason", sa.SmallInteger(), nullable=False),
        sa.Column("with_id_token", sa.Boolean(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("client_id", sa.Text(), nullable=False),
        sa.Column("device_id", sa.Text(), nullable=False),
        sa.Column("refresh_hash", sa.LargeBinary(), nullable=True),
        sa.Column("previous_hash", sa.LargeBinary(), nullable=True),
        sa.Column("session_hash", sa.LargeBinary(), nullable=True),
        sa.Column("request_hash", sa.LargeBinary(), nullable=True),
        sa.Column("scopes", sa.Text(), nullable=False),
        sa.Column("audience", sa.Text(), nullable=False),
        sa.Column("auth_context", sa.Text(), nullable=True),
        sa.Column("confirmation", sa.Text(), nullable=True),
        sa.Column("custom_claims", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="sessions_pkey"),
        postgresql_with={"fillfactor": 75},
    )
    op.create_index("sessions_by_subject", "sessions", ["subject", "create_time", "id"])
    op.create_index("sessions_by_client", "sessions", ["client_id", "create_time", "id"])
    op.create_index(
        "sessions_by_device",
        "sessions",
        ["device_id", "create_time", "id"],
        postgresql_where=sa.text("device_id <> ''"),
        sqlite_where=sa.text("device_id <> ''"),
    )
    op.create_index("sessions_by_purge_time", "sessions", ["purge_time"])
    op.create_index(
        "sessions_by_request",
        "sessions",
        ["client_id", "request_hash"],
        unique=True,
        postgresql_where=sa.text("request_hash IS NOT NULL"),
        sqlite_where=sa.text("request_hash IS NOT NULL"),
    )
    op.create_table(
        "revocations",
        sa.Column("sequence", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("revoke_time", sa.BigInteger(), nullable=False),
        sa.Column("expire_time", sa.BigInteger(), nullable=False),
        sa.Column("token_expire_time", sa.BigInteger(), nullable=True),
        sa.Column("target", sa.SmallInteger(), nullable=False),
        sa.Column("reason", sa.SmallInteger(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("comment", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("sequence", name="revocations_pkey"),
    )
    op.create_table(
        "revocation_floors",
        sa.Column("kind", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("raise_time", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("kind", "target", name="revocation_floors_pkey"),
    )
    op.create_index("revocation_floors_by_raise_time", "revocation_floors", ["raise_time"])
    log_head = op.create_table(
        "log_head",
        sa.Column("id", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("epoch", sa.Text(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("compacted_sequence", sa.BigInteger(), nullable=False),
        sa.Column("key_revision", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="log_head_pkey"),
        sa.CheckConstraint("id = 1", name=op.f("log_head_one_row_check")),
    )
    op.create_table(
        "signing_keys",
        sa.Column("key_id", sa.Text(), nullable=False),
        sa.Column("algorithm", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("public_key", sa.LargeBinary(), nullable=False),
        sa.Column("private_key", sa.LargeBinary(), nullable=False),
        sa.Column("wrapping_key_id", sa.Text(), nullable=False),
        sa.Column("create_time", sa.BigInteger(), nullable=False),
        sa.Column("activate_time", sa.BigInteger(), nullable=True),
        sa.Column("retire_time", sa.BigInteger(), nullable=True),
        sa.Column("revoke_time", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("key_id", name="signing_keys_pkey"),
    )
    op.create_table(
        "mac_keys",
        sa.Column("version", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("wrapped", sa.LargeBinary(), nullable=False),
        sa.Column("wrapping_key_id", sa.Text(), nullable=False),
        sa.Column("create_time", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("version", name="mac_keys_pkey"),
    )
    op.create_table(
        "leases",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("holder", sa.Text(), nullable=False),
        sa.Column("expire_time", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="leases_pkey"),
    )
    op.create_table(
        "nodes",
        sa.Column("node_id", sa.Text(), nullable=False),
        sa.Column("report_time", sa.BigInteger(), nullable=False),
        sa.Column("connected", sa.Integer(), nullable=False),
        sa.Column("applied", sa.Text(), nullable=False),
        sa.Column("foreign_confirmations", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("node_id", name="nodes_pkey"),
    )
    # 96 random bits name this log permanently, so a cursor of another database is never treated as one of this log.
    epoch = secrets.token_urlsafe(12)
    op.bulk_insert(
        log_head, [{"id": 1, "epoch": epoch, "sequence": 0, "compacted_sequence": 0, "key_revision": 0}]
    )
