"""Makes keys, as rows of the key table: generated where keys are made, encrypted for the database."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Final

from token_service.core.entropy import Entropy
from token_service.core.keys.key_wrap import KeyWrap
from token_service.core.keys.keyring import mac_context, signing_context
from token_service.core.keys.store import SigningKeyState, StoredKeys, StoredMacKey, StoredSigningKey
from token_service.errors import TokenServiceError
from token_service.tokens.algorithms import Algorithm
from token_service.tokens.secret import Secret

_MAC_KEY_BYTES: Final = 32

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key pair just made."""

    key_id: str
    public_key: bytes
    """DER (SubjectPublicKeyInfo); empty for HS256."""
    private_key: Secret | None
    """PKCS#8 DER, or the HMAC key; None: it stays where it was made."""
    provider: str = "local"


GenerateKey = Callable[[Algorithm, int | None], Awaitable[NewKey]]
"""`generate(algorithm, rsa_bits)`; None: the configured size. Raises `SigningUnavailableError` if the keys
live in a module that is away.
"""

DestroyKey = Callable[[str, str], Awaitable[None]]
"""`destroy(key_id, provider)`: delete a private key where it was made, if there is more to it than its row.
Raises `SigningUnavailableError`.
"""


class KeyMaker:
    """Makes rows and encrypts them. It saves none: that is up to whoever asked for them."""

    def __init__(
        self, wrap: KeyWrap, entropy: Entropy, generate: GenerateKey, destroy: DestroyKey | None
    ) -> None:
        self._wrap = wrap
        self._entropy = entropy
        self._generate = generate
        self._destroy = destroy

    @property
    def wrapping_key_id(self) -> str:
        """The id of the key-encryption key that new rows are encrypted with."""
        return self._wrap.key_id

    async def signing_key(
        self, algorithm: Algorithm, now: float, rsa_bits: int | None = None
    ) -> StoredSigningKey:
        """A new signing key, prepared. Raises `SigningUnavailableError`."""
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

    def mac_key(self, version: int, now: float) -> StoredMacKey:
        """A new MAC key."""
        wrapped = self._wrap.wrap(Secret(self._entropy(_MAC_KEY_BYTES)), mac_context(version))
        return StoredMacKey(
            version=version, wrapped=wrapped, wrapping_key_id=self._wrap.key_id, create_time=now
        )

    def rewrapped(self, stored: StoredKeys) -> tuple[list[StoredSigningKey], list[StoredMacKey]]:
        """The rows that are encrypted with another key-encryption key than new ones are, encrypted with that."""
        signing_keys = [
            replace(
                key,
                private_key=self._encrypted_anew(
                    key.private_key, signing_context(key.key_id), key.wrapping_key_id
                ),
                wrapping_key_id=self._wrap.key_id,
            )
            for key in stored.signing_keys
            if key.private_key and key.wrapping_key_id != self._wrap.key_id
        ]
        mac_keys = [
            replace(
                key,
                wrapped=self._encrypted_anew(key.wrapped, mac_context(key.version), key.wrapping_key_id),
                wrapping_key_id=self._wrap.key_id,
            )
            for key in stored.mac_keys
            if key.wrapping_key_id != self._wrap.key_id
        ]
        return signing_keys, mac_keys

    async def discard(self, key: StoredSigningKey) -> None:
        """Delete what there is of a key outside of the table, which does not have it (any more).

        If that fails, it is logged.
        """
        if self._destroy is None:
            return
        try:
            await self._destroy(key.key_id, key.provider)
        except TokenServiceError as error:
            logger.warning(
                "signing key %s stays where it was made; delete it there: %s", key.key_id, error.message
            )

    def _encrypted_anew(self, wrapped: bytes, context: bytes, wrapping_key_id: str) -> bytes:
        return self._wrap.wrap(self._wrap.unwrap(wrapped, context, wrapping_key_id), context)
