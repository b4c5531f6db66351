"""A copy of the newest revocations outside the database: a hint, never the truth."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Protocol

from token_service.core.revocation.log import LogHead
from token_service.tokens.revocation import Revocation


class RevocationMirror(Protocol):
    """The fast copy of the log outside of SQL (Redis): a hint for other nodes and a set for others to query.

    May be lost at any time.

    Calls time out quickly and raise `StoreUnavailableError`.
    """

    async def publish(self, epoch: str, entries: Sequence[Revocation]) -> None:
        """Add entries to the stream and the set. Idempotent."""
        ...

    async def position(self, epoch: str) -> int | None:
        """Up to which sequence of this log the mirror misses nothing; None if it is not known, because it has
        no copy or has lost something.
        """
        ...

    async def rebuild(self, head: LogHead, entries: AsyncIterator[Sequence[Revocation]]) -> None:
        """Fill stream and set anew from the live entries."""
        ...

    def listen(self) -> AsyncIterator[tuple[str, Sequence[Revocation]]]:
        """New entries as other nodes publish them, with the epoch of their log: maybe out of order, maybe
        with gaps. Ends with `StoreUnavailableError`.
        """
        ...
