"""Makes the reports of the audit trail."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from token_service.core.events.store import AuditStore
from token_service.core.reports.trail.administration import Administration
from token_service.core.reports.trail.anomalies import Anomalies
from token_service.core.reports.trail.collector import Collector
from token_service.core.reports.trail.document import Report
from token_service.core.reports.trail.geography import Geography
from token_service.core.reports.trail.keys import Keys
from token_service.core.reports.trail.period import Period
from token_service.core.reports.trail.reading import Show, Take, read, show_nothing
from token_service.core.reports.trail.usage import Usage
from token_service.core.risk.location import Locator

GEOGRAPHY: Final = "geography"
_COLLECTORS: Final[Mapping[str, Callable[[Period], Collector]]] = {
    "usage": Usage,
    "administration": Administration,
    "keys": Keys,
    "anomalies": Anomalies,
    GEOGRAPHY: Geography,
}
KINDS: Final = tuple(_COLLECTORS)


@dataclass(frozen=True, slots=True)
class Locations:
    """A file that names the countries of addresses, with its SHA-256 in hexadecimal digits."""

    locator: Locator
    sha256: str


async def make_report(
    store: AuditStore,
    kind: str,
    period: Period,
    locations: Locations | None = None,
    show: Show = show_nothing,
) -> Report:
    """Read the events of the range, and return a report of one of `KINDS`. `locations` is for `geography`.

    Memory is bounded: see `counting`. Raises `ConfigurationError` without an audit key, `StoreUnavailableError`.
    """
    made: list[Collector] = []

    def start() -> Take:
        collector = (
            Geography(period, locations.locator)
            if kind == GEOGRAPHY and locations is not None
            else _COLLECTORS[kind](period)
        )
        made.append(collector)
        return collector.take

    trail = await read(store, period, start, show)
    return Report(
        kind=kind,
        period=period,
        trail=trail,
        content=made[-1].content(trail),
        locations="" if locations is None else locations.sha256,
    )
