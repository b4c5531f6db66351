"""Reads refresh and session tokens that callers present. MAC keys of this node may briefly be behind other nodes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from token_service.core.keys.keyring import Keyring
from token_service.tokens.opaque_token import NewerKeyError, OpaqueToken, parse_opaque_token

LookForKeys = Callable[[float | None], Awaitable[bool]]
"""`look_for_keys(asked)` tells whether a look found new keys. See `KeyLookups.look`."""


class OpaqueTokens:
    """Reads opaque tokens."""

    def __init__(self, keyring: Keyring, look_for_keys: LookForKeys) -> None:
        self._keyring = keyring
        self.look_for_keys = look_for_keys

    async def read(self, text: str, *, asked: float | None = None) -> OpaqueToken:
        """Return the authentic token in `text`. `asked`: the monotonic time of arrival of its batch.

        A token with a newer key version than this node knows is invalid only if this node knows all keys, because
        a client discards its session after that response. A forged token can name any version, so all tokens that
        arrive before a look share it (see `KeyLookups.look`). A node that can't use the stored keys does not look.

        Raises `OpaqueTokenError`; `KeysStaleError` if this node can't decide; `StoreUnavailableError` if the look
        failed.
        """
        try:
            return parse_opaque_token(text, self._keyring.mac_keys)
        except NewerKeyError:
            await self.look_for_keys(asked)
            return parse_opaque_token(text, self._keyring.mac_keys)
