"""Audit events of refused calls, limited so that a flood of refusals can't flood the audit trail."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from token_service.core.access.caller import Caller
from token_service.core.access.quotas import RateQuota
from token_service.core.events.audit import Audit
from token_service.core.events.event import Action, AuditEvent, Outcome, Target
from token_service.errors import OverloadedError, PermissionDeniedError, RateLimitedError

PER_CALLER: Final = 10
"""Refusals of one caller that are recorded a minute. Callers without an identity share one limit."""
IN_ALL: Final = 600
"""Refusals of all callers that are recorded a minute."""
_PERIOD: Final = 60.0


class Refusals:
    """Records calls that were refused for a missing permission or an exhausted quota."""

    def __init__(self, audit: Audit, monotonic: Callable[[], float]) -> None:
        self._audit = audit
        self._of_caller = RateQuota("recorded refusals", PER_CALLER, _PERIOD, monotonic)
        self._in_all = RateQuota("recorded refusals", IN_ALL, _PERIOD, monotonic)
        self._unrecorded = 0

    def note(self, caller: Caller, call: str, error: Exception) -> None:
        """Record the refusal of a call, unless `error` is of another kind or a limit is reached.

        The event tells how many refusals were not recorded since the last one that was.
        """
        if isinstance(error, PermissionDeniedError):
            action, reason = Action.PERMISSION_DENIED, error.metadata.get("permission", "")
        elif isinstance(error, RateLimitedError):
            action, reason = Action.QUOTA_EXCEEDED, f"rate of {error.metadata.get('bucket', '')}"
        elif isinstance(error, OverloadedError) and "quota" in error.metadata:
            action, reason = Action.QUOTA_EXCEEDED, error.metadata["quota"]
        else:
            return
        try:
            self._of_caller.spend(caller.identity)
            self._in_all.spend("")
        except OverloadedError:
            self._unrecorded += 1
            return
        unrecorded, self._unrecorded = self._unrecorded, 0
        self._audit.record_alone(
            AuditEvent(
                action=action,
                actor=caller.actor(),
                target=Target("call", call),
                outcome=Outcome.DENIED,
                reason=reason,
                fields={"unrecorded": unrecorded},
            )
        )
