"""Changes of keys that operators request, and the replacement of a revoked key.

Every change is one compare-and-set of the key table at the revision that it was decided on. A node that can't
use the stored keys changes nothing.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

from token_service.clock import Clock
from token_service.core.events.event import Action, Actor, AuditEvent, Target
from token_service.core.keys.announcement import Announcement
from token_service.core.keys.lifecycle import (
    MAX_KEYS,
    RotationRules,
    activated,
    can_sign,
    last_token_time,
    retired,
    successor,
)
from token_service.core.keys.making import KeyMaker
from token_service.core.keys.rotation import KeyRotation
from token_service.core.keys.store import SigningKeyState, StoredKeys, StoredSigningKey
from token_service.core.keys.table import MAX_ATTEMPTS, KeyTable, find, key_event, too_many_changes
from token_service.core.subscribers.reports import KeyKnowledge
from token_service.errors import (
    ConfigurationError,
    KeyNotAnnouncedError,
    KeyStateError,
    OverloadedError,
    SigningUnavailableError,
)
from token_service.tokens.algorithms import Algorithm

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Retirement:
    """What the retirement of a key would do."""

    problem: str
    """Why the key can't be retired now; empty: it can."""
    allow_time: float | None
    """The time from which it can be, if only time is missing."""
    tokens_expire_time: float | None
    """The time by which every token that it signed has expired, if it is retired now; None: it has signed none."""
    knowledge: KeyKnowledge
    """The subscribers that do not have the current key set."""


class KeyManager:
    """Prepares, activates, retires, replaces and encrypts keys on request."""

    def __init__(
        self,
        table: KeyTable,
        rotation: KeyRotation,
        maker: KeyMaker,
        announcement: Announcement,
        clock: Clock,
        rules: RotationRules,
    ) -> None:
        self._table = table
        self._rotation = rotation
        self._maker = maker
        self._announcement = announcement
        self._clock = clock
        self._rules = rules

    async def prepare(
        self, actor: Actor, algorithm: Algorithm | None, rsa_bits: int | None = None
    ) -> StoredSigningKey:
        """Make a key and publish it; it does not sign yet. None: the configured algorithm and size.

        Raises `KeyStateError` if `MAX_KEYS` keys exist.
        """

        def change(stored: StoredKeys) -> Sequence[StoredSigningKey]:
            if len(stored.signing_keys) >= MAX_KEYS:
                raise KeyStateError(
                    f"there are {MAX_KEYS} keys already; retired ones go when their last token has expired"
                )
            return [key] if key is not None else []

        key: StoredSigningKey | None = None
        change(await self._table.load())
        key = await self._maker.signing_key(algorithm or self._rules.algorithm, self._clock.now(), rsa_bits)
        try:
            await self._table.change(change, actor, Action.SIGNING_KEY_PREPARED)
        except (KeyStateError, OverloadedError):  # not saved; after any other error the row may be saved
            await self._maker.discard(key)
            raise
        return key

    async def activate(self, actor: Actor, key_id: str, *, force: bool) -> StoredSigningKey:
        """Let a prepared key sign; the active key of its algorithm retires. An active key is a success.

        Raises `KeyNotFoundError`, `KeyStateError`, and `KeyNotAnnouncedError` unless `force`.
        """

        def change(stored: StoredKeys) -> Sequence[StoredSigningKey]:
            key = find(stored, key_id)
            if key.state is SigningKeyState.ACTIVE:
                return []
            _require(key, SigningKeyState.PREPARED)
            if key.algorithm is not self._rules.algorithm:
                raise KeyStateError(
                    f"the key is for {key.algorithm}, but new tokens are signed with {self._rules.algorithm}; change the setting "
                    "TOKEN_SERVICE_SIGNING_ALGORITHM to activate the key"
                )
            if not force:
                self._announcement.require(key, stored, known)
            return activated(stored.signing_keys, key_id, self._clock.now())

        known = await self._announcement.revision_known_to_all()
        return await self._changed(change, key_id, actor, Action.SIGNING_KEY_ACTIVATED)

    async def retire(self, actor: Actor, key_id: str) -> StoredSigningKey:
        """Stop a key from signing; it stays published until its last token has expired.

        A retired key is a success. The oldest prepared key replaces the key that signs. Raises
        `KeyNotFoundError`, `KeyNotAnnouncedError`, and `KeyStateError` if no other key could sign.
        """

        def change(stored: StoredKeys) -> Sequence[StoredSigningKey]:
            return self._retirement(stored, key_id, known)

        known = await self._announcement.revision_known_to_all()
        return await self._changed(change, key_id, actor, Action.SIGNING_KEY_RETIRED)

    async def preview_retirement(self, key_id: str) -> Retirement:
        """Tell what `retire` would do now. Changes nothing. Raises `KeyNotFoundError` and `StoreUnavailableError`."""
        stored = await self._table.load()
        key = find(stored, key_id)
        knowledge = await self._announcement.knowledge(stored)
        now = self._clock.now()
        problem, allow_time = "", None
        try:
            self._retirement(
                stored, key_id, None if knowledge.behind or not knowledge.connected else stored.revision
            )
        except KeyNotAnnouncedError as error:
            problem = error.message
            allow_time = None if error.retry_after is None else now + error.retry_after
        except KeyStateError as error:
            problem = error.message
        return Retirement(problem, allow_time, last_token_time(key, now), knowledge)

    def _retirement(self, stored: StoredKeys, key_id: str, known: int | None) -> Sequence[StoredSigningKey]:
        """Return the rows that retire a key and let another key sign; none for a retired key. See `retire`."""
        key = find(stored, key_id)
        if key.state is SigningKeyState.RETIRED:
            return []
        if key.state is SigningKeyState.REVOKED:
            raise KeyStateError("the key is revoked")
        heir = successor(stored.signing_keys, key, self._rules.algorithm, self._clock.now())
        if heir is None:
            return [retired(key, self._clock.now())]
        if not heir:
            raise KeyStateError("it is the only key that can sign; prepare another one first")
        self._announcement.require(find(stored, heir[0].key_id), stored, known)
        return [retired(key, self._clock.now()), *heir]

    @asynccontextmanager
    async def revoking(self, actor: Actor, key_id: str) -> AsyncIterator[None]:
        """Wrap the append of a key's revocation to the log.

        Before the append, another key replaces the revoked one. After it, a third key replaces that key if it
        was revoked meanwhile.

        An HSM that can't make a key, or another damaged key, does not prevent the revocation: no key signs
        until that is repaired. An unknown key has no effect.
        """
        try:
            await self._replace(actor, key_id)
        except (SigningUnavailableError, ConfigurationError) as error:
            logger.warning("no key replaces the revoked key %s: %s", key_id, error.message)
        yield
        try:
            stored = await self._table.load()
            if stored.signing_keys and not can_sign(stored.signing_keys):
                await self._rotation.advance()
            await self._table.adopt()
        except (SigningUnavailableError, ConfigurationError) as error:
            logger.warning(
                "key %s is revoked, but the other keys can't be maintained: %s", key_id, error.message
            )

    async def rewrap(self, actor: Actor) -> int:
        """Encrypt all keys with the first configured key-encryption key; return how many used another one."""
        for _ in range(MAX_ATTEMPTS):
            stored = await self._table.adopt()
            signing, macs = self._maker.rewrapped(stored)
            if not signing and not macs:
                return 0
            event = AuditEvent(
                action=Action.KEYS_REWRAPPED,
                actor=actor,
                target=Target("keys"),
                fields={
                    "wrapping_key_id": self._maker.wrapping_key_id,
                    "count": len(signing) + len(macs),
                },
            )
            if await self._table.save(stored, signing, macs, events=[event]):
                return len(signing) + len(macs)
        raise too_many_changes()

    async def set_certificates(self, actor: Actor, key_id: str, chain: Sequence[bytes]) -> StoredSigningKey:
        """Publish a certificate chain (DER, the key's own first) with a key. The caller has checked the chain.

        A repeated call has no effect. Raises `KeyNotFoundError`, and `KeyStateError` for a revoked key.
        """

        def change(stored: StoredKeys) -> Sequence[StoredSigningKey]:
            key = find(stored, key_id)
            if key.state is SigningKeyState.REVOKED:
                raise KeyStateError("the key is revoked")
            return [] if key.certificates == tuple(chain) else [replace(key, certificates=tuple(chain))]

        return await self._changed(change, key_id, actor, Action.SIGNING_KEY_CERTIFIED)

    async def _replace(self, actor: Actor, key_id: str) -> None:
        """Retire a key that is about to be revoked and let another key sign."""
        for _ in range(MAX_ATTEMPTS):
            stored = await self._table.load()
            key = next((key for key in stored.signing_keys if key.key_id == key_id), None)
            if key is None or key.state is not SigningKeyState.ACTIVE:
                return
            now = self._clock.now()
            made: StoredSigningKey | None = None
            heir = successor(stored.signing_keys, key, self._rules.algorithm, now)
            if heir is not None and not heir:
                made = await self._maker.signing_key(self._rules.algorithm, now)
                heir = [replace(made, state=SigningKeyState.ACTIVE, activate_time=now)]
            events = [key_event(actor, Action.SIGNING_KEY_ACTIVATED, each) for each in heir or ()]
            if await self._table.save(stored, [retired(key, now), *(heir or ())], events=events):
                return
            if made is not None:
                await self._maker.discard(made)
        raise too_many_changes()

    async def _changed(
        self,
        change: Callable[[StoredKeys], Sequence[StoredSigningKey]],
        key_id: str,
        actor: Actor,
        action: Action,
    ) -> StoredSigningKey:
        await self._table.change(change, actor, action)
        return self._table.keyring.get(key_id)


def _require(key: StoredSigningKey, state: SigningKeyState) -> None:
    if key.state is not state:
        raise KeyStateError(f"the key is {key.state.value}, not {state.value}")
