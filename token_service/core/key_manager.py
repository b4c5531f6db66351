"""Changes the keys: on the first start, on a schedule, and when an operator says so.

Every change is one compare-and-set of the key table at the revision it was decided on. So it does not matter who decides: a leader
that is killed leaves the table before or after a step, never between; a second leader's step fails and is decided anew.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from token_service.clock import Clock
from token_service.core.key_lifecycle import (
    Activate,
    Prepare,
    Retire,
    RotationRules,
    Step,
    activated,
    is_announced,
    newest,
    next_step,
    oldest,
    retired,
    signing_key,
)
from token_service.core.keyring import Keyring, mac_context, require_keys, signing_context
from token_service.core.ports import (
    Audit,
    Entropy,
    KeyStore,
    KeyWrap,
    LeaseStore,
    SigningKeyState,
    StoredKeys,
    StoredMacKey,
    StoredSigningKey,
)
from token_service.core.validators import Validators
from token_service.errors import (
    KeyNotAnnouncedError,
    KeyNotFoundError,
    KeyStateError,
    OverloadedError,
    TokenServiceError,
)
from token_service.tokens.algorithms import Algorithm
from token_service.tokens.secret import Secret

RSA_SIZES: Final = (2048, 3072, 4096)
"""Bits an RSA key may have."""
_LEASE: Final = "keys"
_LEASE_TTL: Final = 30.0
_MAC_KEY_BYTES: Final = 32
_MAX_ATTEMPTS: Final = 20
_MAX_KEYS: Final = 64
"""So that a key set stays small enough for every validator."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key pair just made. `public_key` is DER (SubjectPublicKeyInfo), empty for HS256; `private_key` is PKCS#8 DER, or the HMAC key; None: it
    stays where it was made.
    """

    key_id: str
    public_key: bytes
    private_key: Secret | None
    provider: str = "local"


GenerateKey = Callable[[Algorithm, int | None], Awaitable[NewKey]]
"""`generate(algorithm, rsa_bits)`; None: the configured size. Raises `SigningUnavailableError` if the keys live in a module that is away."""


class KeyManager:
    """The one place where keys are made and change their state."""

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
    ) -> None:
        self._store = store
        self._keyring = keyring
        self._wrap = wrap
        self._leases = leases
        self._validators = validators
        self._clock = clock
        self._audit = audit
        self._rules = rules
        self._node_id = node_id
        self._generate = generate
        self._entropy = entropy
        self._interval = interval

    async def ensure(self) -> None:
        """Make the first keys of a new database, and load them. Any number of nodes may start at once: one of them makes the keys.

        Raises `ConfigurationError` if the key table is damaged, for a new key would hide that the old ones are gone.
        """
        for _ in range(_MAX_ATTEMPTS):
            stored = await self._store.load()
            if stored.signing_keys and stored.mac_keys:
                await self._keyring.refresh()
                return
            if stored.signing_keys or stored.mac_keys or stored.revision > 0:
                require_keys(stored)
            now = self._clock.now()
            first = replace(
                await self._new_key(self._rules.algorithm, now),
                state=SigningKeyState.ACTIVE,
                activate_time=now,
            )
            mac_keys = [self._new_mac_key(version, now) for version in (1, 2)]
            if await self._store.save(stored.revision, [first], mac_keys):
                self._record("signing_key.activated", first)
        raise OverloadedError("other nodes kept changing the keys", retry_after=1.0)

    async def run(self) -> None:
        """Let the schedule have its way, on one node at a time, until cancelled."""
        failing = False
        while True:
            try:
                if await self._leases.acquire(_LEASE, self._node_id, max(_LEASE_TTL, 2 * self._interval)):
                    await self.advance()
                failing = False
            except TokenServiceError as error:
                if not failing:
                    logger.warning("the keys can't be looked after: %s", error.message)
                failing = True
            await asyncio.sleep(self._interval)

    async def advance(self) -> None:
        """Take all steps that are due."""
        for _ in range(_MAX_ATTEMPTS):
            stored = await self._store.load()
            require_keys(stored)
            now = self._clock.now()
            if self._rotation_of_mac_keys_is_due(stored, now):
                version = max(key.version for key in stored.mac_keys) + 1
                await self._save(stored, mac_keys=[self._new_mac_key(version, now)])
                continue
            step = next_step(stored.signing_keys, now, self._rules)
            if step is None or not await self._may(step, stored):
                break
            await self._take(step, stored, now)
        await self._keyring.refresh(revision=(await self._store.load()).revision)

    async def prepare(self, algorithm: Algorithm | None, rsa_bits: int | None = None) -> StoredSigningKey:
        """Make a key and publish it; it does not sign yet. None: the configured algorithm and size.

        Raises `KeyStateError` if there are as many keys as there may be.
        """

        def change(stored: StoredKeys) -> Sequence[StoredSigningKey]:
            if len(stored.signing_keys) >= _MAX_KEYS:
                raise KeyStateError(
                    f"there are {_MAX_KEYS} keys already; retired ones go when their last token has expired"
                )
            return [key]

        key = await self._new_key(algorithm or self._rules.algorithm, self._clock.now(), rsa_bits)
        await self._change(change)
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
            now = self._clock.now()
            if not force and not confirmed and not is_announced(key, now, self._rules):
                wait = key.create_time + self._rules.announce - now
                raise KeyNotAnnouncedError(
                    f"the key is published for {self._rules.announce:.0f} s before it signs; {wait:.0f} s are left",
                    retry_after=wait,
                )
            return activated(stored.signing_keys, key_id, now)

        confirmed = await self._known_to_all(key_id)
        return await self._changed(change, key_id, "signing_key.activated")

    async def retire(self, key_id: str) -> StoredSigningKey:
        """Let a key sign no more; it stays published until its last token has expired. Succeeds if it is retired already.

        If it is the one that signs, the oldest prepared key takes over. Raises `KeyNotFoundError`, and `KeyStateError` if nothing could
        sign then.
        """

        def change(stored: StoredKeys) -> Sequence[StoredSigningKey]:
            key = _find(stored, key_id)
            if key.state is SigningKeyState.RETIRED:
                return []
            if key.state is SigningKeyState.REVOKED:
                raise KeyStateError("the key is revoked")
            return [retired(key, self._clock.now()), *self._successor(stored, key, required=True)]

        return await self._changed(change, key_id, "signing_key.retired")

    async def prepare_revocation(self, key_id: str) -> None:
        """See to it that another key signs before a key is revoked. Nothing happens for a key not known."""

        async def spare(stored: StoredKeys) -> Sequence[StoredSigningKey]:
            key = next((key for key in stored.signing_keys if key.key_id == key_id), None)
            if key is None or key.state is not SigningKeyState.ACTIVE:
                return []
            now = self._clock.now()
            others = [other for other in stored.signing_keys if other.key_id != key_id]
            successor = self._successor(stored, key, required=False)
            if not successor and signing_key(others, self._rules.algorithm) is None:
                new = await self._new_key(self._rules.algorithm, now)
                successor = [replace(new, state=SigningKeyState.ACTIVE, activate_time=now)]
            return [retired(key, now), *successor]

        for _ in range(_MAX_ATTEMPTS):
            stored = await self._store.load()
            changed = await spare(stored)
            if not changed or await self._save(stored, changed):
                return
        raise OverloadedError("other nodes kept changing the keys", retry_after=1.0)

    async def rewrap(self) -> int:
        """Encrypt all keys with the first configured key-encryption key; how many were encrypted with another."""
        for _ in range(_MAX_ATTEMPTS):
            stored = await self._store.load()
            signing = [
                replace(
                    key,
                    private_key=self._rewrapped(
                        key.private_key, signing_context(key.key_id), key.wrapping_key_id
                    ),
                    wrapping_key_id=self._wrap.key_id,
                )
                for key in stored.signing_keys
                if key.private_key and key.wrapping_key_id != self._wrap.key_id
            ]
            macs = [
                replace(
                    key,
                    wrapped=self._rewrapped(key.wrapped, mac_context(key.version), key.wrapping_key_id),
                    wrapping_key_id=self._wrap.key_id,
                )
                for key in stored.mac_keys
                if key.wrapping_key_id != self._wrap.key_id
            ]
            if not signing and not macs:
                return 0
            if await self._save(stored, signing, macs):
                self._audit.record(
                    "keys.rewrapped", wrapping_key_id=self._wrap.key_id, count=len(signing) + len(macs)
                )
                return len(signing) + len(macs)
        raise OverloadedError("other nodes kept changing the keys", retry_after=1.0)

    async def set_certificates(self, key_id: str, chain: Sequence[bytes]) -> StoredSigningKey:
        """Publish a certificate chain (DER, the key's own first) with a key. The caller has checked it."""
        return await self._changed(
            lambda stored: [replace(_find(stored, key_id), certificates=tuple(chain))],
            key_id,
            "signing_key.certified",
        )

    # --- Steps ----------------------------------------------------------------------------------------------------

    async def _may(self, step: Step, stored: StoredKeys) -> bool:
        """A scheduled activation waits for connected validators, too, unless nothing else can sign."""
        if not isinstance(step, Activate) or signing_key(stored.signing_keys, self._rules.algorithm) is None:
            return True
        key = _find(stored, step.key_id)
        patience = key.create_time + 2 * self._rules.announce
        return self._clock.now() >= patience or await self._validators.all_have_keys(stored.revision)

    async def _take(self, step: Step, stored: StoredKeys, now: float) -> None:
        if isinstance(step, Prepare):
            key = await self._new_key(step.algorithm, now)
            if step.activate:
                key = replace(key, state=SigningKeyState.ACTIVE, activate_time=now)
            if await self._save(stored, [key]):
                self._record("signing_key.activated" if step.activate else "signing_key.prepared", key)
        elif isinstance(step, Activate):
            changed = activated(stored.signing_keys, step.key_id, now)
            if await self._save(stored, changed):
                self._record("signing_key.activated", changed[0])
        elif isinstance(step, Retire):
            key = retired(_find(stored, step.key_id), now)
            if await self._save(stored, [key]):
                self._record("signing_key.retired", key)
        elif await self._save(stored, deleted=[step.key_id]):
            self._record("signing_key.forgotten", _find(stored, step.key_id))

    # --- Changes --------------------------------------------------------------------------------------------------

    async def _changed(
        self, change: Callable[[StoredKeys], Sequence[StoredSigningKey]], key_id: str, event: str
    ) -> StoredSigningKey:
        if await self._change(change):
            self._record(event, self._keyring.get(key_id))
        return self._keyring.get(key_id)

    async def _change(self, change: Callable[[StoredKeys], Sequence[StoredSigningKey]]) -> bool:
        """Decide on the table as it is, and save; decide anew if it has changed meanwhile. Whether there was anything to save."""
        for _ in range(_MAX_ATTEMPTS):
            stored = await self._store.load()
            changed = change(stored)
            if not changed:
                await self._keyring.refresh(revision=stored.revision)
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
        # Once begun it goes on even if the caller hangs up, so that this node's copy is never behind what it has decided itself.
        return await asyncio.shield(self._save_and_load(stored, signing_keys, mac_keys, deleted))

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

    def _successor(
        self, stored: StoredKeys, leaving: StoredSigningKey, *, required: bool
    ) -> list[StoredSigningKey]:
        """The prepared key that takes over from a key that signs, if it is the only one."""
        if leaving.state is not SigningKeyState.ACTIVE:
            return []
        others = [key for key in stored.signing_keys if key.key_id != leaving.key_id]
        if newest(others, SigningKeyState.ACTIVE) is not None:
            return []
        spares = [key for key in others if key.algorithm is self._rules.algorithm] or others
        spare = oldest(spares, SigningKeyState.PREPARED)
        if spare is not None:
            return [replace(spare, state=SigningKeyState.ACTIVE, activate_time=self._clock.now())]
        if required:
            raise KeyStateError("it is the only key that can sign; prepare another one first")
        return []

    async def _known_to_all(self, key_id: str) -> bool:
        """Whether there are validators, and all of them have confirmed a key set with this key."""
        stored = await self._store.load()
        if _find(stored, key_id).state is not SigningKeyState.PREPARED:
            return True
        connected, _ = self._validators.counts(0)
        return connected > 0 and await self._validators.all_have_keys(stored.revision)

    async def _new_key(
        self, algorithm: Algorithm, now: float, rsa_bits: int | None = None
    ) -> StoredSigningKey:
        new = await self._generate(algorithm, rsa_bits)
        private = new.private_key
        return StoredSigningKey(
            key_id=new.key_id,
            algorithm=algorithm,
            state=SigningKeyState.PREPARED,
            public_key=new.public_key,
            private_key=b"" if private is None else self._wrap.wrap(private, signing_context(new.key_id)),
            wrapping_key_id="" if private is None else self._wrap.key_id,
            provider=new.provider,
            create_time=now,
        )

    def _new_mac_key(self, version: int, now: float) -> StoredMacKey:
        wrapped = self._wrap.wrap(Secret(self._entropy(_MAC_KEY_BYTES)), mac_context(version))
        return StoredMacKey(
            version=version, wrapped=wrapped, wrapping_key_id=self._wrap.key_id, create_time=now
        )

    def _rotation_of_mac_keys_is_due(self, stored: StoredKeys, now: float) -> bool:
        youngest = max(key.create_time for key in stored.mac_keys)
        return now >= youngest + self._rules.period

    def _rewrapped(self, wrapped: bytes, context: bytes, wrapping_key_id: str) -> bytes:
        return self._wrap.wrap(self._wrap.unwrap(wrapped, context, wrapping_key_id), context)

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
