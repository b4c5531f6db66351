"""Conditions on events."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from token_service.core.events.event import Action
from token_service.core.events.log import StoredEvent

MAX_EVENT_CONDITIONS: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class EventFilter:
    """Conditions on events; an empty one does not count."""

    actions: Sequence[str] = ()
    categories: Sequence[str] = ()
    subject: str = ""
    session_id: str = ""
    client_id: str = ""

    def matches(self, event: StoredEvent) -> bool:
        """Whether an event meets all conditions. An event without its row meets only those on its type."""
        if self.actions and event.type not in self.actions:
            return False
        if self.categories and _category_of(event.type) not in self.categories:
            return False
        row = event.row
        if row is None:
            return not (self.subject or self.session_id or self.client_id)
        return (
            (not self.subject or self.subject == row.subject)
            and (not self.session_id or self.session_id == row.session_id)
            and (not self.client_id or self.client_id == row.client_id)
        )


def _category_of(type_: str) -> str:
    try:
        return Action(type_).category.value
    except ValueError:  # of a newer node
        return ""
