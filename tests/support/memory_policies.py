"""The policy store in memory, for tests. It shares the state of the other stores in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from tests.support.memory_clients import micro
from token_service.core.events.event import AuditEvent
from token_service.core.overrides.store import StoredOverrides

if TYPE_CHECKING:
    from tests.support.memory_stores import State


class MemoryPolicyStore:
    """Implements `core.overrides.store.PolicyStore`."""

    def __init__(self, state: State) -> None:
        self._state: Final = state

    async def load(self) -> StoredOverrides:
        """See `PolicyStore.load`."""
        return self._state.overrides

    async def change(
        self,
        changes: Mapping[str, str | None],
        *,
        revision: int,
        now: float,
        by: str,
        events: Sequence[AuditEvent] = (),
    ) -> bool:
        """See `PolicyStore.change`."""
        state = self._state
        if state.head.policies_revision != revision:
            return False
        merged = {**state.overrides.values, **changes}
        values = {path: value for path, value in sorted(merged.items()) if value is not None}
        state.overrides = StoredOverrides(revision + 1, values, micro(now), by)
        state.head = replace(state.head, policies_revision=revision + 1)
        state.audit.add(events)
        return True
