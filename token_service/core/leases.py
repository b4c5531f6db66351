"""Work that one node at a time does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


class LeaseStore(Protocol):
    """Which node does what only one should do, and times that nodes note for those that come after them.

    Leases go by the database's own time.
    """

    async def acquire(self, name: str, holder: str, ttl: float) -> bool:
        """Take or renew a lease for `ttl` seconds. False if another holder has it and it has not run out."""
        ...

    async def release(self, name: str, holder: str) -> None:
        """Give a lease back early; nothing happens if the holder does not have it."""
        ...

    async def earliest(self, name: str, time: float) -> float:
        """The time noted under a name that no lease has, after `time` was noted if that is earlier or the
        first one.
        """
        ...

    async def note(self, name: str, time: float) -> None:
        """Note a time under a name that no lease has, whatever was noted before."""
        ...


@dataclass(frozen=True, slots=True)
class Lease:
    """One lease, as one holder sees it."""

    store: LeaseStore
    name: str
    holder: str

    async def acquire(self, ttl: float) -> bool:
        """Take or renew it for `ttl` seconds. False if another holder has it."""
        return await self.store.acquire(self.name, self.holder, ttl)

    async def release(self) -> None:
        """Give it back early; nothing happens if this holder does not have it."""
        await self.store.release(self.name, self.holder)
