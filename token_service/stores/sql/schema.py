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
    # Null unless rules about risk have judged a use.
    Column("origin_tag", LargeBinary),
    Column("origins", Text),
    # Null: none.
    Column("races", Integer),
    # The sealed personal fields. If it is set, `subject`, `device_id` and `upstream_session` hold blind indexes, both
    # addresses hold a sealed origin, and the other personal columns are empty.
    Column("personal", LargeBinary),
    # The classification of the client when the session began. Null: a node of an earlier version began the session.
    Column("classification", Text),
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
    # The sealed value and comment. If it is set, the value of a subject is a blind index, and the comment is empty.
    Column("personal", LargeBinary),
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
    Column("policies_revision", BigInteger, nullable=False, server_default="0"),
    # An `EncryptionState`, and the number of changes of it and of the keys of personal data.
    Column("personal_data_state", SmallInteger, nullable=False, server_default="0"),
    Column("personal_data_revision", BigInteger, nullable=False, server_default="0"),
    sa.CheckConstraint("id = 1", name="one_row"),
)

policy_overrides: Final = Table(
    "policy_overrides",
    metadata,
    # `<classification>.<setting>`.
    Column("path", Text, primary_key=True),
    # In the notation of the policy file; null: reset. The row remains, because it tells who made the last change.
    Column("value", Text),
    Column("revision", BigInteger, nullable=False),
    Column("update_time", BigInteger, nullable=False),
    Column("updated_by", Text, nullable=False),
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

personal_data_keys: Final = Table(
    "personal_data_keys",
    metadata,
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("purpose", Text, nullable=False),
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
    # JSON: the approval with its subject; an empty object if the user denied. Null: no user has decided. Or sealed.
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
    # A JSON object that describes the node. Null: a node of an earlier version wrote the report.
    Column("details", Text),
    # 1 while an operator asks this node for the subscribers of all nodes.
    Column("wants_subscribers", SmallInteger, nullable=False, server_default="0"),
    # The list of subscribers (JSON, zlib) and the time of the list. Null unless a node has asked lately.
    Column("subscribers", LargeBinary),
    Column("subscribers_time", BigInteger),
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
    # The personal fields. An erasure empties them and the salt; `personal_hash` stays for the MAC. If they are encrypted,
    # `on_behalf_of` and `subject` hold blind indexes, the others are empty, and `salt` holds the sealed salt and fields.
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
        for column in ("subject", "session_id", "target_id", "on_behalf_of")
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

events: Final = Table(
    "events",
    metadata,
    # Assigned under the lock of `event_head`: commit order is the order of sequences.
    Column("sequence", BigInteger, primary_key=True, autoincrement=False),
    Column("chain_id", Text, nullable=False),
    Column("position", BigInteger, nullable=False),
    Column("type", Text, nullable=False),
    Column("create_time", BigInteger, nullable=False),
)

event_head: Final = Table(
    "event_head",
    metadata,
    Column("id", SmallInteger, primary_key=True, autoincrement=False),
    Column("epoch", Text, nullable=False),
    # It jumps when the revocation log is renewed: a number that a reader may have seen never names another event.
    Column("sequence", BigInteger, nullable=False),
    # The newest event that was deleted after the retention.
    Column("purged_sequence", BigInteger, nullable=False),
    sa.CheckConstraint("id = 1", name="one_row"),
)

event_consumers: Final = Table(
    "event_consumers",
    metadata,
    Column("name", Text, primary_key=True),
    # The consumer has handled every event up to this one.
    Column("sequence", BigInteger, nullable=False),
    Column("update_time", BigInteger, nullable=False),
)

event_streams: Final = Table(
    "event_streams",
    metadata,
    Column("stream_id", Text, primary_key=True),
    Column("client_id", Text, nullable=False),
    # From 0 to the number of streams that a client may have.
    Column("slot", SmallInteger, nullable=False),
    Column("method", Text, nullable=False),
    Column("endpoint_url", Text, nullable=False),
    # The header of pushes, encrypted with the key `wrapping_key_id`.
    Column("push_authorization", LargeBinary, nullable=False),
    Column("wrapping_key_id", Text, nullable=False),
    # JSON.
    Column("events_requested", Text, nullable=False),
    Column("description", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("create_time", BigInteger, nullable=False),
    Column("verify_time", BigInteger),
    Column("revision", BigInteger, nullable=False),
    Index("event_streams_by_client", "client_id", "slot", unique=True),
)

waiting_events: Final = Table(
    "waiting_events",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("stream_id", Text, nullable=False),
    Column("token_id", Text, nullable=False),
    Column("event_type", Text, nullable=False),
    # The row of the audit trail; empty: the event is about the stream itself.
    Column("chain_id", Text, nullable=False),
    Column("position", BigInteger, nullable=False),
    # JSON of an event about the stream itself. Never personal data, so an erasure need not change it.
    Column("detail", Text, nullable=False),
    Column("create_time", BigInteger, nullable=False),
    Index("waiting_events_by_stream", "stream_id", "id"),
    Index("waiting_events_by_token", "stream_id", "token_id", unique=True),
)

removed_subjects: Final = Table(
    "removed_subjects",
    metadata,
    Column("stream_id", Text, primary_key=True),
    # A hash: it holds no personal data.
    Column("fingerprint", Text, primary_key=True),
)

webhooks: Final = Table(
    "webhooks",
    metadata,
    Column("webhook_id", Text, primary_key=True),
    Column("revision", BigInteger, nullable=False),
    Column("create_time", BigInteger, nullable=False),
    Column("update_time", BigInteger, nullable=False),
    Column("url", Text, nullable=False),
    Column("description", Text, nullable=False),
    # JSON lists; empty: any.
    Column("types", Text, nullable=False),
    Column("categories", Text, nullable=False),
    # Empty: any.
    Column("client_id", Text, nullable=False),
    Column("disabled", Boolean, nullable=False),
    Column("disable_reason", Text, nullable=False),
    # Encrypted with a key-encryption key.
    Column("secret", LargeBinary, nullable=False),
    Column("wrapping_key_id", Text, nullable=False),
    # The secret that was replaced, which signs until its end.
    Column("previous_secret", LargeBinary),
    Column("previous_wrapping_key_id", Text),
    Column("previous_expire_time", BigInteger),
    # The state of the deliveries, which the process with the lease of the webhook writes.
    Column("sequence", BigInteger, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("due_time", BigInteger, nullable=False),
    Column("failing_since", BigInteger),
    Column("last_error", Text, nullable=False),
    Column("last_success_time", BigInteger),
)

webhook_dead_letters: Final = Table(
    "webhook_dead_letters",
    metadata,
    Column("webhook_id", Text, primary_key=True),
    Column("sequence", BigInteger, primary_key=True, autoincrement=False),
    Column("chain_id", Text, nullable=False),
    Column("position", BigInteger, nullable=False),
    Column("type", Text, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("last_error", Text, nullable=False),
    Column("create_time", BigInteger, nullable=False),
    Column("requested", Boolean, nullable=False),
)

cursor_samples: Final = Table(
    "cursor_samples",
    metadata,
    Column("time", BigInteger, primary_key=True, autoincrement=False),
    Column("subscriber", Text, primary_key=True),
    Column("epoch", Text, nullable=False),
    Column("sequence", BigInteger, nullable=False),
)
