"""The port for identifiers that may be used once, such as the `jti` of an assertion."""

from __future__ import annotations

from typing import Protocol


class UsedIds(Protocol):
    """Remembers identifiers until they expire."""

    async def use(self, scope: str, identifier: str, expire_time: float, now: float) -> bool:
        """Record the use of an identifier at `now`; return whether it is the first one in its scope.

        Exactly one of any number of concurrent calls returns True, on any node. Times are in seconds since the Unix
        epoch. The identifier may be forgotten when `now` has passed `expire_time` by a minute, which allows for nodes
        with different clocks. Raises `StoreUnavailableError`; the caller must then refuse, because a repeated use
        can't be excluded.
        """
        ...
