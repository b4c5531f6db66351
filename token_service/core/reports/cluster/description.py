"""Describes this node for its reports to the other nodes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from token_service.clock import Clock
from token_service.core.keys.keyring import Keyring
from token_service.core.revocation.propagation import Propagation
from token_service.core.revocation.replica import Replica
from token_service.core.revocation.tailer import Tailer
from token_service.core.subscribers.node_details import NodeDetails, NodeSignals


@dataclass(frozen=True, slots=True)
class Identity:
    """The place and the version of a node, and the revision of the database schema that it needs."""

    host: str = ""
    """The host name and the process id."""
    version: str = ""
    schema_revision: str = ""


class Description:
    """The present state of this node."""

    def __init__(
        self,
        identity: Identity,
        replica: Replica,
        tailer: Tailer,
        keyring: Keyring,
        clock: Clock,
        ran: Callable[[], Mapping[str, float]],
        propagation: Propagation,
    ) -> None:
        """`ran` returns the time of the last completed run of each job that this node has done, by its lease."""
        self._identity = identity
        self._replica = replica
        self._tailer = tailer
        self._keyring = keyring
        self._clock = clock
        self._ran = ran
        self._propagation = propagation
        self._start_time = clock.now()
        self.signals: Callable[[], NodeSignals] = NodeSignals
        """Returns the signals of the edges and the adapters. The node sets it."""

    def details(self) -> NodeDetails:
        """Describe this node now."""
        return NodeDetails(
            host=self._identity.host,
            version=self._identity.version,
            schema_revision=self._identity.schema_revision,
            start_time=self._start_time,
            applied=str(self._replica.cursor) if self._replica.epoch else "",
            staleness=max(0.0, self._tailer.staleness) if self._replica.epoch else 0.0,
            key_revision=self._keyring.revision,
            reached=self._propagation.measured,
            behind_for=self._propagation.behind_for,
            ran=tuple(sorted(self._ran().items())),
            signals=self.signals(),
        )
