"""The port for identifiers that may be used once, such as the `jti` of an assertion."""

from __future__ import annotations

from typing import Protocol


class UsedIds(Protocol):
    """Remembers identifiers until they expire."""

    async def use(self, scope: str, identifier: str, expire_time: float) -> bool:
        """Record the use of an identifier; return whether it is the first one in its scope.

        Exactly one of any number of concurrent calls returns True, on any node. `expire_time` (seconds since the
        Unix epoch): the identifier may be forgotten after it. Raises `StoreUnavailableError`; the caller must then
        refuse, because a repeated use can't be excluded.
        """
        ...
