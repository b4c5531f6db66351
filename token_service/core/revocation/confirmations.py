"""ConfirmRevocations: records how far a subscriber has applied the log."""

from __future__ import annotations

from token_service.core.access.caller import Caller
from token_service.core.access.gate import UseCase, admit
from token_service.core.revocation.read_index import ReadIndex
from token_service.core.subscribers.registry import Validators
from token_service.tokens.revocation import Cursor


class Confirmations:
    """Records confirmations of subscribers."""

    def __init__(self, read_index: ReadIndex, validators: Validators) -> None:
        self._read_index = read_index
        self._validators = validators

    async def confirm(
        self, caller: Caller, subscriber_id: str, applied: Cursor | None, key_set_revision: int
    ) -> Cursor:
        """Record the place that a subscriber of the caller has applied; return the head of the log.

        A place beyond the head counts as the head. A confirmation without a name, without a cursor or for
        another epoch is not recorded. Raises `PermissionDeniedError` and `StoreUnavailableError`.
        """
        admit(caller, UseCase.CONFIRM_REVOCATIONS)
        head = await self._read_index.head()
        if subscriber_id and applied is not None and applied.epoch == head.epoch:
            self._validators.confirm(
                caller.subscriber(subscriber_id),
                min(applied.sequence, head.sequence),
                key_set_revision,
                caller=caller.identity,
            )
        return Cursor(head.epoch, head.sequence)
