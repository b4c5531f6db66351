"""Request and response of RevokeToken."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

from token_service.core.limits import (
    MAX_CLIENT_ID,
    MAX_COMMENT,
    MAX_KEY_ID,
    MAX_SUBJECT,
    MAX_TOKEN_ID,
    MAX_WAIT,
    Checks,
)
from token_service.errors import InvalidRequestError
from token_service.tokens.opaque_token import has_form_of_opaque
from token_service.tokens.revocation import Cursor, RevocationReason, RevocationTarget

_LIMITS: Final = {
    RevocationTarget.TOKEN_ID: ("token_id", MAX_TOKEN_ID),
    RevocationTarget.SUBJECT: ("subject", MAX_SUBJECT),
    RevocationTarget.CLIENT: ("client_id", MAX_CLIENT_ID),
    RevocationTarget.KEY: ("key_id", MAX_KEY_ID),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class RevokeCommand:
    """Revoke one thing: a `token`, or a `target` with its `value`."""

    token: str = field(default="", repr=False)
    target: RevocationTarget | None = None
    value: str = ""
    reason: RevocationReason = RevocationReason.UNSPECIFIED
    comment: str = ""
    wait: float | None = None
    """Maximal seconds to wait until every connected subscriber has confirmed; None: don't wait."""


@dataclass(frozen=True, slots=True)
class RevokeOutcome:
    """A place in the log that includes the revocation, and the number of subscribers that have it.

    The numbers are 0 unless the call waited.
    """

    cursor: Cursor
    connected: int = 0
    applied: int = 0
    silent: int = 0
    """Subscribers, not in `connected`, that the call did not wait for: they had not confirmed for long."""


def check_command(command: RevokeCommand) -> None:
    """Raise `InvalidRequestError` with all errors of a command."""
    if command.target is None and not command.token:
        raise InvalidRequestError.of(
            "target",
            "is required: one of token, token_id, session_id, subject, client_id, key_id, everything",
        )
    checks = Checks()
    checks.text("comment", command.comment, MAX_COMMENT)
    if command.target is RevocationTarget.SESSION:
        try:
            UUID(command.value)
        except ValueError:
            checks.add("session_id", "is not a UUID")
    elif command.target in _LIMITS:
        field_name, limit = _LIMITS[command.target]
        checks.text(field_name, command.value, limit, required=True)
        if has_form_of_opaque(command.value):  # a JWT is longer than the limits
            checks.add(field_name, "has the form of a token, which would be stored; revoke it as a token")
    if command.wait is not None and not 0 < command.wait <= MAX_WAIT:
        checks.add("wait.timeout", f"is not from 0 to {MAX_WAIT:.0f} seconds")
    checks.done()
