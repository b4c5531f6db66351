"""A copy of the newest revocations outside the database: a hint, never authoritative."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Protocol

from token_service.core.revocation.log import LogHead
from token_service.tokens.revocation import Revocation


class RevocationMirror(Protocol):
    """The fast copy of the log outside of SQL (Redis): a hint for other nodes and a set for other programs.

    The mirror may be lost at any time. Calls time out quickly and raise `StoreUnavailableError`.
    """

    @property
    def server(self) -> str:
        """The server in use, for operators; empty: none is known."""
        ...

    async def publish(self, epoch: str, entries: Sequence[Revocation]) -> None:
        """Add entries to the stream and the set. Idempotent."""
        ...

    async def position(self, epoch: str) -> int | None:
        """Return the sequence up to which the mirror has every entry of this log.

        None if the mirror has no copy or has lost entries.
        """
        ...

    async def rebuild(self, head: LogHead, entries: AsyncIterator[Sequence[Revocation]]) -> None:
        """Replace the stream and the set by the live entries."""
        ...

    def listen(self) -> AsyncIterator[tuple[str, Sequence[Revocation]]]:
        """Yield entries that other nodes publish, with the epoch of their log.

        Entries may be out of order and have gaps. Ends with `StoreUnavailableError`.
        """
        ...
