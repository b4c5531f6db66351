"""What the nodes tell each other about their subscribers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class NodeReport:
    """What one node knows of its validators."""

    node_id: str
    connected: int
    """Named validators with an open stream."""
    applied: Sequence[tuple[int, int]]
    """How many of them have confirmed which sequence: (sequence, count), 64 pairs at most, rounded down to
    fit. The sequence -1 stands for those that have not confirmed for long although they were asked to.
    """
    foreign: Sequence[tuple[str, int]]
    """Confirmations, (subscriber_id, sequence), that reached this node although the stream is elsewhere;
    4,096 at most.
    """
    key_revision: int = 0
    """The lowest revision of the key set that any of its validators has confirmed. Without validators it
    means nothing.
    """
    age: float = 0.0
    """Seconds since it was written, by the database's clock. Set by the store."""


class NodeStore(Protocol):
    """Reports of all nodes."""

    async def report(self, report: NodeReport) -> None:
        """Replace this node's report."""
        ...

    async def reports(self, max_age: float) -> Sequence[NodeReport]:
        """Reports not older than `max_age` seconds; older ones are deleted."""
        ...

    async def forget(self, node_id: str) -> None:
        """Delete this node's report."""
        ...

    async def request(self, sequence: int) -> None:
        """Let the head of the log say that somebody waits for confirmations of `sequence`, unless it says so
        of a later one.
        """
        ...
