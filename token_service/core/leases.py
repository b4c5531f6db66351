"""Leases for work that only one node does at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol


class LeaseStore(Protocol):
    """The holders of leases, and times that nodes note for later nodes.

    Leases expire by the clock of the database.
    """

    async def acquire(self, name: str, holder: str, ttl: float) -> bool:
        """Take or renew a lease for `ttl` seconds. Returns False if another holder has an unexpired lease."""
        ...

    async def release(self, name: str, holder: str) -> None:
        """Give a lease back early. Changes nothing if the holder does not have it."""
        ...

    async def holders(self) -> Mapping[str, str]:
        """Return the holder of each unexpired lease by its name."""
        ...

    async def earliest(self, name: str, time: float) -> float:
        """Note `time` unless an earlier time is noted, and return the noted time. No lease may have this name."""
        ...

    async def note(self, name: str, time: float) -> None:
        """Replace the noted time. No lease may have this name."""
        ...


@dataclass(frozen=True, slots=True)
class Lease:
    """One lease and one of its holders."""

    store: LeaseStore
    name: str
    holder: str

    async def acquire(self, ttl: float) -> bool:
        """Take or renew the lease for `ttl` seconds. Returns False if another holder has it."""
        return await self.store.acquire(self.name, self.holder, ttl)

    async def release(self) -> None:
        """Give the lease back early. Changes nothing if this holder does not have it."""
        await self.store.release(self.name, self.holder)
