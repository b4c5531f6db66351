"""ConfirmRevocations: records how far a subscriber has applied the log."""

from __future__ import annotations

from collections.abc import Sequence

from token_service.core.access.caller import Caller
from token_service.core.access.gate import UseCase, admit
from token_service.core.revocation.read_index import ReadIndex
from token_service.core.revocation.replica import Replica
from token_service.core.subscribers.registry import Subscribers
from token_service.core.subscribers.validations import ValidationReport, ValidationReports
from token_service.tokens.revocation import Cursor, Revocation


class Confirmations:
    """Records confirmations of subscribers for the log that this node follows. A listener of the replica."""

    def __init__(
        self,
        read_index: ReadIndex,
        replica: Replica,
        subscribers: Subscribers,
        validations: ValidationReports,
    ) -> None:
        self._read_index = read_index
        self._replica = replica
        self._subscribers = subscribers
        self._validations = validations
        self._reached = replica.applied
        replica.listen(self)

    def applied(self, entries: Sequence[Revocation]) -> None:
        """Note the sequence that the replica has applied."""
        self._reached = self._replica.applied

    def was_reset(self) -> None:
        """Forget confirmations for another log, and for this log before it was restored from a backup."""
        replica = self._replica
        if replica.epoch != self._subscribers.epoch or replica.applied < self._reached:
            self._subscribers.start_over(replica.epoch)
        self._reached = replica.applied

    async def confirm(
        self,
        caller: Caller,
        subscriber_id: str,
        applied: Cursor | None,
        key_set_revision: int,
        report: ValidationReport,
    ) -> Cursor:
        """Record the place that a subscriber of the caller has applied; return the head of the log.

        A place beyond the head counts as the head. A confirmation is recorded only with a name, with a cursor, and
        for the log that is both the current one and the one that this node follows. `report` counts whenever the call
        succeeds, and only then: a subscriber sends it again after a failure.

        Raises `PermissionDeniedError` and `StoreUnavailableError`.
        """
        admit(caller, UseCase.CONFIRM_REVOCATIONS)
        head = await self._read_index.head()
        followed = self._subscribers.epoch  # read after the head: the node may have changed over meanwhile
        name = caller.subscriber(subscriber_id) if subscriber_id else ""
        if name and applied is not None and applied.epoch == head.epoch == followed:
            self._subscribers.confirm(
                name,
                min(applied.sequence, head.sequence),
                key_set_revision,
                caller=caller.identity,
            )
        self._validations.add(name, caller.identity, report)
        return Cursor(head.epoch, head.sequence)
