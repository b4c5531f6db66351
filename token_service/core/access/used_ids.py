"""The port for identifiers that may be used once, such as the `jti` of an assertion."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from token_service.core.events.event import AuditEvent


class UsedIds(Protocol):
    """Remembers identifiers until they expire."""

    async def use(
        self,
        scope: str,
        identifier: str,
        expire_time: float,
        now: float,
        events: Sequence[AuditEvent] = (),
    ) -> bool:
        """Record the use of an identifier at `now`; return whether it is the first one in its scope.

        Exactly one of any number of concurrent calls returns True, on any node. Times are in seconds since the Unix
        epoch. The identifier may be forgotten when `now` has passed `expire_time` by a minute, which allows for nodes
        with different clocks. The rows of the audit events are written in the same transaction, if the use is the first. Raises `StoreUnavailableError`; the caller must then refuse, because a repeated use
        can't be excluded.
        """
        ...

    async def was_used(self, scope: str, identifier: str) -> bool:
        """Tell whether the use of an identifier is recorded. Raises `StoreUnavailableError`."""
        ...
