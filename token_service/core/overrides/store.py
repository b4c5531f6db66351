"""The policy store: the port for the overrides of the policies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from token_service.core.events.event import AuditEvent


@dataclass(frozen=True, slots=True)
class StoredOverrides:
    """The overrides in one snapshot."""

    revision: int = 0
    """Grows by one with every change; 0: there was none."""
    values: Mapping[str, str] = field(default_factory=dict)
    """Values in the notation of the policy file, by `<classification>.<setting>`."""
    update_time: float | None = None
    """Time of the last change; None: there was none."""
    updated_by: str = ""
    """The caller that made the last change."""


class PolicyStore(Protocol):
    """The overrides of the policies, shared by all nodes.

    Every change raises their revision, which `LogHead.policies_revision` shows, in the same transaction. Changes commit in
    the order of their revisions.
    """

    async def load(self) -> StoredOverrides:
        """Return the overrides."""
        ...

    async def change(
        self,
        changes: Mapping[str, str | None],
        *,
        revision: int,
        now: float,
        by: str,
        events: Sequence[AuditEvent] = (),
    ) -> bool:
        """Set overrides, reset those whose value is None, and write the audit events in the same transaction.

        The overrides get the revision `revision + 1`. Changes nothing and returns False if they do not have `revision`.
        """
        ...
