"""Snapshots of the live revocations, encoded once and shared by readers that start at about the same time."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from token_service.core.revocation.replica import Replica
from token_service.rpc.stream.messages import encode_block, encode_entry
from token_service.rpc.stream.ring import MAX_BATCH_BYTES
from token_service.tokens.revocation_set import RevocationSet

_PAUSE_EVERY: Final = 16 * 1024
"""Bytes encoded, in about a millisecond, before the event loop may run other work."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The live set, as message bodies.

    Never empty. It has every revocation up to `sequence`, and maybe some later ones.
    """

    of: RevocationSet
    sequence: int
    bodies: tuple[bytes, ...]


class Snapshots:
    """Builds snapshots of a replica, never two concurrently."""

    def __init__(self, replica: Replica) -> None:
        self._replica = replica
        self._latest: Snapshot | None = None
        self._building: asyncio.Task[Snapshot] | None = None

    async def get(self, floor: int) -> Snapshot:
        """Return a snapshot that reaches at least `floor`."""
        latest = self._latest
        if latest is not None and latest.of is self._replica.revocations and latest.sequence >= floor:
            return latest
        if self._building is None:
            self._building = asyncio.create_task(self._build(), name="snapshot")
            self._building.add_done_callback(self._built)
        # A cancelled reader must not cancel the build that others wait for.
        return await asyncio.shield(self._building)

    async def _build(self) -> Snapshot:
        replica = self._replica
        while True:
            # Entries applied during the build may be missing or included. They follow `sequence`, so the reader
            # receives them in any case, and applying an entry twice changes nothing.
            revocations, sequence = replica.revocations, replica.applied
            bodies: list[bytes] = []
            parts: list[bytes] = []
            size = since_pause = 0
            for part in _parts(revocations):
                if size + len(part) > MAX_BATCH_BYTES and parts:
                    bodies.append(b"".join(parts))
                    parts, size = [], 0
                parts.append(part)
                size += len(part)
                since_pause += len(part)
                if since_pause >= _PAUSE_EVERY:
                    since_pause = 0
                    await asyncio.sleep(0)
            if replica.revocations is revocations:
                bodies.append(b"".join(parts))
                return Snapshot(revocations, sequence, tuple(bodies))

    def _built(self, task: asyncio.Task[Snapshot]) -> None:
        self._building = None
        if not task.cancelled() and task.exception() is None:
            self._latest = task.result()

    async def close(self) -> None:
        """Cancel a build in progress."""
        if self._building is not None:
            self._building.cancel()
            await asyncio.wait([self._building])


def _parts(revocations: RevocationSet) -> Iterator[bytes]:
    for block in revocations.blocks():
        yield encode_block(block)
    for entry in revocations.entries():
        yield encode_entry(entry)
