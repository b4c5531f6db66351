"""What the subscribers' own validators decided: verified tokens and refusals, as the subscribers report them.

The counts are statistics, and nothing is decided by them. They are bounded, never refused: a confirmation must not fail
for them, because it proves freshness.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from token_service.clock import Clock
from token_service.errors import InvalidReason

MAX_REFUSALS: Final = 32
"""Reasons of a report that are read. The counts of further ones are added to `OTHER`."""
MAX_COUNT: Final = 1_000_000_000
MAX_REPORTING: Final = 10_000
"""Subscribers whose counts a node keeps."""
MAX_REPORTING_PER_CALLER: Final = 2500
"""Subscribers of one caller whose counts a node keeps, equal to the default limit of its streams."""
OTHER: Final = "OTHER"
_KEPT: Final = 3600.0
"""Seconds after the last report for which the counts of a subscriber are kept. A stream ends sooner and is resumed."""
_REASONS: Final = frozenset(reason.value for reason in InvalidReason)


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidationReport:
    """The decisions of a validator since its last report, as it sent them."""

    client_version: str = ""
    validated: int = 0
    refusals: Iterable[tuple[str, int]] = ()


@dataclass(slots=True)
class Validations:
    """The reports of one subscriber, added up since its first report to this node."""

    caller: str
    client_version: str = ""
    validated: int = 0
    refusals: Counter[str] = field(default_factory=Counter)
    """Refused tokens by `InvalidReason`, or `OTHER`."""
    reported_at: float = 0.0


class ValidationReports:
    """The reports of subscribers that confirmed at this node. Belongs to one event loop, and does no I/O."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._of: dict[str, Validations] = {}
        self._names_of: Counter[str] = Counter()
        self._listeners: list[Callable[[int, Mapping[str, int]], None]] = []
        self._of_refusals: list[Callable[[str, Mapping[str, int]], None]] = []

    def on_report(self, listener: Callable[[int, Mapping[str, int]], None]) -> None:
        """Call `listener` with the verified tokens and the refusals of each report that has any."""
        self._listeners.append(listener)

    def on_refusals(self, listener: Callable[[str, Mapping[str, int]], None]) -> None:
        """Call `listener` with the subscriber, or an empty name, and the refusals of each report that has any."""
        self._of_refusals.append(listener)

    def add(self, subscriber: str, caller: str, report: ValidationReport) -> None:
        """Add a report. `subscriber` is a registered name, or empty: then only the listeners hear of the report."""
        validated, refusals = _bounded(report.validated), _by_reason(report.refusals)
        if validated or refusals:
            for listener in self._listeners:
                listener(validated, refusals)
        if refusals:
            for told in self._of_refusals:
                told(subscriber, refusals)
        if not subscriber:
            return
        total = self._of.get(subscriber)
        if total is None:
            # A validator of an older release reports nothing, and must not take the place of one that does.
            if not (report.client_version or validated or refusals) or not self._may_keep(caller):
                return
            total = self._of[subscriber] = Validations(caller)
            self._names_of[caller] += 1
        if report.client_version:
            total.client_version = report.client_version
        total.validated += validated
        total.refusals.update(refusals)
        total.reported_at = self._clock.monotonic()

    def of(self, subscriber: str) -> Validations | None:
        """Return the counts of a subscriber, or None if this node has no report of it from the last hour."""
        total = self._of.get(subscriber)
        return total if total is not None and self._is_kept(total) else None

    def all(self) -> Mapping[str, Validations]:
        """Return the counts of all subscribers that reported to this node within the last hour, by name."""
        self._forget()
        return self._of

    def _may_keep(self, caller: str) -> bool:
        if len(self._of) >= MAX_REPORTING or self._names_of[caller] >= MAX_REPORTING_PER_CALLER:
            self._forget()
        return len(self._of) < MAX_REPORTING and self._names_of[caller] < MAX_REPORTING_PER_CALLER

    def _forget(self) -> None:
        self._of = {name: total for name, total in self._of.items() if self._is_kept(total)}
        self._names_of = Counter(total.caller for total in self._of.values())

    def _is_kept(self, total: Validations) -> bool:
        return self._clock.monotonic() - total.reported_at < _KEPT


def _bounded(count: int) -> int:
    return min(max(count, 0), MAX_COUNT)


def _by_reason(refusals: Iterable[tuple[str, int]]) -> Mapping[str, int]:
    """Add counts up by reason. The result has no other keys than the known reasons and `OTHER`."""
    found: Counter[str] = Counter()
    for number, (reason, count) in enumerate(refusals):
        known = number < MAX_REFUSALS and reason in _REASONS
        if count > 0:
            found[reason if known else OTHER] += count
    return {reason: _bounded(count) for reason, count in found.items()}
