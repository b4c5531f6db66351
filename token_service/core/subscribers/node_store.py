"""Reports that nodes exchange about their subscribers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class NodeReport:
    """One node's report about its subscribers."""

    node_id: str
    connected: int
    """Named subscribers with an open stream."""
    applied: Sequence[tuple[int, int]]
    """Subscribers per confirmed sequence: (sequence, count), 64 pairs at most, rounded down to fit.

    The sequence -1 stands for silent subscribers: they were asked to confirm and have not done so for a long time.
    """
    foreign: Sequence[tuple[str, int]]
    """Confirmations, (subscriber_id, sequence), of subscribers whose stream is on another node; 4,096 at most."""
    key_revision: int = 0
    """The lowest revision of the key set that any subscriber of the node has confirmed.

    Meaningless without subscribers.
    """
    age: float = 0.0
    """Seconds since the report was written, by the database's clock. Set by the store."""
    epoch: str | None = None
    """The log that the sequences belong to; None: a node of release 0.1.0 wrote the report."""


class NodeStore(Protocol):
    """Reports of all nodes."""

    async def report(self, report: NodeReport) -> None:
        """Replace this node's report."""
        ...

    async def reports(self, max_age: float) -> Sequence[NodeReport]:
        """Return the reports that are at most `max_age` seconds old; delete older ones."""
        ...

    async def forget(self, node_id: str) -> None:
        """Delete this node's report."""
        ...

    async def request(self, sequence: int) -> None:
        """Note in the head of the log that a call waits for confirmations of `sequence`.

        A later sequence in the head stays unchanged.
        """
        ...
