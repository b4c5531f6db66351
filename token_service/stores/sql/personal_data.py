"""This process's copy of the state and the keys of personal data."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final, TypeAlias, TypeVar

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from token_service.core.keys.key_wrap import KeyWrap
from token_service.core.personal_data.cipher import UnknownDataKeyError
from token_service.core.personal_data.keys import (
    PLAIN,
    EncryptionState,
    KeyPurpose,
    PersonalKeys,
    StoredEncryption,
    StoredPersonalKey,
    opened,
)
from token_service.errors import ConfigurationError, StoreUnavailableError
from token_service.stores.sql.engine.database import Database
from token_service.stores.sql.engine.errors import unavailable
from token_service.stores.sql.engine.lane import Call, Statement
from token_service.stores.sql.expressions import number
from token_service.stores.sql.schema import log_head, personal_data_keys

T = TypeVar("T")

LoadWrap: TypeAlias = Callable[[], Awaitable[KeyWrap]]
"""Loads the key-encryption keys. Raises `ConfigurationError`."""

_HEAD: Final = sa.select(log_head.c.personal_data_state, log_head.c.personal_data_revision).where(
    log_head.c.id == number(1)
)
_SHARED: Final = _HEAD.with_for_update(read=True)
_LOCKED: Final = _HEAD.with_for_update()
_KEYS: Final = sa.select(personal_data_keys).order_by(personal_data_keys.c.version)
_RETRY_AFTER: Final = 5.0
_CHECK_INTERVAL: Final = 5.0

REVISION: Final = (
    sa.select(log_head.c.personal_data_revision).where(log_head.c.id == number(1)).scalar_subquery()
)

logger = logging.getLogger(__name__)


def is_known_revision() -> sa.ColumnElement[bool]:
    """Return the condition that the state and the keys are those that a writer knows.

    Every statement that stores personal data has this condition, or its transaction locks the row of the head. So after
    a change of the state, and after the end of the transactions that began before it, no value is stored in the old form.
    """
    return sa.bindparam("p_personal_revision", type_=sa.BigInteger) == REVISION


class PersonalData:
    """The copy of the state and the keys, loaded at the first use and whenever the database has a newer revision."""

    def __init__(self, database: Database, load_wrap: LoadWrap | None) -> None:
        """`load_wrap`: is called if the database has keys. None: this process can't use them."""
        self._database: Final = database
        self._load_wrap: Final = load_wrap
        self._revision: Final = Statement(
            "select_personal_data_revision",
            sa.select(log_head.c.personal_data_revision).where(log_head.c.id == number(1)),
            database.dialect,
        )
        self._keys: PersonalKeys | None = None
        self.trouble: str | None = None
        """Why the keys of the database can't be used; None: they can."""

    @property
    def keys(self) -> PersonalKeys:
        """The copy. Before the first load it is that of a database that was never encrypted."""
        return self._keys or PLAIN

    async def known(self) -> PersonalKeys:
        """Return the copy, and load it before if it never was. Raises `StoreUnavailableError`."""
        return self._keys or await self.refresh()

    async def refresh(self) -> PersonalKeys:
        """Load the copy if the database has another revision, and return it. Raises `StoreUnavailableError`."""
        row = await self._database.read_one(Call(self._revision, {}))
        if row is None:
            raise unavailable()  # the table was emptied by hand
        if self._keys is not None and self._keys.revision == row[0]:
            return self._keys
        return await self._database.read(self.current, snapshot=True)

    async def load(self) -> PersonalKeys:
        """Load the copy. Raises `ConfigurationError` if the keys can't be used, and `StoreUnavailableError`."""
        return await self._database.read(self.read, snapshot=True)

    async def current(self, connection: AsyncConnection, *, shared: bool = False) -> PersonalKeys:
        """Return the copy as of a transaction.

        `shared`: lock the row of the head for the rest of the transaction, so that no other transaction changes the state.
        """
        row = (await connection.execute(_SHARED if shared else _HEAD)).one()
        return await self.at(row.personal_data_revision, connection)

    async def at(self, revision: int, connection: AsyncConnection) -> PersonalKeys:
        """Return the copy of a revision, which the transaction of the connection has read."""
        keys = self._keys
        if keys is not None and keys.revision == revision:
            return keys
        try:
            keys = await self.read(connection)
        except ConfigurationError as error:
            # A call fails as if the database were unavailable, because another node may have the key.
            raise StoreUnavailableError(error.message, retry_after=_RETRY_AFTER) from error
        return keys

    async def opened(self, convert: Callable[[PersonalKeys], T]) -> T:
        """Return the result of `convert`, which opens rows. Load the keys and repeat it if the copy lacks a key."""
        try:
            return convert(await self.known())
        except UnknownDataKeyError:
            return convert(await self.refresh())

    async def wrap(self) -> KeyWrap:
        """Return the key-encryption keys. Raises `ConfigurationError`."""
        if self._load_wrap is None:
            raise ConfigurationError(
                "no key-encryption key is configured, so no personal data can be encrypted"
            )
        return await self._load_wrap()

    async def run(self) -> None:
        """Notice a key that this process can't use, even without calls. Runs until cancelled."""
        while True:
            await asyncio.sleep(_CHECK_INTERVAL)
            with suppress(StoreUnavailableError):
                await self.refresh()

    def forget(self) -> None:
        """Load the copy again at the next use."""
        self._keys = None

    async def read(self, connection: AsyncConnection) -> PersonalKeys:
        """Load the copy in a transaction. Raises `ConfigurationError` if the keys can't be used."""
        try:
            stored = await read_stored(connection)
            keys = opened(stored, await self.wrap() if stored.keys else None, secrets.token_bytes)
        except ConfigurationError as error:
            self._note(error)
            raise
        self.trouble = None
        self._keys = keys
        return keys

    def _note(self, error: ConfigurationError) -> None:
        """Record that the keys can't be used; log each new reason."""
        if self.trouble != error.message:
            logger.error("the personal data can't be read: %s", error.message)
        self.trouble = error.message


async def read_stored(connection: AsyncConnection, *, lock: bool = False) -> StoredEncryption:
    """Read the state and the keys. `lock`: lock the row of the head before. Raises `ConfigurationError`."""
    head = (await connection.execute(_LOCKED if lock else _HEAD)).one()
    rows = (await connection.execute(_KEYS)).all()
    try:
        return StoredEncryption(
            EncryptionState(head.personal_data_state),
            head.personal_data_revision,
            [_key(row) for row in rows],
        )
    except ValueError:
        raise ConfigurationError(
            "the database is damaged: the state or a key of personal data can't be read; restore log_head and "
            "personal_data_keys from a backup"
        ) from None


def values_of_key(key: StoredPersonalKey) -> dict[str, Any]:
    """Return the columns of a key."""
    return {
        "version": key.version,
        "purpose": key.purpose.value,
        "wrapped": key.wrapped,
        "wrapping_key_id": key.wrapping_key_id,
        "create_time": round(key.create_time * 1_000_000),
    }


def _key(row: sa.Row[Any]) -> StoredPersonalKey:
    if not isinstance(row.wrapped, bytes):  # SQLite stores values of any type in any column
        raise ValueError("not bytes")
    return StoredPersonalKey(
        row.version, KeyPurpose(row.purpose), row.wrapped, row.wrapping_key_id, row.create_time / 1_000_000
    )
