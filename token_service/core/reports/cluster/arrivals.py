"""How many subscribers of all nodes have confirmed a place in the log."""

from __future__ import annotations

from dataclasses import dataclass

from token_service.core.access.caller import Caller
from token_service.core.access.gate import UseCase, admit
from token_service.core.subscribers.reports import Reports, applied_in, silent_in
from token_service.errors import InvalidRequestError
from token_service.tokens.revocation import Cursor


@dataclass(frozen=True, slots=True)
class ClusterArrival:
    """The subscribers that have confirmed a place in the log."""

    connected: int
    """The connected subscribers without the silent ones."""
    applied: int
    silent: int
    """Connected subscribers that are overdue with a requested confirmation."""
    is_followed: bool
    """Whether a node follows the log of the cursor. If none does, the log was renewed, and subscribers load it whole."""

    @property
    def is_complete(self) -> bool:
        """Whether every subscriber, except the silent ones, has confirmed."""
        return self.applied >= self.connected


class ClusterArrivals:
    """Counts the confirmations of a place in the log."""

    def __init__(self, reports: Reports) -> None:
        self._reports = reports

    async def get(self, caller: Caller, text: str) -> ClusterArrival:
        """Return the confirmations of a cursor that the nodes have reported.

        Raises `PermissionDeniedError`, `InvalidRequestError` and `StoreUnavailableError`.
        """
        admit(caller, UseCase.LIST_SUBSCRIBERS)
        try:
            cursor = Cursor.parse(text)
        except ValueError:
            raise InvalidRequestError.of("cursor", "is no place in the log") from None
        reports = await self._reports.of_all()
        silent = sum(map(silent_in, reports))
        return ClusterArrival(
            sum(report.connected for report in reports) - silent,
            sum(applied_in(report, cursor) for report in reports),
            silent,
            any(report.epoch == cursor.epoch for report in reports),
        )
