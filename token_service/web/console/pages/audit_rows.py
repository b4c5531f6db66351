"""The events of the audit trail as the pages show them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final

import msgspec

from token_service.core.events.chain import AuditRow
from token_service.core.events.store import REVOKING

_TARGETS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "session": "session",
        "refresh_token": "session",
        "subject": "subject",
        "client": "client",
        "key": "key",
        "token_id": "token_id",
        "everything": "everything",
    }
)
"""The targets of `audit/explanation` by the kinds of targets in events."""
_decode: Final = msgspec.json.Decoder().decode


class ShownEvent:
    """An event with the values that its page needs."""

    def __init__(self, row: AuditRow) -> None:
        self.row: Final = row
        self.time: Final = row.time / 1_000_000
        """Seconds since the Unix epoch."""

    @property
    def place(self) -> str:
        """The place in the trail, as a verification names it."""
        return f"{self.row.chain_id}:{self.row.position}"

    @property
    def actor(self) -> str:
        """The actor, such as `operator:olivia`."""
        return f"{self.row.actor_kind}:{self.row.actor_name}"

    @property
    def revoked(self) -> tuple[str, str] | None:
        """The target and its id for an explanation; None: the event revoked nothing, or its target was erased."""
        row = self.row
        name = _TARGETS.get(row.target_kind)
        if row.action not in REVOKING or name is None:
            return None
        value = row.session_id if name == "session" else row.target
        return (name, value) if value or name == "everything" else None

    @property
    def details(self) -> Sequence[tuple[str, str]]:
        """Every field of the event that has a value, by its name."""
        row = self.row
        known = (
            ("place", self.place),
            ("category", row.category),
            ("actor", self.actor),
            ("actor_client_id", row.actor_client_id),
            ("actor_proof", row.actor_proof),
            ("on_behalf_of", row.on_behalf_of),
            ("target", " ".join(filter(None, (row.target_kind, row.target)))),
            ("subject", row.subject),
            ("session_id", row.session_id),
            ("client_id", row.client_id),
            ("outcome", row.outcome),
            ("reason", row.reason),
            ("comment", row.comment),
            ("ip_address", row.ip_address),
            ("user_agent", row.user_agent),
            *self._fields(),
        )
        return [(name, value) for name, value in known if value]

    def _fields(self) -> Sequence[tuple[str, str]]:
        """Return the further fields. A row that was changed by hand must not break its page."""
        try:
            fields = _decode(self.row.fields)
        except msgspec.DecodeError:
            return [("fields", self.row.fields)]
        if not isinstance(fields, dict):
            return [("fields", self.row.fields)]
        return [
            (name, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
            for name, value in fields.items()
        ]
