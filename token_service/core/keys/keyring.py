"""The keyring: this node's keys that sign, that verify, and that make opaque tokens.

All nodes share the key store. A keyring is a node's copy of it, replaced as a whole when the store's revision
changes. If the new state can't be used (the table is damaged, a key can't be decrypted), the last good copy
stays. The key set is empty only while every key is revoked. `KeyManager` and `KeyRotation` change keys.
"""

from __future__ import annotations

import logging
from base64 import b64encode
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from cryptography.hazmat.primitives.serialization import load_der_public_key

from token_service.core.keys.key_wrap import KeyWrap
from token_service.core.keys.lifecycle import signing_key
from token_service.core.keys.signer import Signer
from token_service.core.keys.store import KeyStore, SigningKeyState, StoredKeys, StoredSigningKey
from token_service.errors import (
    ConfigurationError,
    KeyNotFoundError,
    KeyStateError,
    SigningUnavailableError,
)
from token_service.tokens.algorithms import Algorithm, VerificationKeyMaterial
from token_service.tokens.jwk import public_jwk
from token_service.tokens.key_set import KeySet, VerificationKey
from token_service.tokens.opaque_token import MacKeys
from token_service.tokens.secret import Secret

OpenSigner = Callable[[StoredSigningKey, Secret | None], Signer]
"""`open_signer(key, private_key)`; None: the private key is in an HSM. Raises `ConfigurationError`."""

_LOCAL: Final = "local"
"""The provider of keys whose private key is in the database."""
_PROBE: Final = b"token-service: can you sign?"
"""A signing input that no token begins with."""
_MAY_SIGN: Final = (SigningKeyState.PREPARED, SigningKeyState.ACTIVE)

logger = logging.getLogger(__name__)


class _ElsewhereSigner:
    """Remembers whether the last signature by a key outside of this process failed."""

    __slots__ = ("_signer", "algorithm", "failed", "key_id")

    def __init__(self, signer: Signer) -> None:
        self._signer = signer
        self.key_id = signer.key_id
        self.algorithm = signer.algorithm
        self.failed = False

    async def sign(self, signing_input: bytes) -> bytes:
        """See `Signer.sign`."""
        try:
            signature = await self._signer.sign(signing_input)
        except SigningUnavailableError:
            self.failed = True
            raise
        self.failed = False
        return signature


@dataclass(frozen=True, slots=True)
class _Copy:
    stored: StoredKeys
    key_set: KeySet
    jwks: tuple[dict[str, Any], ...]
    mac_keys: MacKeys
    signer: Signer | None


class Keyring:
    """This node's copy of the keys."""

    def __init__(
        self, store: KeyStore, wrap: KeyWrap, algorithm: Algorithm, *, open_signer: OpenSigner
    ) -> None:
        """`algorithm` is preferred for signing if it has an active key."""
        self._store = store
        self._wrap = wrap
        self._algorithm = algorithm
        self._open_signer = open_signer
        self._copy: _Copy | None = None
        self.failure: ConfigurationError | None = None
        """Why the stored keys can't be used; None: they can. Logged when it first occurs."""
        self._listeners: list[Callable[[], None]] = []

    def on_change(self, listener: Callable[[], None]) -> None:
        """Call `listener` whenever the keys have changed."""
        self._listeners.append(listener)

    @property
    def revision(self) -> int:
        """The revision of the copy; -1 before the first load."""
        return self._copy.stored.revision if self._copy is not None else -1

    def signer(self) -> Signer:
        """Return the key that signs now. Raises `SigningUnavailableError`."""
        signer = self._loaded().signer
        if signer is None:
            raise SigningUnavailableError(retry_after=1.0)
        return signer

    async def ready(self) -> None:
        """Raise `SigningUnavailableError` if a token can't be signed now.

        A call checks this before it uses up, for example, a refresh token. If the last signature by an HSM
        failed, sign a probe with it.
        """
        signer = self.signer()
        if isinstance(signer, _ElsewhereSigner) and signer.failed:
            await signer.sign(_PROBE)

    @property
    def key_set(self) -> KeySet:
        """The keys that verify tokens here, including unpublished keys."""
        return self._loaded().key_set

    @property
    def jwks(self) -> tuple[dict[str, Any], ...]:
        """The public keys to publish (RFC 7517)."""
        return self._loaded().jwks

    @property
    def mac_keys(self) -> MacKeys:
        """The keys of opaque tokens."""
        keys = self._loaded().mac_keys
        return keys if self.failure is None else replace(keys, behind=True)

    def signing_keys(self) -> Sequence[StoredSigningKey]:
        """Return all signing keys, newest first."""
        keys = self._loaded().stored.signing_keys
        return sorted(keys, key=lambda key: (key.create_time, key.key_id), reverse=True)

    def get(self, key_id: str) -> StoredSigningKey:
        """Return one signing key. Raises `KeyNotFoundError`."""
        for key in self._loaded().stored.signing_keys:
            if key.key_id == key_id:
                return key
        raise KeyNotFoundError

    def open_signer(self, key_id: str) -> Signer:
        """Return a signer with a prepared or active key, for data other than tokens.

        Raises `KeyNotFoundError`, `KeyStateError` and `ConfigurationError`.
        """
        key = self.get(key_id)
        if key.state not in _MAY_SIGN:
            raise KeyStateError(f"the key is {key.state.value}")
        return self._open_signer(key, self._private(key))

    async def refresh(self, *, revision: int | None = None) -> None:
        """Load the keys, unless the copy has `revision` already and no failure is known.

        Raises `StoreUnavailableError`, and `ConfigurationError` if the stored keys can't be used; the copy then
        stays unchanged.
        """
        if revision is None or revision != self.revision or self.failure is not None:
            self.adopt(await self._load())

    async def start_over(self) -> None:
        """Load the keys of another database or of a restored one, and ignore the revision of the copy.

        Raises the errors of `refresh`.
        """
        self.adopt(await self._load(), even_if_older=True)

    def adopt(self, stored: StoredKeys, *, even_if_older: bool = False) -> None:
        """Use keys that were just loaded, unless the copy is newer; `even_if_older`: even then.

        Raises `ConfigurationError` like `refresh`; it is logged once.
        """
        copy = self._copy
        if copy is not None and stored.revision < copy.stored.revision and not even_if_older:
            return  # overtaken by a later load
        if copy is None or stored != copy.stored:
            try:
                self._copy = self._open(stored)
            except ConfigurationError as error:
                self._note(error)
                raise
        if self.failure is not None and copy is not None:
            logger.info("the keys can be used again")
        self.failure = None
        if self._copy is not copy:
            for listener in self._listeners:
                listener()

    async def _load(self) -> StoredKeys:
        try:
            return await self._store.load()
        except ConfigurationError as error:
            self._note(error)
            raise

    def _note(self, error: ConfigurationError) -> None:
        """Record that the stored keys can't be used; log each new reason."""
        if self._copy is not None and (self.failure is None or self.failure.message != error.message):
            logger.error("the stored keys can't be used, the last good ones stay in use: %s", error.message)
        self.failure = error

    def _open(self, stored: StoredKeys) -> _Copy:
        require_keys(stored)
        for key in stored.signing_keys:
            if key.state in _MAY_SIGN:
                self._private(key)  # find a damaged key now, before it must sign
        materials = [
            (key, self._material(key))
            for key in stored.signing_keys
            if key.state is not SigningKeyState.REVOKED
        ]
        key_set = KeySet(
            (VerificationKey.of(key.key_id, key.algorithm, material) for key, material in materials),
            stored.revision,
        )
        jwks = tuple(_jwk(key, material) for key, material in materials if not isinstance(material, Secret))
        versions = {
            key.version: self._wrap.unwrap(key.wrapped, mac_context(key.version), key.wrapping_key_id)
            for key in stored.mac_keys
        }
        return _Copy(stored, key_set, jwks, MacKeys(versions, _mac_version(stored)), self._signer(stored))

    def _signer(self, stored: StoredKeys) -> Signer | None:
        key = signing_key(stored.signing_keys, self._algorithm)
        if key is None:
            return None
        known = self._copy.signer if self._copy is not None else None
        if known is not None and known.key_id == key.key_id:
            return known
        signer = self._open_signer(key, self._private(key))
        return signer if key.provider == _LOCAL else _ElsewhereSigner(signer)

    def _material(self, key: StoredSigningKey) -> VerificationKeyMaterial:
        if key.algorithm is Algorithm.HS256:
            secret = self._private(key)
            assert secret is not None
            return secret
        try:
            material = load_der_public_key(key.public_key)
            jwk = public_jwk(material, key.algorithm)  # type: ignore[arg-type]  # raises for other types
            if jwk["kid"] != key.key_id:
                raise ValueError("another key")
        except ValueError as error:
            raise ConfigurationError(
                f"the public key of signing key {key.key_id} in the database is damaged: {error}"
            ) from None
        return material  # type: ignore[return-value]

    def _private(self, key: StoredSigningKey) -> Secret | None:
        if not key.private_key:
            if key.provider == _LOCAL:
                raise ConfigurationError(
                    f"the private key of signing key {key.key_id} is missing from the database"
                )
            return None
        return self._wrap.unwrap(key.private_key, signing_context(key.key_id), key.wrapping_key_id)

    def _loaded(self) -> _Copy:
        if self._copy is None:
            raise SigningUnavailableError("the keys are not loaded yet", retry_after=1.0)
        return self._copy


def require_keys(stored: StoredKeys) -> None:
    """Raise `ConfigurationError` unless keys of both kinds exist: after the first start they always do."""
    if stored.revision == 0 and not stored.signing_keys and not stored.mac_keys:
        raise ConfigurationError("the database has no keys yet; the first start of the service makes them")
    for name, keys in (("signing keys", stored.signing_keys), ("MAC keys", stored.mac_keys)):
        if not keys:
            raise ConfigurationError(
                f"the database is damaged: it has no {name}; restore their table from a backup"
            )


def signing_context(key_id: str) -> bytes:
    """Return the context that a wrapped signing key is bound to."""
    return b"signing-key:" + key_id.encode()


def mac_context(version: int) -> bytes:
    """Return the context that a wrapped MAC key is bound to."""
    return b"mac-key:%d" % version


def _mac_version(stored: StoredKeys) -> int:
    """Return the version of new opaque tokens: the second highest.

    The highest version is a spare, so every node knows a version long before tokens are made with it.
    """
    versions = sorted(key.version for key in stored.mac_keys)
    return versions[max(0, len(versions) - 2)]


def _jwk(key: StoredSigningKey, material: VerificationKeyMaterial) -> dict[str, Any]:
    jwk = public_jwk(material, key.algorithm)
    if key.certificates:
        jwk["x5c"] = [b64encode(certificate).decode() for certificate in key.certificates]
    return jwk
