"""The keys of this node: which one signs, which ones verify, which ones make opaque tokens.

The key store is shared by all nodes; a keyring is a node's copy of it, replaced whole when the store's revision changes. If a load
fails, the last good copy stays; there is never an empty key set.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from cryptography.hazmat.primitives.serialization import load_der_public_key

from token_service.core.ports import (
    Entropy,
    KeyStore,
    KeyWrap,
    Signer,
    SigningKeyState,
    StoredKeys,
    StoredMacKey,
    StoredSigningKey,
)
from token_service.errors import KeyNotFoundError, SigningUnavailableError
from token_service.tokens.algorithms import Algorithm, VerificationKeyMaterial, algorithm_of
from token_service.tokens.jwk import public_jwk
from token_service.tokens.key_set import KeySet, VerificationKey
from token_service.tokens.opaque_token import MacKeys
from token_service.tokens.secret import Secret

_MAC_KEY_BYTES: Final = 32
_MAX_ATTEMPTS: Final = 20


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key pair just made. `public_key` is DER (SubjectPublicKeyInfo), empty for HS256; `private_key` is PKCS#8 DER, or the HMAC key."""

    key_id: str
    public_key: bytes
    private_key: Secret


GenerateKey = Callable[[Algorithm], Awaitable[NewKey]]
OpenSigner = Callable[[str, Algorithm, Secret], Signer]
"""`open_signer(key_id, algorithm, private_key)`."""


@dataclass(frozen=True, slots=True)
class _Copy:
    stored: StoredKeys
    signers: dict[str, Signer]
    key_set: KeySet
    jwks: tuple[dict[str, Any], ...]
    mac_keys: MacKeys
    active: Signer | None


class Keyring:
    """This node's copy of the keys."""

    def __init__(
        self,
        store: KeyStore,
        wrap: KeyWrap,
        algorithm: Algorithm,
        *,
        generate: GenerateKey,
        open_signer: OpenSigner,
        entropy: Entropy,
    ) -> None:
        self._store = store
        self._wrap = wrap
        self._algorithm = algorithm
        self._generate = generate
        self._open_signer = open_signer
        self._entropy = entropy
        self._copy: _Copy | None = None
        self._listeners: list[Callable[[], None]] = []

    def on_change(self, listener: Callable[[], None]) -> None:
        """Call `listener` whenever the keys have changed."""
        self._listeners.append(listener)

    @property
    def revision(self) -> int:
        """The revision of the copy; -1 before the first load."""
        return self._copy.stored.revision if self._copy is not None else -1

    def signer(self) -> Signer:
        """The active key of the configured algorithm. Raises `SigningUnavailableError`."""
        copy = self._copy
        if copy is None or copy.active is None:
            raise SigningUnavailableError(retry_after=1.0)
        return copy.active

    @property
    def key_set(self) -> KeySet:
        """The keys that verify tokens here, those not published included."""
        return self._loaded().key_set

    @property
    def jwks(self) -> tuple[dict[str, Any], ...]:
        """The public keys to publish (RFC 7517)."""
        return self._loaded().jwks

    @property
    def mac_keys(self) -> MacKeys:
        """The keys of opaque tokens."""
        return self._loaded().mac_keys

    def signing_keys(self) -> Sequence[StoredSigningKey]:
        """All signing keys, newest first."""
        keys = self._loaded().stored.signing_keys
        return sorted(keys, key=lambda key: (key.create_time, key.key_id), reverse=True)

    def get(self, key_id: str) -> StoredSigningKey:
        """One signing key. Raises `KeyNotFoundError`."""
        for key in self._loaded().stored.signing_keys:
            if key.key_id == key_id:
                return key
        raise KeyNotFoundError

    async def refresh(self, now: float, *, revision: int | None = None) -> None:
        """Load the keys unless the copy already is of `revision`; make those that are missing.

        Any number of nodes may do this at once: each change is a compare-and-set on the store's revision.
        """
        if revision is not None and revision == self.revision:
            return
        for _ in range(_MAX_ATTEMPTS):
            stored = await self._store.load()
            signing_keys, mac_keys = await self._missing(stored, now)
            if not signing_keys and not mac_keys:
                self._adopt(stored)
                return
            await self._store.save(stored.revision, signing_keys, mac_keys)
        raise SigningUnavailableError("other nodes kept changing the keys", retry_after=1.0)

    async def _missing(
        self, stored: StoredKeys, now: float
    ) -> tuple[list[StoredSigningKey], list[StoredMacKey]]:
        signing_keys: list[StoredSigningKey] = []
        mac_keys: list[StoredMacKey] = []
        if not any(
            key.state is SigningKeyState.ACTIVE and key.algorithm is self._algorithm
            for key in stored.signing_keys
        ):
            signing_keys = [
                replace(key, state=SigningKeyState.RETIRED, retire_time=now)
                for key in stored.signing_keys
                if key.state is SigningKeyState.ACTIVE
            ]
            new = await self._generate(self._algorithm)
            signing_keys.append(
                StoredSigningKey(
                    key_id=new.key_id,
                    algorithm=self._algorithm,
                    state=SigningKeyState.ACTIVE,
                    public_key=new.public_key,
                    private_key=self._wrap.wrap(new.private_key, _signing_context(new.key_id)),
                    wrapping_key_id=self._wrap.key_id,
                    create_time=now,
                    activate_time=now,
                )
            )
        if not stored.mac_keys:
            key = Secret(self._entropy(_MAC_KEY_BYTES))
            wrapped = self._wrap.wrap(key, _mac_context(1))
            mac_keys = [
                StoredMacKey(version=1, wrapped=wrapped, wrapping_key_id=self._wrap.key_id, create_time=now)
            ]
        return signing_keys, mac_keys

    def _adopt(self, stored: StoredKeys) -> None:
        known = self._copy.signers if self._copy is not None else {}
        signers: dict[str, Signer] = {}
        verification_keys: list[VerificationKey] = []
        jwks: list[dict[str, Any]] = []
        active: Signer | None = None
        for key in stored.signing_keys:
            if key.state is SigningKeyState.REVOKED:
                continue
            material: VerificationKeyMaterial
            if key.algorithm is Algorithm.HS256:
                material = self._private(key)
            else:
                material = _public_material(key)
                jwks.append(public_jwk(material))
            verification_keys.append(VerificationKey.of(key.key_id, key.algorithm, material))
            if key.state is SigningKeyState.ACTIVE and key.algorithm is self._algorithm:
                active = known.get(key.key_id) or self._open_signer(
                    key.key_id, key.algorithm, self._private(key)
                )
                signers[key.key_id] = active
        mac_keys = MacKeys(
            {
                key.version: self._wrap.unwrap(key.wrapped, _mac_context(key.version), key.wrapping_key_id)
                for key in stored.mac_keys
            },
            max(key.version for key in stored.mac_keys),
        )
        key_set = KeySet(verification_keys, stored.revision)
        self._copy = _Copy(stored, signers, key_set, tuple(jwks), mac_keys, active)
        for listener in self._listeners:
            listener()

    def _private(self, key: StoredSigningKey) -> Secret:
        return self._wrap.unwrap(key.private_key, _signing_context(key.key_id), key.wrapping_key_id)

    def _loaded(self) -> _Copy:
        if self._copy is None:
            raise SigningUnavailableError("the keys are not loaded yet", retry_after=1.0)
        return self._copy


def _signing_context(key_id: str) -> bytes:
    return b"signing-key:" + key_id.encode()


def _mac_context(version: int) -> bytes:
    return b"mac-key:%d" % version


def _public_material(key: StoredSigningKey) -> VerificationKeyMaterial:
    material = load_der_public_key(key.public_key)
    if algorithm_of(material) is not key.algorithm:  # type: ignore[arg-type]  # raises for other types
        raise ValueError(f"signing key {key.key_id} is not a key for {key.algorithm}")
    return material  # type: ignore[return-value]
