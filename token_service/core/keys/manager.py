"""Changes the keys: on the first start, on a schedule, and when an operator says so.

Every change is one compare-and-set of the key table at the revision it was decided on. So it does not matter
who decides: a leader that is killed leaves the table before or after a step, never between; a second leader's
step fails and is decided anew. A node that can't use the keys as they are changes nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from math import ceil
from typing import Final

from token_service.clock import Clock
from token_service.core.entropy import Entropy
from token_service.core.events.audit import Audit
from token_service.core.keys.key_wrap import KeyWrap
from token_service.core.keys.keyring import Keyring, require_keys
from token_service.core.keys.lifecycle import (
    MAX_KEYS,
    Activate,
    Prepare,
    Retire,
    RotationRules,
    Step,
    activated,
    announcement_left,
    can_sign,
    is_due,
    next_step,
    retired,
    successor,
)
from token_service.core.keys.making import DestroyKey, GenerateKey, KeyMaker
from token_service.core.keys.store import (
    KeyStore,
    SigningKeyState,
    StoredKeys,
    StoredMacKey,
    StoredSigningKey,
)
from token_service.core.leases import LeaseStore
from token_service.core.subscribers.registry import Validators
from token_service.errors import (
    ConfigurationError,
    KeyNotAnnouncedError,
    KeyNotFoundError,
    KeyStateError,
    OverloadedError,
    SigningUnavailableError,
    TokenServiceError,
)
from token_service.tokens.algorithms import Algorithm

_LEASE: Final = "keys"
_LEASE_INTERVALS: Final = 3
"""After so many intervals without a sign of life a leader is replaced."""
_SHORTEST_LEASE: Final = 1.0
_SHORTEST_MAC_PERIOD: Final = 24 * 3600.0
"""Seconds. Old MAC keys are kept, for a session may live for long, and a version has 16 bits."""
_MAX_ATTEMPTS: Final = 20

logger = logging.getLogger(__name__)


class KeyManager:
    """The one place where keys change their state."""

    def __init__(
        self,
        store: KeyStore,
        keyring: Keyring,
        wrap: KeyWrap,
        leases: LeaseStore,
        validators: Validators,
        clock: Clock,
        audit: Audit,
        rules: RotationRules,
        *,
        node_id: str,
        generate: GenerateKey,
        entropy: Entropy,
        interval: float,
        destroy: DestroyKey | None = None,
    ) -> None:
        """`interval`: seconds between two looks at the keys."""
        self._store = store
        self._keyring = keyring
        self._leases = leases
        self._validators = validators
        self._clock = clock
        self._audit = audit
        self._rules = rules
        self._node_id = node_id
        self._maker = KeyMaker(wrap, entropy, generate, destroy)
        self._interval = interval
        self._seen: dict[str, tuple[SigningKeyState, float]] = {}
        """In which state each key is, and since when it was seen in it (monotonic)."""
        self._saving: set[asyncio.Task[bool]] = set()

    async def ensure(self) -> None:
        """Make the first keys of a new database, and load them.

        Any number of nodes may start at once: one of them makes the keys.

        Raises `ConfigurationError` if the key table is damaged, for a new key would hide that the old ones
        are gone.
        """
        for _ in range(_MAX_ATTEMPTS):
            stored = await self._store.load()
            if stored.signing_keys and stored.mac_keys:
                self._keyring.adopt(stored)
                if not can_sign(stored.signing_keys):
                    await self.advance()
                return
            if stored.signing_keys or stored.mac_keys or stored.revision > 0:
                require_keys(stored)
            now = self._clock.now()
            first = replace(
                await self._maker.signing_key(self._rules.algorithm, now),
                state=SigningKeyState.ACTIVE,
                activate_time=now,
            )
            mac_keys = [self._maker.mac_key(version, now) for version in (1, 2)]
            if await self._save(stored, [first], mac_keys):
                self._record("signing_key.activated", first)
                return
            await self._maker.discard(first)
        raise OverloadedError("other nodes kept changing the keys", retry_after=1.0)

    async def run(self) -> None:
        """Carry out the schedule, on one node at a time, until cancelled.

        Every node watches the keys, so that any can take over.
        """
        failing = ""
        try:
            while True:
                try:
                    await self._look_after()
                    failing = ""
                except TokenServiceError as error:
                    known = (
                        self._keyring.failure
                    )  # the keyring has said so, maybe of a look of its own meanwhile
                    if error.message != failing and (known is None or known.message != error.message):
                        logger.warning("the keys can't be looked after: %s", error.message)
                    failing = error.message
                await asyncio.sleep(self._interval)
        finally:
            # A node that leaves in order need not be waited for.
            with suppress(TokenServiceError, TimeoutError):
                async with asyncio.timeout(1):
                    await self._leases.release(_LEASE, self._node_id)

    async def advance(self) -> None:
        """Take all steps that are due.

        Raises `ConfigurationError` if this node can't use the keys as they are.
        """
        for _ in range(_MAX_ATTEMPTS):
            stored = await self._store.load()
            self._keyring.adopt(stored)
            now = self._clock.now()
            if self._rotation_of_mac_keys_is_due(stored, now):
                version = max(key.version for key in stored.mac_keys) + 1
                if await self._save(stored, mac_keys=[self._maker.mac_key(version, now)]):
                    self._audit.record("mac_key.prepared", version=version)
                continue
            step = next_step(stored.signing_keys, now, self._rules, self._watch(stored))
            if step is None or not await self._may(step, stored):
                return
            await self._take(step, stored, now)

    async def prepare(self, algorithm: Algorithm | None, rsa_bits: int | None = None) -> StoredSigningKey:
        """Make a key and publish it; it does not sign yet. None: the configured algorithm and size.

        Raises `KeyStateError` if there are as many keys as there may be.
        """

        def change(stored: StoredKeys) -> Sequence[StoredSigningKey]:
            if len(stored.signing_keys) >= MAX_KEYS:
                raise KeyStateError(
                    f"there are {MAX_KEYS} keys already; retired ones go when their last token has expired"
                )
            return [key] if key is not None else []

        key: StoredSigningKey | None = None
        change(await self._store.load())
        key = await self._maker.signing_key(algorithm or self._rules.algorithm, self._clock.now(), rsa_bits)
        try:
            await self._change(change)
        except (KeyStateError, OverloadedError):  # not saved; after any other failure it may have been
            await self._maker.discard(key)
            raise
        self._record("signing_key.prepared", key)
        return key

    async def activate(self, key_id: str, *, force: bool) -> StoredSigningKey:
        """Let a prepared key sign; the active one of its algorithm retires. Succeeds if it is active already.

        Raises `KeyNotFoundError`, `KeyStateError`, and `KeyNotAnnouncedError` unless `force`.
        """

        def change(stored: StoredKeys) -> Sequence[StoredSigningKey]:
            key = _find(stored, key_id)
            if key.state is SigningKeyState.ACTIVE:
                return []
            _require(key, SigningKeyState.PREPARED)
            if key.algorithm is not self._rules.algorithm:
                raise KeyStateError(
                    f"the key is for {key.algorithm}, but new tokens are signed with {self._rules.algorithm}; change the setting "
                    "TOKEN_SERVICE_SIGNING_ALGORITHM, and the key is activated"
                )
            if not force:
                self._require_announced(key, stored, known)
            return activated(stored.signing_keys, key_id, self._clock.now())

        known = await self._revision_known_to_all()
        return await self._changed(change, key_id, "signing_key.activated")

    async def retire(self, key_id: str) -> StoredSigningKey:
        """Let a key sign no more; it stays published until its last token has expired.

        Succeeds if it is retired already.

        If it is the one that signs, the oldest prepared key takes over. Raises `KeyNotFoundError`,
        `KeyNotAnnouncedError`, and `KeyStateError` if nothing could sign then.
        """

        def change(stored: StoredKeys) -> Sequence[StoredSigningKey]:
            key = _find(stored, key_id)
            if key.state is SigningKeyState.RETIRED:
                return []
            if key.state is SigningKeyState.REVOKED:
                raise KeyStateError("the key is revoked")
            heir = successor(stored.signing_keys, key, self._rules.algorithm, self._clock.now())
            if heir is None:
                return [retired(key, self._clock.now())]
            if not heir:
                raise KeyStateError("it is the only key that can sign; prepare another one first")
            self._require_announced(_find(stored, heir[0].key_id), stored, known)
            return [retired(key, self._clock.now()), *heir]

        known = await self._revision_known_to_all()
        return await self._changed(change, key_id, "signing_key.retired")

    @asynccontextmanager
    async def revoking(self, key_id: str) -> AsyncIterator[None]:
        """Goes around the append of a key's revocation to the log.

        Another key takes over before it; and after it yet another, should that one have been revoked
        meanwhile.

        A compromised key is not kept because the HSM can't make another one now, or because another key is
        damaged: then nothing signs until that is mended. Nothing happens for a key not known.
        """
        try:
            await self._replace(key_id)
        except (SigningUnavailableError, ConfigurationError) as error:
            logger.warning("no key takes over from the one revoked: %s", error.message)
        yield
        try:
            stored = await self._store.load()
            if stored.signing_keys and not can_sign(stored.signing_keys):
                await self.advance()
            self._keyring.adopt(await self._store.load())
        except (SigningUnavailableError, ConfigurationError) as error:
            logger.warning("the key is revoked, but the others can't be looked after: %s", error.message)

    async def rewrap(self) -> int:
        """Encrypt all keys with the first configured key-encryption key; how many were encrypted with
        another.
        """
        for _ in range(_MAX_ATTEMPTS):
            stored = await self._store.load()
            self._keyring.adopt(stored)
            signing, macs = self._maker.rewrapped(stored)
            if not signing and not macs:
                return 0
            if await self._save(stored, signing, macs):
                self._audit.record(
                    "keys.rewrapped",
                    wrapping_key_id=self._maker.wrapping_key_id,
                    count=len(signing) + len(macs),
                )
                return len(signing) + len(macs)
        raise OverloadedError("other nodes kept changing the keys", retry_after=1.0)

    async def set_certificates(self, key_id: str, chain: Sequence[bytes]) -> StoredSigningKey:
        """Publish a certificate chain (DER, the key's own first) with a key. The caller has checked it.

        Succeeds if it is published already. Raises `KeyNotFoundError`, and `KeyStateError` for a revoked key.
        """

        def change(stored: StoredKeys) -> Sequence[StoredSigningKey]:
            key = _find(stored, key_id)
            if key.state is SigningKeyState.REVOKED:
                raise KeyStateError("the key is revoked")
            return [] if key.certificates == tuple(chain) else [replace(key, certificates=tuple(chain))]

        return await self._changed(change, key_id, "signing_key.certified")

    # --- Steps ----------------------------------------------------------------------------------------------------

    async def _look_after(self) -> None:
        stored = await self._store.load()
        self._watch(stored)
        try:
            self._keyring.adopt(stored)
        except ConfigurationError:
            await self._leases.release(_LEASE, self._node_id)  # another node may be able to
            raise
        ttl = max(_SHORTEST_LEASE, _LEASE_INTERVALS * self._interval)
        if await self._leases.acquire(_LEASE, self._node_id, ttl):
            await self.advance()

    def _watch(self, stored: StoredKeys) -> Mapping[str, float]:
        """For how many seconds this node has seen each key in its state.

        A state, once left, never comes back.
        """
        now = self._clock.monotonic()
        self._seen = {
            key.key_id: seen
            if (seen := self._seen.get(key.key_id)) is not None and seen[0] is key.state
            else (key.state, now)
            for key in stored.signing_keys
        }
        return {key_id: now - since for key_id, (_, since) in self._seen.items()}

    async def _may(self, step: Step, stored: StoredKeys) -> bool:
        """Whether to take a step now.

        A scheduled activation also waits until connected validators have confirmed the key, for another
        announce time at most, unless nothing else can sign.
        """
        if not isinstance(step, Activate) or not can_sign(stored.signing_keys):
            return True
        if self._watch(stored).get(step.key_id, 0.0) >= 2 * self._rules.announce:
            return True
        connected, revision = await self._validators.key_revision_of_all()
        return not connected or revision >= stored.revision

    async def _take(self, step: Step, stored: StoredKeys, now: float) -> None:
        if isinstance(step, Prepare):
            key = await self._maker.signing_key(step.algorithm, now)
            if step.activate:
                key = replace(key, state=SigningKeyState.ACTIVE, activate_time=now)
            if await self._save(stored, [key]):
                self._record("signing_key.activated" if step.activate else "signing_key.prepared", key)
            else:
                await self._maker.discard(key)
        elif isinstance(step, Activate):
            changed = activated(stored.signing_keys, step.key_id, now)
            if await self._save(stored, changed):
                self._record("signing_key.activated", changed[0])
        elif isinstance(step, Retire):
            key = retired(_find(stored, step.key_id), now)
            if await self._save(stored, [key]):
                self._record("signing_key.retired", key)
        elif await self._save(stored, deleted=[step.key_id]):
            key = _find(stored, step.key_id)
            self._record("signing_key.forgotten", key)
            await self._maker.discard(key)

    async def _replace(self, key_id: str) -> None:
        """See to it that another key signs before a key is revoked."""
        for _ in range(_MAX_ATTEMPTS):
            stored = await self._store.load()
            key = next((key for key in stored.signing_keys if key.key_id == key_id), None)
            if key is None or key.state is not SigningKeyState.ACTIVE:
                return
            now = self._clock.now()
            made: StoredSigningKey | None = None
            heir = successor(stored.signing_keys, key, self._rules.algorithm, now)
            if heir is not None and not heir:
                made = await self._maker.signing_key(self._rules.algorithm, now)
                heir = [replace(made, state=SigningKeyState.ACTIVE, activate_time=now)]
            if await self._save(stored, [retired(key, now), *(heir or ())]):
                for each in heir or ():
                    self._record("signing_key.activated", each)
                return
            if made is not None:
                await self._maker.discard(made)
        raise OverloadedError("other nodes kept changing the keys", retry_after=1.0)

    # --- Changes --------------------------------------------------------------------------------------------------

    async def _changed(
        self, change: Callable[[StoredKeys], Sequence[StoredSigningKey]], key_id: str, event: str
    ) -> StoredSigningKey:
        if await self._change(change):
            self._record(event, self._keyring.get(key_id))
        return self._keyring.get(key_id)

    async def _change(self, change: Callable[[StoredKeys], Sequence[StoredSigningKey]]) -> bool:
        """Decide on the table as it is, and save; decide anew if it has changed meanwhile.

        Whether there was anything to save.
        """
        for _ in range(_MAX_ATTEMPTS):
            stored = await self._store.load()
            self._keyring.adopt(stored)
            changed = change(stored)
            if not changed:
                return False
            if await self._save(stored, changed):
                return True
        raise OverloadedError("other nodes kept changing the keys", retry_after=1.0)

    async def _save(
        self,
        stored: StoredKeys,
        signing_keys: Sequence[StoredSigningKey] = (),
        mac_keys: Sequence[StoredMacKey] = (),
        *,
        deleted: Sequence[str] = (),
    ) -> bool:
        # Once begun it goes on even if the caller hangs up, so that this node's copy is never behind what it
        # has decided itself.
        task = asyncio.create_task(
            self._save_and_load(stored, signing_keys, mac_keys, deleted), name="save-keys"
        )
        self._saving.add(task)
        task.add_done_callback(self._saved)
        return await asyncio.shield(task)

    def _saved(self, task: asyncio.Task[bool]) -> None:
        self._saving.discard(task)
        if not task.cancelled():
            task.exception()  # seen, even if its caller has gone

    async def _save_and_load(
        self,
        stored: StoredKeys,
        signing_keys: Sequence[StoredSigningKey],
        mac_keys: Sequence[StoredMacKey],
        deleted: Sequence[str],
    ) -> bool:
        saved = await self._store.save(stored.revision, signing_keys, mac_keys, deleted_key_ids=deleted)
        if saved:
            await self._keyring.refresh()
        return saved

    def _require_announced(self, key: StoredSigningKey, stored: StoredKeys, known: int | None) -> None:
        """Raise `KeyNotAnnouncedError` unless validators can be expected to know a prepared key, or all have
        confirmed it.
        """
        if known is not None and known >= stored.revision:
            return
        left = announcement_left(key, self._clock.now(), self._rules, self._watch(stored))
        if left > 0:
            raise KeyNotAnnouncedError(
                f"key {key.key_id} is published for {self._rules.announce:g} s before it signs; {ceil(left)} s are left",
                retry_after=left,
            )

    async def _revision_known_to_all(self) -> int | None:
        """The lowest revision of the keys that the connected validators have confirmed; None: none are
        connected.
        """
        connected, revision = await self._validators.key_revision_of_all()
        return revision if connected else None

    def _rotation_of_mac_keys_is_due(self, stored: StoredKeys, now: float) -> bool:
        spare = max(stored.mac_keys, key=lambda key: key.version)
        return is_due(spare.create_time, now, max(self._rules.period, _SHORTEST_MAC_PERIOD))

    def _record(self, event: str, key: StoredSigningKey) -> None:
        logger.info("%s: %s (%s)", event, key.key_id, key.algorithm)
        self._audit.record(event, key_id=key.key_id, algorithm=key.algorithm.value, state=key.state.value)


def _find(stored: StoredKeys, key_id: str) -> StoredSigningKey:
    for key in stored.signing_keys:
        if key.key_id == key_id:
            return key
    raise KeyNotFoundError


def _require(key: StoredSigningKey, state: SigningKeyState) -> None:
    if key.state is not state:
        raise KeyStateError(f"the key is {key.state.value}, not {state.value}")
