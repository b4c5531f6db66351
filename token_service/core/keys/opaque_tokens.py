"""Refresh and session tokens as they are presented to a node, whose keys may be a moment behind those of
others.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from token_service.core.keys.keyring import Keyring
from token_service.tokens.opaque_token import NewerKeyError, OpaqueToken, parse_opaque_token

LookForKeys = Callable[[float | None], Awaitable[bool]]
"""`look_for_keys(asked)`: whether keys turned up that were not known here. See `Tailer.look_for_keys`."""


async def read_opaque_token(
    text: str, keyring: Keyring, look_for_keys: LookForKeys, *, asked: float | None = None
) -> OpaqueToken:
    """The authentic token in `text`. `asked`: when (monotonic) it came, if it came with others.

    A token of a version newer than all that are known here is invalid only if they are all there are: whoever
    is told that it is throws a session away. But anybody may put any version into a token, so nothing is read
    for one alone: all that came until then share one look at the head of the log, and looks keep their
    distance (see `Tailer.look_for_keys`). A node that can't use the keys as they are stored does not look at
    all.

    Raises `OpaqueTokenError`; `KeysStaleError` if this node can't know; `StoreUnavailableError` if it could
    not look.
    """
    try:
        return parse_opaque_token(text, keyring.mac_keys)
    except NewerKeyError:
        await look_for_keys(asked)
        return parse_opaque_token(text, keyring.mac_keys)
