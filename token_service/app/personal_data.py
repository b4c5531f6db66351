"""Commands that encrypt and decrypt the personal data of a database."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from token_service.app.adapters import audit_keys_of, new_node_id, open_stores
from token_service.app.administration import operator
from token_service.app.personal_data_start import older_nodes
from token_service.config import Settings
from token_service.core.events.event import Actor
from token_service.core.leases import Lease
from token_service.core.personal_data.keys import EncryptionState, KeyPurpose
from token_service.errors import ConfigurationError
from token_service.stores.sql.stores import SqlStores

_LEASE: Final = "personal-data"
_LEASE_TTL: Final = 15.0


@dataclass(frozen=True, slots=True)
class PersonalDataStatus:
    """The encryption of a database."""

    state: EncryptionState
    data_key: int | None
    """The version of the data key that seals new values; None: there is none."""
    remaining: Mapping[str, int]
    """The rows of each table that are not in the form of new rows."""


class PersonalDataAdministration:
    """Encrypts and decrypts the personal data of a database beside running nodes."""

    def __init__(self, stores: SqlStores, actor: Actor) -> None:
        self._stores: Final = stores
        self._actor: Final = actor
        self._lease: Final = Lease(stores.leases, _LEASE, f"command {secrets.token_hex(8)}")

    async def status(self) -> PersonalDataStatus:
        """Return the state, the data key and the rows that are still to be converted."""
        stored = await self._stores.personal_data_changes.stored()
        versions = [key.version for key in stored.keys if key.purpose is KeyPurpose.DATA]
        return PersonalDataStatus(
            stored.state, max(versions, default=None), await self._stores.personal_data_sweeps.remaining()
        )

    async def encrypt(self, progress: Callable[[int, int], None]) -> int:
        """Encrypt all personal data; return the number of converted rows.

        Raises `ConfigurationError` while a node runs that can't read it.
        """
        if older := await older_nodes(self._stores):
            raise ConfigurationError(
                f"nodes of an earlier version run on the database and can't read encrypted personal data: {', '.join(older)}; "
                "replace or stop them first (a node that was killed counts as running for 10 s)"
            )
        return await self._convert(EncryptionState.ENCRYPTING, progress)

    async def decrypt(self, progress: Callable[[int, int], None]) -> int:
        """Store all personal data unencrypted again; return the number of converted rows."""
        return await self._convert(EncryptionState.DECRYPTING, progress)

    async def rotate_key(self) -> int:
        """Make a data key for all new values; return its version."""
        return await self._stores.personal_data_changes.rotate_key(self._actor, time.time())

    async def rewrap(self) -> int:
        """Encrypt the keys with the first key-encryption key; return how many used another one."""
        return await self._stores.personal_data_changes.rewrap(self._actor)

    async def _convert(self, state: EncryptionState, progress: Callable[[int, int], None]) -> int:
        await self._hold()
        stores = self._stores
        await stores.personal_data_changes.begin(self._actor, state, time.time())
        total = sum((await stores.personal_data_sweeps.remaining()).values())

        async def converted(done: int) -> None:
            await self._hold()
            progress(done, max(done, total))

        done = await stores.personal_data_sweeps.run(converted)
        await stores.personal_data_changes.finish(self._actor, state)
        await stores.personal_data_sweeps.drop_floors()
        await self._lease.release()
        return done

    async def _hold(self) -> None:
        if not await self._lease.acquire(_LEASE_TTL):
            raise ConfigurationError(
                "another command is encrypting or decrypting the personal data of the database; wait for its end (after a "
                f"killed one {_LEASE_TTL:.0f} s)"
            )


@asynccontextmanager
async def administer_personal_data(settings: Settings) -> AsyncIterator[PersonalDataAdministration]:
    """Open the database for a command. Raises `ConfigurationError` and `StoreUnavailableError`."""
    async with open_stores(settings, await audit_keys_of(settings), new_node_id()) as stores:
        await stores.require_current()
        yield PersonalDataAdministration(stores, operator().actor())
