"""Reports that nodes exchange about their subscribers and themselves."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from token_service.core.subscribers.node_details import NodeDetails


@dataclass(frozen=True, slots=True)
class NodeReport:
    """One node's report about its subscribers and itself."""

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
    details: NodeDetails | None = None
    """The node itself; None: a node of an earlier version wrote the report."""
    wants_subscribers: bool = False
    """Whether the node asks all nodes for the lists of their subscribers."""
    list_age: float | None = None
    """Seconds since the node's list of subscribers was written; None: there is no list. Set by the store."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedSubscriber:
    """A subscriber in the list of its node. Times are in seconds, up to the time of the list."""

    subscriber: str
    """The registered name, unique at a node."""
    name: str
    """The name that the subscriber gave."""
    caller: str
    """The name of the caller that the subscriber belongs to."""
    sequence: int
    """The confirmed sequence. 0: none yet."""
    connected_for: float
    confirmation_age: float | None = None
    """The time since the last confirmation. None: the subscriber has confirmed nothing."""
    is_silent: bool = False
    key_revision: int = 0
    """The confirmed revision of the key set. 0: unknown."""
    client_version: str = ""
    validated: int = 0
    refusals: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SubscriberList:
    """The subscribers of one node, the ones furthest behind first."""

    epoch: str
    """The log that the sequences belong to."""
    subscribers: Sequence[ListedSubscriber]
    age: float = 0.0
    """Seconds since the list was written, by the database's clock. Set by the store."""


class NodeStore(Protocol):
    """Reports of all nodes."""

    async def report(self, report: NodeReport) -> None:
        """Replace this node's report."""
        ...

    async def reports(self, max_age: float, *, purge: bool = True) -> Sequence[NodeReport]:
        """Return the reports that are at most `max_age` seconds old; delete older ones if `purge` is set."""
        ...

    async def forget(self, node_id: str) -> None:
        """Delete this node's report and its list of subscribers."""
        ...

    async def put_list(self, node_id: str, subscribers: SubscriberList | None) -> None:
        """Store the list of this node's subscribers beside its report; None: delete the list.

        Changes nothing if the node has no report.
        """
        ...

    async def lists(self, node_ids: Collection[str]) -> Mapping[str, SubscriberList]:
        """Return the lists of subscribers of these nodes by node id. Nodes without a list are left out."""
        ...

    async def request(self, sequence: int) -> None:
        """Note in the head of the log that a call waits for confirmations of `sequence`.

        A later sequence in the head stays unchanged.
        """
        ...
