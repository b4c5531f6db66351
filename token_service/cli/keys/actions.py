"""What the commands do with signing keys: in the database, or at a running service."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from token_service.cli.keys.administration import administer
from token_service.cli.keys.shown_key import ShownKey
from token_service.config import Settings
from token_service.core.keys.store import StoredSigningKey

if TYPE_CHECKING:
    from token_service.app.administration import Keys
    from token_service.cli.remote.service import Service
    from token_service.core.keys.administration import SigningKeys


class KeyActions(Protocol):
    """The signing keys of one place. Each method raises `ServiceError`."""

    def list(self) -> Sequence[ShownKey]:
        """Return all keys, newest first."""
        ...

    def prepare(self, algorithm: str, rsa_bits: int) -> ShownKey:
        """Make a key and publish it."""
        ...

    def activate(self, key_id: str, *, force: bool) -> ShownKey:
        """Let a prepared key sign."""
        ...

    def retire(self, key_id: str) -> ShownKey:
        """Stop a key from signing."""
        ...

    def revoke(
        self, key_id: str, comment: str, wait: float | None, *, quiet: bool
    ) -> tuple[ShownKey, tuple[int, int]]:
        """Revoke a key; return it, the number of connected subscribers, and how many of them have confirmed."""
        ...


def keys_of(place: Settings | Service) -> KeyActions:
    """Return the keys of a database or of a running service."""
    if isinstance(place, Settings):
        return StoredKeys(place)
    from token_service.cli.keys.remote import RemoteKeys

    return RemoteKeys(place)


class StoredKeys:
    """The keys in the database."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def list(self) -> Sequence[ShownKey]:
        """Return all keys."""

        async def load(keys: Keys) -> Sequence[StoredSigningKey]:
            return keys.keyring.signing_keys()

        return [ShownKey.of(key) for key in administer(self._settings, load)]

    def prepare(self, algorithm: str, rsa_bits: int) -> ShownKey:
        """Make a key and publish it."""

        async def make(keys: Keys) -> StoredSigningKey:
            return await _signing_keys(keys).prepare(keys.operator, algorithm, rsa_bits)

        return ShownKey.of(administer(self._settings, make))

    def activate(self, key_id: str, *, force: bool) -> ShownKey:
        """Let a prepared key sign."""

        async def change(keys: Keys) -> StoredSigningKey:
            return await _signing_keys(keys).activate(keys.operator, key_id, force=force)

        return ShownKey.of(administer(self._settings, change))

    def retire(self, key_id: str) -> ShownKey:
        """Stop a key from signing."""

        async def change(keys: Keys) -> StoredSigningKey:
            return await _signing_keys(keys).retire(keys.operator, key_id)

        return ShownKey.of(administer(self._settings, change))

    def revoke(
        self,
        key_id: str,
        comment: str,
        wait: float | None,
        *,
        quiet: bool,
    ) -> tuple[ShownKey, tuple[int, int]]:
        """Revoke a key."""

        async def change(keys: Keys) -> tuple[StoredSigningKey, tuple[int, int]]:
            cursor = await keys.revoke(key_id, time.time(), comment)
            counts = (0, 0) if wait is None else await keys.wait_applied(cursor, wait)
            return keys.keyring.get(key_id), counts

        key, counts = administer(self._settings, change)
        return ShownKey.of(key), counts


def _signing_keys(keys: Keys) -> SigningKeys:
    """Return the use cases that nodes offer over gRPC."""
    from token_service.core.keys.administration import SigningKeys

    return SigningKeys(keys.keyring, keys.manager)
