"""The geography report: where the events came from, by country and by network."""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final

from token_service.core.events.chain import AuditRow
from token_service.core.events.event import Action
from token_service.core.reports.trail.collector import columns, fields_of, text_in
from token_service.core.reports.trail.counting import Counts
from token_service.core.reports.trail.document import Chart, Content, Figure, Table
from token_service.core.reports.trail.period import Period
from token_service.core.reports.trail.reading import TrailRead
from token_service.core.reports.trail.usage import NO_ROUTINE, others
from token_service.core.risk.location import Locator

_COLUMNS: Final = (
    ("events", "Events"),
    ("issued", "Issued"),
    ("refreshed", "Refreshed"),
    ("risk", "Risk verdicts"),
    ("reused", "Reused"),
    ("refused", "Refused"),
)
_COLUMN: Final = {
    Action.TOKEN_ISSUED.value: 1,
    Action.TOKEN_REFRESHED.value: 2,
    Action.RISK_DETECTED.value: 3,
    Action.REFRESH_TOKEN_REUSED.value: 4,
    Action.CLIENT_AUTHENTICATION_FAILED.value: 5,
    Action.PERMISSION_DENIED.value: 5,
    Action.QUOTA_EXCEEDED.value: 5,
}
UNKNOWN: Final = "unknown"
NO_LOCATOR: Final = (
    "Countries are those that verdicts on risk name. A file of networks and countries (--geoip) also names those of the "
    "addresses of other events."
)
_ERASED: Final = "Erased events have no address any more."


class Geography:
    """Collects the geography report."""

    def __init__(self, period: Period, locator: Locator | None = None) -> None:
        """Without a locator, only the countries count that events name."""
        self._locator = locator
        self._countries = Counts(len(_COLUMNS))
        self._networks = Counts(len(_COLUMNS))
        self._placed = 0
        self._without_address = 0

    def take(self, row: AuditRow) -> None:
        """See `Collector.take`."""
        country = text_in(fields_of(row), "country") if row.action == Action.RISK_DETECTED else ""
        address = row.ip_address
        if not address and not country:
            self._without_address += 1
            return
        column = _COLUMN.get(row.action, 0)
        if not country and self._locator is not None:
            located = self._locator.locate(address)
            country = "" if located is None else located.country
        self._placed += bool(country)
        self._count(self._countries, country or UNKNOWN, column)
        if address:
            self._count(self._networks, network_of(address), column)

    @staticmethod
    def _count(counts: Counts, key: str, column: int) -> None:
        counts.add((key,), 0)
        if column:
            counts.add((key,), column)

    def content(self, read: TrailRead) -> Content:
        """See `Collector.content`."""
        countries = self._countries.rows(by_first=True)
        notes = [] if read.routine else [NO_ROUTINE]
        if self._locator is None:
            notes.append(NO_LOCATOR)
        if read.erased:
            notes.append(_ERASED)
        return Content(
            [
                Figure("countries", "Countries", sum(row[0] != UNKNOWN for row in countries)),
                Figure("placed", "Events with a country", self._placed),
                Figure("unknown", "Events of unknown countries", self._countries_unknown()),
                Figure("without_address", "Events without an address", self._without_address),
            ],
            [
                Table(
                    name="by_country",
                    title="Events by country",
                    columns=columns(("country", "Country"), *_COLUMNS),
                    rows=countries,
                    chart=Chart.FIRST_BARS,
                ),
                Table(
                    name="by_network",
                    title="Events by network",
                    columns=columns(("network", "Network"), *_COLUMNS),
                    rows=self._networks.rows(by_first=True),
                    other=others(self._networks, 1),
                    note="Networks have 24 bits of IPv4 addresses, or 48 of IPv6 addresses.",
                    chart=Chart.FIRST_BARS,
                ),
            ],
            notes,
        )

    def _countries_unknown(self) -> int:
        return self._countries.totals()[0] - self._placed


@lru_cache(maxsize=65_536)
def network_of(address: str) -> str:
    """Return the network of an address; `unknown` for a text that is no address."""
    try:
        found = ip_address(address)
    except ValueError:
        return UNKNOWN
    if isinstance(found, IPv6Address):
        if found.ipv4_mapped is None:
            return str(IPv6Network((int(found), 48), strict=False))
        found = found.ipv4_mapped
    return str(IPv4Network((int(found), 24), strict=False))
