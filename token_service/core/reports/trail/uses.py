"""Collects the recorded uses of sessions, for a replay through rules about risk."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from token_service.core.events.chain import AuditRow
from token_service.core.events.event import Action, Outcome
from token_service.core.risk.observation import Use
from token_service.core.risk.replay import RecordedUse
from token_service.errors import InvalidRequestError

MAX_USES: Final = 2_000_000
"""Uses that a replay keeps in memory, about 400 bytes each."""
_USES: Final = {Action.TOKEN_ISSUED.value: Use.ISSUE, Action.TOKEN_REFRESHED.value: Use.REFRESH}
_decode: Final = msgspec.json.Decoder(dict[str, Any]).decode


class UseCollector:
    """Takes the rows of a time range. The events of one chain come in order, the chains one after the other."""

    def __init__(self) -> None:
        self._uses: list[RecordedUse] = []
        self.recorded: Counter[str] = Counter()
        """The verdicts that the service recorded in the range, by action."""

    def take(self, row: AuditRow) -> None:
        """Take one event. Raises `InvalidRequestError` beyond `MAX_USES`."""
        use = _USES.get(row.action)
        if use is None and row.action == Action.RISK_DETECTED.value:
            self.recorded[_action_of(row)] += 1
        is_reuse = row.action == Action.REFRESH_TOKEN_REUSED.value
        if (use is None and not is_reuse) or (use is not None and row.outcome != Outcome.SUCCESS.value):
            return
        if len(self._uses) >= MAX_USES:
            raise InvalidRequestError.of(
                "from", f"has more than {MAX_USES:,} uses up to `to`; choose a shorter range"
            )
        self._uses.append(
            RecordedUse(
                time=row.time / 1_000_000,
                use=use or Use.REFRESH,
                session_id=row.session_id,
                subject=row.subject,
                client_id=row.client_id,
                address=row.ip_address,
                user_agent=row.user_agent,
                is_reuse=is_reuse,
            )
        )

    def sorted(self) -> Sequence[RecordedUse]:
        """Return the uses in the order of their times."""
        return sorted(self._uses, key=lambda use: use.time)


def _action_of(row: AuditRow) -> str:
    try:
        fields: Mapping[str, Any] = _decode(row.fields)
    except msgspec.MsgspecError:
        return ""
    return str(fields.get("action", ""))
