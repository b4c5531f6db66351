"""Seals values with the MAC keys of the service. Keys of this node may briefly be behind other nodes."""

from __future__ import annotations

from typing import Final

from token_service.core.entropy import Entropy
from token_service.core.keys.keyring import Keyring
from token_service.core.keys.opaque_tokens import LookForKeys
from token_service.tokens.opaque_token import NewerKeyError
from token_service.tokens.sealed import NONCE_BYTES, open_sealed, seal


class Sealer:
    """Seals and opens values for one purpose."""

    def __init__(self, keyring: Keyring, look_for_keys: LookForKeys, entropy: Entropy, purpose: str) -> None:
        self._keyring: Final = keyring
        self._look_for_keys: Final = look_for_keys
        self._entropy: Final = entropy
        self._purpose: Final = purpose

    def seal(self, payload: bytes) -> str:
        """Return a sealed payload. Raises `ValueError` if it is too long."""
        return seal(self._keyring.mac_keys, self._purpose, payload, self._entropy(NONCE_BYTES))

    async def open(self, text: str) -> bytes:
        """Return the payload of a sealed value. See `OpaqueTokens.read` for keys that this node lacks.

        Raises `OpaqueTokenError`, `KeysStaleError`, `StoreUnavailableError`.
        """
        try:
            return open_sealed(self._keyring.mac_keys, self._purpose, text)
        except NewerKeyError:
            await self._look_for_keys(None)
            return open_sealed(self._keyring.mac_keys, self._purpose, text)
