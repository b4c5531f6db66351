"""The key table: changes are decided on one revision, saved by compare-and-set, and loaded at once."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from token_service.clock import Clock
from token_service.core.events.audit import Audit
from token_service.core.events.event import Action, Actor, AuditEvent, Target
from token_service.core.keys.keyring import Keyring
from token_service.core.keys.store import (
    KeyStore,
    SigningKeyState,
    StoredKeys,
    StoredMacKey,
    StoredSigningKey,
)
from token_service.errors import KeyNotFoundError, OverloadedError

MAX_ATTEMPTS: Final = 20
"""Attempts of a change while other nodes change the table."""

_KEY: Final = "key"

logger = logging.getLogger(__name__)


class KeyTable:
    """The stored keys, and this node's copy of them in the keyring."""

    def __init__(self, store: KeyStore, keyring: Keyring, clock: Clock, audit: Audit) -> None:
        self.keyring = keyring
        self._store = store
        self._clock = clock
        self._audit = audit
        self._seen: dict[str, tuple[SigningKeyState, float]] = {}
        """The state of each key, and the monotonic time since which this node has seen it in that state."""
        self._saving: set[asyncio.Task[bool]] = set()

    async def load(self) -> StoredKeys:
        """Read the table. Raises `StoreUnavailableError`."""
        return await self._store.load()

    async def adopt(self) -> StoredKeys:
        """Read the table into the keyring. Raises `ConfigurationError` if this node can't use the keys."""
        stored = await self._store.load()
        self.keyring.adopt(stored)
        return stored

    def watch(self, stored: StoredKeys) -> Mapping[str, float]:
        """Return the seconds for which this node has seen each key in its state.

        A key never returns to a state it has left.
        """
        now = self._clock.monotonic()
        self._seen = {
            key.key_id: seen
            if (seen := self._seen.get(key.key_id)) is not None and seen[0] is key.state
            else (key.state, now)
            for key in stored.signing_keys
        }
        return {key_id: now - since for key_id, (_, since) in self._seen.items()}

    async def change(
        self, decide: Callable[[StoredKeys], Sequence[StoredSigningKey]], actor: Actor, action: Action
    ) -> bool:
        """Save the rows that `decide` returns for the table; decide again if another node has changed the table.

        The first row is the key that `action` of `actor` is about.

        Returns whether `decide` returned any rows. Raises `OverloadedError` after `MAX_ATTEMPTS`.
        """
        for _ in range(MAX_ATTEMPTS):
            stored = await self.adopt()
            changed = decide(stored)
            if not changed:
                return False
            if await self.save(stored, changed, events=[key_event(actor, action, changed[0])]):
                return True
        raise too_many_changes()

    async def save(
        self,
        stored: StoredKeys,
        signing_keys: Sequence[StoredSigningKey] = (),
        mac_keys: Sequence[StoredMacKey] = (),
        *,
        deleted: Sequence[str] = (),
        events: Sequence[AuditEvent],
    ) -> bool:
        """Save rows, if the table is still `stored`, and load the table. Returns whether they were saved.

        The rows of the audit events are written in the same transaction, their lines after it.
        """
        # The task continues if its caller is cancelled, so that this node's copy is never behind its own changes.
        task = asyncio.create_task(
            self._save_and_load(stored, signing_keys, mac_keys, deleted, events), name="save-keys"
        )
        self._saving.add(task)
        task.add_done_callback(self._saved)
        return await asyncio.shield(task)

    def _saved(self, task: asyncio.Task[bool]) -> None:
        self._saving.discard(task)
        if not task.cancelled():
            task.exception()  # retrieved here in case the caller was cancelled

    async def _save_and_load(
        self,
        stored: StoredKeys,
        signing_keys: Sequence[StoredSigningKey],
        mac_keys: Sequence[StoredMacKey],
        deleted: Sequence[str],
        events: Sequence[AuditEvent],
    ) -> bool:
        saved = await self._store.save(
            stored.revision, signing_keys, mac_keys, deleted_key_ids=deleted, events=events
        )
        if saved:
            for event in events:
                if event.target.kind == _KEY:
                    logger.info("%s: %s (%s)", event.action, event.target.id, event.fields["algorithm"])
                self._audit.record(event)
            await self.keyring.refresh()
        return saved


def key_event(actor: Actor, action: Action, key: StoredSigningKey) -> AuditEvent:
    """Return the audit event of a changed key."""
    return AuditEvent(
        action=action,
        actor=actor,
        target=Target(_KEY, key.key_id),
        fields={"algorithm": key.algorithm.value, "state": key.state.value},
    )


def find(stored: StoredKeys, key_id: str) -> StoredSigningKey:
    """Return a key of the table. Raises `KeyNotFoundError`."""
    for key in stored.signing_keys:
        if key.key_id == key_id:
            return key
    raise KeyNotFoundError


def too_many_changes() -> OverloadedError:
    """Return the error of a change that failed because other nodes kept changing the table."""
    return OverloadedError("other nodes kept changing the keys; try again", retry_after=1.0)
