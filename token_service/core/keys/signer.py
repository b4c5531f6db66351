"""The port for signing."""

from __future__ import annotations

from typing import Protocol

from token_service.tokens.algorithms import Algorithm


class Signer(Protocol):
    """Signs with one key."""

    key_id: str
    algorithm: Algorithm

    async def sign(self, signing_input: bytes) -> bytes:
        """Return the JWS signature.

        Never blocks the event loop for longer than a thread switch. Raises `SigningUnavailableError`.
        """
        ...
