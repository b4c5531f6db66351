"""This node's copies of the keys, the registered clients and the overrides of the policies.

Their revisions are in the log head.
"""

from __future__ import annotations

from contextlib import suppress

from token_service.core.clients.registry import ClientRegistry
from token_service.core.keys.keyring import Keyring
from token_service.core.overrides.registry import OverrideRegistry
from token_service.core.revocation.log import LogHead
from token_service.errors import ConfigurationError


class RevisionedCopies:
    """Brings the copies up to the revisions in a head."""

    def __init__(self, keyring: Keyring, clients: ClientRegistry, overrides: OverrideRegistry) -> None:
        self._keyring = keyring
        self._clients = clients
        self._overrides = overrides
        self._keys_of_other_log = False
        self._clients_of_other_log = False
        self._overrides_of_other_log = False

    def are_current(self, head: LogHead) -> bool:
        """Tell whether the copies have the revisions in a head."""
        return (
            self._keyring.revision == head.key_revision
            and self._overrides.revision == head.policies_revision
            and self.has_clients(head)
        )

    def has_clients(self, head: LogHead) -> bool:
        """Tell whether every change of a client up to a head is known."""
        return self._clients.revision >= head.client_revision

    def start_over(self) -> None:
        """Replace the copies at the next refresh: the log is another one, or was restored."""
        self._keys_of_other_log = self._clients_of_other_log = self._overrides_of_other_log = True

    async def refresh(self, head: LogHead) -> None:
        """Load the changes. Raises `StoreUnavailableError`.

        If the new keys can't be used, the last good keys stay in force, as the keyring has logged. Revocation does
        not depend on them, because the revocation of a key is in the log.
        """
        await self.refresh_clients(head)
        await self._overrides.refresh(
            revision=None if self._overrides_of_other_log else head.policies_revision
        )
        self._overrides_of_other_log = False
        with suppress(ConfigurationError):
            if self._keys_of_other_log:
                await self._keyring.start_over()
                self._keys_of_other_log = False
            else:
                await self._keyring.refresh(revision=head.key_revision)

    async def refresh_clients(self, head: LogHead | None) -> None:
        """Load the clients that have changed up to a head; None: up to now. Raises `StoreUnavailableError`."""
        if self._clients_of_other_log:
            await self._clients.start_over()
            self._clients_of_other_log = False
        else:
            await self._clients.refresh(revision=None if head is None else head.client_revision)
