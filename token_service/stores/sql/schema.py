"""The tables. All SQL statements are built from them. The migrations create them; a test compares both.

All times are BIGINT microseconds since the epoch (`micros`). `rows` writes and reads the columns with JSON text.
"""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Index,
    Integer,
    LargeBinary,
    SmallInteger,
    Table,
    Text,
    Uuid,
)

metadata: Final = sa.MetaData(
    naming_convention={
        "pk": "%(table_name)s_pkey",
        "ix": "%(table_name)s_%(column_0_N_name)s",
        "uq": "%(table_name)s_%(column_0_N_name)s_key",
        "ck": "%(table_name)s_%(constraint_name)s_check",
    }
)

sessions: Final = Table(
    "sessions",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("create_time", BigInteger, nullable=False),
    Column("rotate_time", BigInteger, nullable=False),
    Column("last_use_time", BigInteger, nullable=False),
    Column("idle_expire_time", BigInteger, nullable=False),
    Column("absolute_expire_time", BigInteger, nullable=False),
    # The time at which the purge checks the row. It is never later than the end of the session, but may be much
    # earlier. The column exists because every rotation would write to an index on idle_expire_time.
    Column("purge_time", BigInteger, nullable=False),
    Column("revoke_time", BigInteger),
    Column("generation", BigInteger, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("key_version", Integer, nullable=False),
    Column("retries", Integer, nullable=False),
    Column("access_token_ttl", Integer),
    Column("revoke_reason", SmallInteger, nullable=False),
    Column("with_id_token", Boolean, nullable=False),
    Column("subject", Text, nullable=False),
    Column("client_id", Text, nullable=False),
    Column("device_id", Text, nullable=False),
    Column("refresh_hash", LargeBinary),
    Column("previous_hash", LargeBinary),
    Column("session_hash", LargeBinary),
    Column("request_hash", LargeBinary),
    Column("scopes", Text, nullable=False),
    Column("audience", Text, nullable=False),
    Column("auth_context", Text),
    Column("confirmation", Text),
    Column("custom_claims", Text, nullable=False),
    Column("create_ip_address", Text),
    Column("create_user_agent", Text),
    # Null: as at the creation. A rotation sets both or none of them.
    Column("last_ip_address", Text),
    Column("last_user_agent", Text),
    # Null unless the session is a personal access token.
    Column("personal_hash", LargeBinary),
    Column("name", Text),
    # Null unless a browser login opened the session.
    Column("identity_claims", Text),
    Column("upstream", Text),
    Column("upstream_session", Text),
    Index("sessions_by_subject", "subject", "create_time", "id"),
    Index(
        "sessions_by_personal_token",
        "subject",
        "create_time",
        "id",
        postgresql_where=sa.text("personal_hash IS NOT NULL"),
        sqlite_where=sa.text("personal_hash IS NOT NULL"),
    ),
    Index("sessions_by_client", "client_id", "create_time", "id"),
    Index(
        "sessions_by_device",
        "device_id",
        "create_time",
        "id",
        postgresql_where=sa.text("device_id <> ''"),
        sqlite_where=sa.text("device_id <> ''"),
    ),
    Index(
        "sessions_by_upstream_session",
        "upstream",
        "upstream_session",
        postgresql_where=sa.text("upstream_session IS NOT NULL"),
        sqlite_where=sa.text("upstream_session IS NOT NULL"),
    ),
    Index("sessions_by_purge_time", "purge_time"),
    Index(
        "sessions_by_request",
        "client_id",
        "request_hash",
        unique=True,
        postgresql_where=sa.text("request_hash IS NOT NULL"),
        sqlite_where=sa.text("request_hash IS NOT NULL"),
    ),
    # Leaves room for the next version of a row in the same page. A rotation changes no indexed column, so
    # PostgreSQL writes to no index and reuses the space without a vacuum (a heap-only tuple).
    postgresql_with={"fillfactor": 75},
)

revocations: Final = Table(
    "revocations",
    metadata,
    Column("sequence", BigInteger, primary_key=True, autoincrement=False),
    Column("revoke_time", BigInteger, nullable=False),
    Column("expire_time", BigInteger, nullable=False),
    Column("token_expire_time", BigInteger),
    Column("target", SmallInteger, nullable=False),
    Column("reason", SmallInteger, nullable=False),
    Column("value", Text, nullable=False),
    Column("comment", Text, nullable=False),
)

revocation_floors: Final = Table(
    "revocation_floors",
    metadata,
    Column("kind", SmallInteger, primary_key=True, autoincrement=False),
    Column("target", Text, primary_key=True),
    Column("sequence", BigInteger, nullable=False),
    Column("raise_time", BigInteger, nullable=False),
    # The reason is valid only if `reason_sequence` equals `sequence`, because nodes of an earlier version raise a floor
    # without it.
    Column("reason", SmallInteger, nullable=False, server_default="0"),
    Column("reason_sequence", BigInteger),
    Index("revocation_floors_by_raise_time", "raise_time"),
)

log_head: Final = Table(
    "log_head",
    metadata,
    Column("id", SmallInteger, primary_key=True, autoincrement=False),
    Column("epoch", Text, nullable=False),
    Column("sequence", BigInteger, nullable=False),
    Column("compacted_sequence", BigInteger, nullable=False),
    Column("key_revision", BigInteger, nullable=False),
    # `revoke_time` of the last entry, even after its compaction. It is valid only if `newest_sequence` equals
    # `sequence`, because nodes of an earlier version append without it.
    Column("newest_sequence", BigInteger),
    Column("newest_time", BigInteger),
    Column("awaited_sequence", BigInteger, nullable=False, server_default="0"),
    # The cluster and timeline of the last append; null if unknown.
    Column("server", Text),
    # Equals `sequence` if a synchronous standby has acknowledged the last entry, and so all entries before it.
    Column("replicated_sequence", BigInteger),
    Column("client_revision", BigInteger, nullable=False, server_default="0"),
    sa.CheckConstraint("id = 1", name="one_row"),
)

signing_keys: Final = Table(
    "signing_keys",
    metadata,
    Column("key_id", Text, primary_key=True),
    Column("algorithm", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("public_key", LargeBinary, nullable=False),
    Column("private_key", LargeBinary, nullable=False),
    Column("wrapping_key_id", Text, nullable=False),
    Column("create_time", BigInteger, nullable=False),
    Column("activate_time", BigInteger),
    Column("retire_time", BigInteger),
    Column("revoke_time", BigInteger),
    Column("provider", Text, nullable=False, server_default="local"),
    # A JSON list of base64 DER, as in a JWK's x5c.
    Column("certificates", Text, nullable=False, server_default="[]"),
)

mac_keys: Final = Table(
    "mac_keys",
    metadata,
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("wrapped", LargeBinary, nullable=False),
    Column("wrapping_key_id", Text, nullable=False),
    Column("create_time", BigInteger, nullable=False),
)

clients: Final = Table(
    "clients",
    metadata,
    Column("client_id", Text, primary_key=True),
    Column("state", Text, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("create_time", BigInteger, nullable=False),
    Column("update_time", BigInteger, nullable=False),
    # A JSON object with the settings that differ from their defaults. Empty for a deleted client, whose row stays so
    # that no other client gets the id.
    Column("metadata", Text, nullable=False),
    Index("clients_by_revision", "revision"),
    Index("clients_by_create_time", "create_time", "client_id"),
)

client_secrets: Final = Table(
    "client_secrets",
    metadata,
    Column("client_id", Text, primary_key=True),
    Column("secret_id", Text, primary_key=True),
    Column("hash", LargeBinary, nullable=False),
    Column("create_time", BigInteger, nullable=False),
    Column("expire_time", BigInteger),
    Column("last_use_time", BigInteger),
)

leases: Final = Table(
    "leases",
    metadata,
    Column("name", Text, primary_key=True),
    Column("holder", Text, nullable=False),
    Column("expire_time", BigInteger, nullable=False),
)

used_ids: Final = Table(
    "used_ids",
    metadata,
    # SHA-256 of scope and identifier.
    Column("hash", LargeBinary, primary_key=True),
    Column("expire_time", BigInteger, nullable=False),
    Index("used_ids_by_expire_time", "expire_time"),
)

device_requests: Final = Table(
    "device_requests",
    metadata,
    # SHA-256 of the user code. At most one request at a time has a user code.
    Column("user_code_digest", LargeBinary, primary_key=True),
    Column("code_digest", LargeBinary, nullable=False),
    Column("client_id", Text, nullable=False),
    # JSON lists.
    Column("scopes", Text, nullable=False),
    Column("audience", Text, nullable=False),
    Column("expire_time", BigInteger, nullable=False),
    # JSON: the approval with its subject; an empty object if the user denied. Null: no user has decided.
    Column("decision", Text),
    Index("device_requests_by_expire_time", "expire_time"),
)

logout_deliveries: Final = Table(
    "logout_deliveries",
    metadata,
    Column("session_id", Uuid, primary_key=True),
    Column("client_id", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("create_time", BigInteger, nullable=False),
    Column("due_time", BigInteger, nullable=False),
    Column("attempts", Integer, nullable=False),
    Index("logout_deliveries_by_due_time", "due_time"),
)

logout_cursor: Final = Table(
    "logout_cursor",
    metadata,
    Column("id", SmallInteger, primary_key=True, autoincrement=False),
    # The last entry of the revocation log whose deliveries are planned.
    Column("sequence", BigInteger, nullable=False),
    sa.CheckConstraint("id = 1", name="one_row"),
)

nodes: Final = Table(
    "nodes",
    metadata,
    Column("node_id", Text, primary_key=True),
    Column("report_time", BigInteger, nullable=False),
    Column("connected", Integer, nullable=False),
    Column("applied", Text, nullable=False),
    Column("foreign_confirmations", Text, nullable=False),
    Column("key_revision", BigInteger, nullable=False, server_default="0"),
)

audit_events: Final = Table(
    "audit_events",
    metadata,
    Column("chain_id", Text, primary_key=True),
    Column("position", BigInteger, primary_key=True, autoincrement=False),
    Column("time", BigInteger, nullable=False),
    Column("action", Text, nullable=False),
    Column("category", Text, nullable=False),
    Column("actor_kind", Text, nullable=False),
    Column("actor_name", Text, nullable=False),
    Column("actor_client_id", Text, nullable=False),
    Column("actor_proof", Text, nullable=False),
    Column("session_id", Text, nullable=False),
    Column("client_id", Text, nullable=False),
    Column("target_kind", Text, nullable=False),
    Column("target_id", Text, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("fields", Text, nullable=False),
    # The personal fields. An erasure empties them and the salt; `personal_hash` stays for the MAC.
    Column("on_behalf_of", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("comment", Text, nullable=False),
    Column("ip_address", Text, nullable=False),
    Column("user_agent", Text, nullable=False),
    Column("salt", LargeBinary),
    Column("personal_hash", LargeBinary, nullable=False),
    Column("key_version", Text, nullable=False),
    Column("mac", LargeBinary, nullable=False),
    Index("audit_events_by_time", "time", "chain_id", "position"),
    *(
        Index(
            f"audit_events_by_{column}",
            column,
            "time",
            postgresql_where=sa.text(f"{column} <> ''"),
            sqlite_where=sa.text(f"{column} <> ''"),
        )
        for column in ("subject", "session_id", "target_id")
    ),
)

audit_chains: Final = Table(
    "audit_chains",
    metadata,
    # The id of the node, which differs at every start.
    Column("chain_id", Text, primary_key=True),
    Column("last_position", BigInteger, nullable=False),
    Column("last_mac", LargeBinary, nullable=False),
    Column("last_time", BigInteger, nullable=False),
    # The position that the newest checkpoint names.
    Column("checkpoint_position", BigInteger, nullable=False),
)

audit_checkpoints: Final = Table(
    "audit_checkpoints",
    metadata,
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("create_time", BigInteger, nullable=False),
    Column("full", Boolean, nullable=False),
    # JSON: the place of each chain.
    Column("heads", Text, nullable=False),
    Column("cuts", Text, nullable=False),
    Column("key_version", Text, nullable=False),
    Column("previous_mac", Text, nullable=False),
    Column("mac", Text, nullable=False),
)

outbox: Final = Table(
    "outbox",
    metadata,
    # Assigned when a row is written, not when it is committed: a reader may see a higher id before a lower one. The
    # positions of one chain are committed in order.
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("type", Text, nullable=False),
    # JSON: the chain and the position of the audit event. It holds no personal data, so an erasure need not change it.
    Column("payload", Text, nullable=False),
    Column("create_time", BigInteger, nullable=False),
    Index("outbox_by_create_time", "create_time"),
)

cursor_samples: Final = Table(
    "cursor_samples",
    metadata,
    Column("time", BigInteger, primary_key=True, autoincrement=False),
    Column("subscriber", Text, primary_key=True),
    Column("epoch", Text, nullable=False),
    Column("sequence", BigInteger, nullable=False),
)
