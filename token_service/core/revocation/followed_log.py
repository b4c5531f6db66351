"""The revocation log as a node follows it."""

from __future__ import annotations

from dataclasses import dataclass

from token_service.core.revocation.log import RevocationLog
from token_service.core.revocation.read_index import ReadIndex
from token_service.core.revocation.replica import Replica
from token_service.core.revocation.tailer import Tailer


@dataclass(frozen=True, slots=True)
class FollowedLog:
    """The log, this node's copy of it, and what keeps the copy up to date."""

    log: RevocationLog
    replica: Replica
    read_index: ReadIndex
    tailer: Tailer
