"""What the client library needs of a token source: `TokenSource`, `IssuingTokenSource`, their twins for threads, or a
source of the user's own.
"""

from __future__ import annotations

from inspect import iscoroutinefunction
from typing import Protocol, TypeGuard

from token_service.client._internal.token_store import Tokens


class AccessTokens(Protocol):
    """A source of access tokens for one event loop."""

    async def token(self) -> str:
        """Return an access token that is valid for some seconds more. Raises `ServiceError`."""
        ...

    async def tokens(self) -> Tokens:
        """Return the access token with its times. Raises `ServiceError`."""
        ...

    def invalidate(self, access_token: str) -> None:
        """Stop returning this access token, because a server refused it."""
        ...

    async def close(self) -> None:
        """End the work in progress."""
        ...


class SyncAccessTokens(Protocol):
    """A source of access tokens for threads."""

    def token(self) -> str:
        """Return an access token that is valid for some seconds more. Raises `ServiceError`."""
        ...

    def tokens(self) -> Tokens:
        """Return the access token with its times. Raises `ServiceError`."""
        ...

    def invalidate(self, access_token: str) -> None:
        """Stop returning this access token, because a server refused it."""
        ...

    def close(self) -> None:
        """End the work in progress."""
        ...


def is_for_event_loop(source: AccessTokens | SyncAccessTokens) -> TypeGuard[AccessTokens]:
    """Tell whether `token` of a source is a coroutine function."""
    return iscoroutinefunction(source.token)


def is_for_threads(source: AccessTokens | SyncAccessTokens) -> TypeGuard[SyncAccessTokens]:
    """Tell whether `token` of a source is a plain function."""
    return not iscoroutinefunction(source.token)
