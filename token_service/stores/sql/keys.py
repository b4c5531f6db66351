"""The `KeyStore` on SQL."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from token_service.core.events.event import AuditEvent
from token_service.core.keys.store import SigningKeyState, StoredKeys, StoredMacKey, StoredSigningKey
from token_service.errors import ConfigurationError
from token_service.stores.sql import schema
from token_service.stores.sql.audit_chain import AppendEvents
from token_service.stores.sql.engine.database import Database
from token_service.stores.sql.expressions import insert, number
from token_service.stores.sql.micros import to_seconds
from token_service.stores.sql.rows import values_of_mac_key, values_of_signing_key
from token_service.stores.sql.schema import log_head
from token_service.tokens.algorithms import Algorithm

_certificates: Final = msgspec.json.Decoder(tuple[bytes, ...]).decode  # base64


class SqlKeyStore:
    """The signing keys and MAC keys. See `core.keys.store.KeyStore`."""

    def __init__(self, database: Database, append_events: AppendEvents) -> None:
        self._database: Final = database
        self._append_events: Final = append_events

    async def load(self) -> StoredKeys:
        """See `KeyStore.load`."""
        return await self._database.read(_load, snapshot=True)

    async def save(
        self,
        expected_revision: int,
        signing_keys: Sequence[StoredSigningKey],
        mac_keys: Sequence[StoredMacKey],
        *,
        deleted_key_ids: Sequence[str] = (),
        events: Sequence[AuditEvent] = (),
    ) -> bool:
        """See `KeyStore.save`."""

        async def work(connection: AsyncConnection) -> bool:
            raised = await connection.execute(
                sa.update(log_head)
                .where(log_head.c.key_revision == expected_revision)
                .values(key_revision=log_head.c.key_revision + number(1))
            )
            if not raised.rowcount:
                return False
            await self._upsert(
                connection, schema.signing_keys, [values_of_signing_key(key) for key in signing_keys]
            )
            await self._upsert(connection, schema.mac_keys, [values_of_mac_key(key) for key in mac_keys])
            if deleted_key_ids:
                await connection.execute(
                    sa.delete(schema.signing_keys).where(schema.signing_keys.c.key_id.in_(deleted_key_ids))
                )
            await self._append_events(connection, events)
            return True

        return await self._database.write(work)

    async def _upsert(
        self, connection: AsyncConnection, table: sa.Table, values: Sequence[dict[str, Any]]
    ) -> None:
        if not values:
            return
        statement = insert(table, self._database.dialect)
        keys = list(table.primary_key.columns)
        await connection.execute(
            statement.on_conflict_do_update(
                index_elements=keys,
                set_={
                    column.name: statement.excluded[column.name] for column in table.c if column not in keys
                },
            ),
            values,
        )


async def _load(connection: AsyncConnection) -> StoredKeys:
    revision = (await connection.execute(sa.select(log_head.c.key_revision))).scalar_one()
    signing = await connection.execute(
        sa.select(schema.signing_keys).order_by(
            schema.signing_keys.c.create_time, schema.signing_keys.c.key_id
        )
    )
    mac = await connection.execute(sa.select(schema.mac_keys).order_by(schema.mac_keys.c.version))
    try:
        return StoredKeys(revision, [_signing_key(row) for row in signing], [_mac_key(row) for row in mac])
    except (ValueError, TypeError, msgspec.MsgspecError):
        # The token service never writes such a row. The row may hold a key, so the message does not show it.
        raise ConfigurationError(
            "the database is damaged: a row of signing_keys or mac_keys can't be read; restore the tables from a backup"
        ) from None


def _signing_key(row: sa.Row[Any]) -> StoredSigningKey:
    return StoredSigningKey(
        key_id=row.key_id,
        algorithm=Algorithm(row.algorithm),
        state=SigningKeyState(row.state),
        public_key=_bytes(row.public_key),
        private_key=_bytes(row.private_key),
        wrapping_key_id=row.wrapping_key_id,
        provider=row.provider,
        certificates=_certificates(row.certificates),
        create_time=row.create_time / 1_000_000,
        activate_time=to_seconds(row.activate_time),
        retire_time=to_seconds(row.retire_time),
        revoke_time=to_seconds(row.revoke_time),
    )


def _mac_key(row: sa.Row[Any]) -> StoredMacKey:
    return StoredMacKey(
        version=row.version,
        wrapped=_bytes(row.wrapped),
        wrapping_key_id=row.wrapping_key_id,
        create_time=row.create_time / 1_000_000,
    )


def _bytes(value: object) -> bytes:
    """Check the type of a value: SQLite stores values of any type in any column."""
    if not isinstance(value, bytes):
        raise TypeError("not bytes")
    return value
