"""What a validator tells the token service about its verdicts: the counts that the service has not acknowledged yet.

A report goes with each freshness probe and counts at least once. Counts stay unacknowledged until a probe is answered,
so a refused or failed probe loses nothing; a probe whose answer was lost is counted twice. The counts of the last
probe interval before the validator ends are not reported.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Final

from token_service import __version__
from token_service.client._internal.counters import Counters
from token_service.v1.token_service_pb2 import ConfirmRevocationsRequest

CLIENT_VERSION: Final = f"python/{__version__}"
_MAX_COUNT: Final = 1_000_000_000
"""Tokens that the service adds up from one field of a report. The rest goes with the next report."""


@dataclass(frozen=True, slots=True)
class Reported:
    """The totals that a probe reports."""

    verified: int
    rejected: Counter[str]


class ValidationReport:
    """The counts since the last acknowledged report. The task or thread that probes uses it."""

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        self._acknowledged = Reported(0, Counter())

    def fill(self, request: ConfirmRevocationsRequest) -> Reported:
        """Put the unacknowledged counts into a request; return the totals for `acknowledge`."""
        known = self._acknowledged
        request.client_version = CLIENT_VERSION
        request.validated = min(self._counters.verified - known.verified, _MAX_COUNT)
        rejected = known.rejected.copy()
        for reason, total in self._counters.rejected.copy().items():  # other threads add reasons
            count = min(total - known.rejected[reason], _MAX_COUNT)
            if count:
                request.refusals.add(reason=reason, count=count)
                rejected[reason] += count
        return Reported(known.verified + request.validated, rejected)

    def acknowledge(self, reported: Reported) -> None:
        """Note that the service has answered the request that `fill` returned these totals for."""
        self._acknowledged = reported
