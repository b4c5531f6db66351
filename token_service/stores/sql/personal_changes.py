"""Changes of the state and the keys of personal data."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeVar

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from token_service.core.events.chain import PERSONAL
from token_service.core.events.event import Action, Actor, AuditEvent, Target
from token_service.core.personal_data.keys import (
    EncryptionState,
    StoredEncryption,
    StoredPersonalKey,
    new_keys,
    next_data_key,
    rewrapped,
)
from token_service.errors import ConfigurationError
from token_service.stores.sql.audit_chain import AppendEvents
from token_service.stores.sql.engine.database import Database
from token_service.stores.sql.expressions import number
from token_service.stores.sql.personal_data import PersonalData, read_stored, values_of_key
from token_service.stores.sql.schema import (
    audit_events,
    device_requests,
    log_head,
    logout_deliveries,
    personal_data_keys,
    revocation_floors,
    revocations,
    sessions,
)
from token_service.tokens.revocation import RevocationTarget

T = TypeVar("T")

_WRITTEN: Final = (sessions, audit_events, device_requests, logout_deliveries)
"""The tables whose rows are written by statements that only read the head."""
_E: Final = audit_events.c


class PersonalDataChanges:
    """Turns the encryption on and off, and makes and wraps keys. Every change locks the row of `log_head`."""

    def __init__(self, database: Database, personal: PersonalData, append_events: AppendEvents) -> None:
        self._database: Final = database
        self._personal: Final = personal
        self._append_events: Final = append_events

    async def enable_if_empty(self, actor: Actor, now: float) -> bool:
        """Turn the encryption on if the database holds no personal data. Return whether it is on.

        Raises `ConfigurationError` and `StoreUnavailableError`.
        """
        if await self._database.read(_holds_personal_data):
            # Decided without locks, because every start of a node on an older database comes here.
            return (await self._personal.load()).state.seals
        wrap = await self._personal.wrap()

        async def work(connection: AsyncConnection) -> bool:
            stored = await read_stored(connection, lock=True)
            if stored.state is EncryptionState.OFF:
                await lock_writers(connection, _WRITTEN)
                if await _holds_personal_data(connection):
                    return False
                made = () if stored.keys else new_keys(wrap, secrets.token_bytes, now)
                await self._change(connection, stored, EncryptionState.ON, made, actor)
                return True
            return stored.state.seals

        return await self._write(work)

    async def begin(self, actor: Actor, state: EncryptionState, now: float) -> EncryptionState:
        """Let new values be sealed (ENCRYPTING) or plain (DECRYPTING). Return the state, which may be the final one already.

        After it every transaction that stores values in the other form has ended.
        """
        wrap = await self._personal.wrap()
        final = _FINAL[state]

        async def work(connection: AsyncConnection) -> EncryptionState:
            stored = await read_stored(connection, lock=True)
            if stored.state in (state, final):
                return stored.state
            made = () if stored.keys else new_keys(wrap, secrets.token_bytes, now)
            await self._change(connection, stored, state, made, actor)
            return state

        found = await self._write(work)
        for table in _WRITTEN:

            async def wait(connection: AsyncConnection, table: sa.Table = table) -> None:
                await lock_writers(connection, [table])

            await self._database.write(wait)
        return found

    async def finish(self, actor: Actor, state: EncryptionState) -> None:
        """Replace the state ENCRYPTING by ON, or DECRYPTING by OFF; no value of the other form may be left."""

        async def work(connection: AsyncConnection) -> None:
            stored = await read_stored(connection, lock=True)
            if stored.state is state:
                await self._change(connection, stored, _FINAL[state], (), actor)

        await self._write(work)

    async def rotate_key(self, actor: Actor, now: float) -> int:
        """Make a data key that seals all new values; return its version.

        Raises `ConfigurationError` if nothing is encrypted.
        """
        wrap = await self._personal.wrap()

        async def work(connection: AsyncConnection) -> int:
            stored = await read_stored(connection, lock=True)
            if not stored.state.seals:
                raise ConfigurationError(
                    "the personal data of the database is not encrypted, so it has no data key to rotate; run "
                    "`token-service personal-data encrypt`"
                )
            key = next_data_key(stored.keys, wrap, secrets.token_bytes, now)
            await self._change(connection, stored, stored.state, (key,), actor)
            return key.version

        return await self._write(work)

    async def rewrap(self, actor: Actor) -> int:
        """Encrypt the keys with the first key-encryption key; return how many used another one."""

        async def work(connection: AsyncConnection) -> int:
            stored = await read_stored(connection, lock=True)
            if not stored.keys:
                return 0
            wrap = await self._personal.wrap()
            changed = [new for key in stored.keys if (new := rewrapped(key, wrap)) is not None]
            for key in changed:
                await connection.execute(
                    sa.update(personal_data_keys)
                    .where(personal_data_keys.c.version == key.version)
                    .values(**values_of_key(key))
                )
            if changed:
                event = AuditEvent(
                    action=Action.KEYS_REWRAPPED,
                    actor=actor,
                    target=Target("personal_data"),
                    fields={"wrapping_key_id": wrap.key_id, "count": len(changed)},
                )
                await self._append_events(connection, [event])
            return len(changed)

        return await self._database.write(work)

    async def stored(self) -> StoredEncryption:
        """Return the state and the wrapped keys."""
        return await self._database.read(read_stored, snapshot=True)

    async def _write(self, work: Callable[[AsyncConnection], Awaitable[T]]) -> T:
        """Do `work`. After it the copy is the committed state, even if the transaction failed."""
        try:
            return await self._database.write(work)
        finally:
            self._personal.forget()

    async def _change(
        self,
        connection: AsyncConnection,
        stored: StoredEncryption,
        state: EncryptionState,
        made: Sequence[StoredPersonalKey],
        actor: Actor,
    ) -> None:
        if made:
            await connection.execute(sa.insert(personal_data_keys), [values_of_key(key) for key in made])
        await connection.execute(
            sa.update(log_head).values(
                personal_data_state=number(state),
                personal_data_revision=log_head.c.personal_data_revision + number(1),
            )
        )
        # The events are stored as the new state says.
        await self._personal.read(connection)
        events = [
            AuditEvent(
                action=Action.PERSONAL_DATA_KEY_CREATED,
                actor=actor,
                target=Target("personal_data_key", str(key.version)),
                fields={"purpose": key.purpose.value, "wrapping_key_id": key.wrapping_key_id},
            )
            for key in made
        ]
        if state is not stored.state:
            events.append(
                AuditEvent(
                    action=Action.PERSONAL_DATA_ENCRYPTION_CHANGED,
                    actor=actor,
                    target=Target("personal_data"),
                    fields={"from": stored.state.name.lower(), "to": state.name.lower()},
                )
            )
        await self._append_events(connection, events)


async def lock_writers(connection: AsyncConnection, tables: Sequence[sa.Table]) -> None:
    """Wait for the transactions that write to tables. SQLite has none, because this transaction writes."""
    if connection.dialect.name == "postgresql":
        # The writers that come after this transaction wait for it, so it does not wait for long.
        await connection.execute(sa.text("SET LOCAL lock_timeout = '2s'"))
        for table in tables:
            await connection.execute(sa.text(f"LOCK TABLE {table.name} IN SHARE MODE"))


async def _holds_personal_data(connection: AsyncConnection) -> bool:
    conditions: Sequence[tuple[sa.Table, Callable[[], sa.ColumnElement[bool]]]] = (
        (sessions, sa.true),
        (logout_deliveries, sa.true),
        (device_requests, lambda: device_requests.c.decision.is_not(None)),
        (revocations, sa.true),
        (
            revocation_floors,
            lambda: revocation_floors.c.kind == number(RevocationTarget.SUBJECT),
        ),
        # Last, because it reads the whole table if no row has such a field.
        (audit_events, lambda: sa.or_(*(_E[name] != "" for name in PERSONAL))),
    )
    for table, condition in conditions:
        found = sa.select(sa.literal(1)).select_from(table).where(condition()).limit(1)
        if await connection.scalar(found) is not None:
            return True
    return False


_FINAL: Final = {
    EncryptionState.ENCRYPTING: EncryptionState.ON,
    EncryptionState.DECRYPTING: EncryptionState.OFF,
}
