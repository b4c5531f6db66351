"""The anomalies of the last hours or days, for operators who look now. The report of a range is `trail.anomalies`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from token_service.core.access.caller import Caller
from token_service.core.access.gate import UseCase, admit
from token_service.core.events.chain import AuditRow
from token_service.core.events.event import Action
from token_service.core.events.store import REVOKING, AuditFilter, AuditStore
from token_service.core.reports.trail.collector import fields_of, text_in
from token_service.errors import InvalidRequestError

MAX_LISTED: Final = 50
"""Events of each kind that are listed."""
MAX_REVOCATIONS: Final = 500
"""Revocations among which those with a cause are looked for."""
_HOUR: Final = 3600
SPANS: Final[Mapping[str, tuple[int, int]]] = MappingProxyType(
    {
        "hour": (_HOUR, 60),
        "day": (24 * _HOUR, 900),
        "week": (7 * 24 * _HOUR, 2 * _HOUR),
        "month": (30 * 24 * _HOUR, 6 * _HOUR),
    }
)
"""The spans before now by name: their seconds, and those of an interval of the chart."""
SERIES: Final[Mapping[str, Sequence[Action]]] = MappingProxyType(
    {
        "risk verdicts": (Action.RISK_DETECTED,),
        "reuse": (Action.REFRESH_TOKEN_REUSED,),
        "races": (Action.REFRESH_TOKEN_RACED,),
        "failed authentication": (Action.CLIENT_AUTHENTICATION_FAILED,),
        "refused calls": (Action.PERMISSION_DENIED, Action.QUOTA_EXCEEDED),
    }
)
"""The counted actions by the names of their lines in the chart."""
_VERDICTS: Final = (Action.RISK_DETECTED.value,)
_USES: Final = (Action.REFRESH_TOKEN_REUSED.value, Action.REFRESH_TOKEN_RACED.value)
_REFUSALS: Final = (
    Action.CLIENT_AUTHENTICATION_FAILED.value,
    Action.PERMISSION_DENIED.value,
    Action.QUOTA_EXCEEDED.value,
)


@dataclass(frozen=True, slots=True)
class Numbers:
    """Events by interval. `times` are the starts of the intervals in seconds since the Unix epoch."""

    times: Sequence[int]
    series: Mapping[str, Sequence[int]]


@dataclass(frozen=True, slots=True)
class Recent:
    """The anomalies of a span. Each list has the newest first."""

    verdicts: Sequence[AuditRow]
    uses: Sequence[AuditRow]
    """Reuse and races of refresh tokens."""
    refusals: Sequence[AuditRow]
    revocations: Sequence[AuditRow]
    """Automatic revocations among the newest `MAX_REVOCATIONS`."""
    causes: Mapping[str, int]
    """Their numbers by cause, the highest first."""
    numbers: Numbers


class RecentAnomalies:
    """Reads the anomalies of a span before now. Each method raises `PermissionDeniedError` and `StoreUnavailableError`."""

    def __init__(self, store: AuditStore) -> None:
        self._store = store

    async def get(self, caller: Caller, span: str, now: float) -> Recent:
        """Return the anomalies of one of `SPANS`. Raises `InvalidRequestError`."""
        numbers = await self.numbers(caller, span, now)
        since = numbers.times[0]
        revocations = [
            row
            for row in await self._newest(REVOKING, since, MAX_REVOCATIONS)
            if text_in(fields_of(row), "cause")
        ]
        causes: dict[str, int] = {}
        for row in revocations:
            cause = text_in(fields_of(row), "cause")
            causes[cause] = causes.get(cause, 0) + 1
        return Recent(
            verdicts=await self._newest(_VERDICTS, since),
            uses=await self._newest(_USES, since),
            refusals=await self._newest(_REFUSALS, since),
            revocations=revocations[:MAX_LISTED],
            causes=dict(sorted(causes.items(), key=lambda item: (-item[1], item[0]))),
            numbers=numbers,
        )

    async def numbers(self, caller: Caller, span: str, now: float) -> Numbers:
        """Return the recorded events of a span by interval. Raises `InvalidRequestError`."""
        admit(caller, UseCase.LIST_AUDIT_EVENTS)
        if span not in SPANS:
            raise InvalidRequestError.of("span", f"is none of {', '.join(SPANS)}")
        length, width = SPANS[span]
        last = int(now) // width
        intervals = range(last - length // width + 1, last + 1)
        found = await self._store.histogram(
            [action.value for actions in SERIES.values() for action in actions],
            intervals[0] * width * 1_000_000,
            (last + 1) * width * 1_000_000,
            width * 1_000_000,
        )
        return Numbers(
            [number * width for number in intervals],
            {
                name: [
                    sum(found.get((action.value, number), 0) for action in actions) for number in intervals
                ]
                for name, actions in SERIES.items()
            },
        )

    async def _newest(
        self, actions: Sequence[str], since: float, limit: int = MAX_LISTED
    ) -> Sequence[AuditRow]:
        return await self._store.list(AuditFilter(actions=actions, since=since), limit=limit, after=None)
