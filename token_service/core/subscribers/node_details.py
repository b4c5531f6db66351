"""What a node reports about itself to the other nodes."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple


class RedisState(StrEnum):
    """Whether a node uses Redis."""

    NONE = "none"
    CONNECTED = "connected"
    FAILING = "failing"


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSignals:
    """The signals of the edges and the adapters of a node. Each has a default: nodes of other versions may omit it."""

    not_ready: tuple[str, ...] = ()
    """Why the node is not ready. Empty: it is."""
    redis: RedisState = RedisState.NONE
    database_connections: int = 0
    """The connections to the database in use."""
    database_connections_max: int = 0
    database_waiting: int = 0
    """The calls that wait for a connection to the database."""
    audit_waiting: int = 0
    """The audit events that wait for the database."""
    certificate_expire_time: float | None = None
    """The expiry of the server certificate, in seconds since the Unix epoch. None: the node has no certificate."""
    policy_file_failing: bool = False
    """Whether the policy file is unusable, so that the policies read earlier stay in force."""
    policies_revision: int = 0
    """The revision of the policy overrides in force. 0: none was ever set."""


class Reached(NamedTuple):
    """A revocation that has reached all subscribers of a node."""

    sequence: int
    revoke_time: float
    seconds: float
    """The time from the revocation to the last confirmation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeDetails:
    """A node, as it describes itself. Times are in seconds. Each field has a default, as in `NodeSignals`."""

    host: str = ""
    """The host name and the process id."""
    version: str = ""
    schema_revision: str = ""
    """The schema of the database that it needs. Empty: one before 0017."""
    start_time: float = 0.0
    applied: str = ""
    """The cursor up to which its replica is complete."""
    staleness: float = 0.0
    """The time since its replica was last proven complete, when the report was written."""
    key_revision: int = 0
    """The revision of the key set that it uses."""
    ran: tuple[tuple[str, float], ...] = ()
    """The lease of each job that it has done, and the time of the last completed run."""
    reached: tuple[Reached, ...] = ()
    """The last revocations that have reached all subscribers of the node, the latest last."""
    behind_for: float = 0.0
    """The age of the oldest revocation that a subscriber of the node, other than a silent one, has not confirmed."""
    signals: NodeSignals = NodeSignals()
