"""CountSessions and RevokeSessions: the sessions that match a filter, counted at once or revoked part by part."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final
from uuid import UUID

from msgspec import structs

from token_service.core.access.caller import Caller
from token_service.core.access.gate import UseCase, admit, admit_client, deny_outside_clients
from token_service.core.access.rates import Rates
from token_service.core.events.audit import Audit
from token_service.core.limits import MAX_COMMENT, Checks
from token_service.core.policies.rates import Operation
from token_service.core.policies.rights import Permission
from token_service.core.revocation.drafts import REMEMBER, draft_of, event_of
from token_service.core.revocation.log import RevocationDraft
from token_service.core.sessions.selection import Accuracy, SessionReach, SessionSelection, SessionSelections
from token_service.core.sessions.store import SessionPosition
from token_service.tokens import base64url
from token_service.tokens.claims import MAX_NUMERIC_DATE
from token_service.tokens.revocation import Cursor, RevocationReason, RevocationTarget

MAX_SESSIONS_REVOKED: Final = 1000
"""Sessions that one call revokes at most. The head of the log is locked while their rows are written."""
DEFAULT_PART: Final = 500
_DIGEST: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class RevokeSessionsCommand:
    """Revoke one part of the sessions of a selection, or only count them."""

    selection: SessionSelection
    reason: RevocationReason = RevocationReason.UNSPECIFIED
    comment: str = ""
    dry_run: bool = False
    max_sessions: int = 0
    """0: the default."""
    page_token: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RevokedSessions:
    """The outcome of one call."""

    sessions: int
    accuracy: Accuracy = Accuracy.EXACT
    next_page_token: str = ""
    cursor: Cursor | None = None
    """A place in the log that includes the revocations; None: nothing was to be changed."""
    advice: str = ""


class BulkRevocation:
    """Counts and revokes the sessions of a selection. Each method raises `PermissionDeniedError`."""

    def __init__(
        self,
        selections: SessionSelections,
        append: Callable[[Sequence[RevocationDraft]], Awaitable[tuple[Cursor, int]]],
        rates: Rates,
        audit: Audit,
    ) -> None:
        """`append` makes entries durable in one transaction; see `Revoker.append_counted`."""
        self._selections = selections
        self._append = append
        self._rates = rates
        self._audit = audit

    async def count(self, caller: Caller, selection: SessionSelection, now: float) -> SessionReach:
        """Count the active sessions. Raises `InvalidRequestError`."""
        admit(caller, UseCase.COUNT_SESSIONS)
        checks = Checks()
        selection.check(checks)
        checks.done()
        return await self._selections.reach(selection, live_at=now)

    async def revoke(self, caller: Caller, command: RevokeSessionsCommand, now: float) -> RevokedSessions:
        """Revoke the next part of the sessions; its revocations are durable, all or none, when this returns.

        A repeated call with the same page token revokes only the sessions of this part that are not revoked yet.
        Sessions that have expired for a shorter time than an access token lives are revoked too.

        Raises `InvalidRequestError`, `RateLimitedError` and `StoreUnavailableError` (the revocations may be in effect;
        repeat the call).
        """
        admit(caller, UseCase.REVOKE_SESSIONS)
        selection = command.selection
        after = _checked(command)
        _require_within(caller, selection)
        if caller.rights.rates:
            await self._rates.take_of_caller(caller, Operation.REVOKE)
        advice = "" if command.page_token else _advice(selection)
        live_at = now - REMEMBER
        if command.dry_run:
            reach = await self._selections.reach(selection, live_at=live_at)
            return RevokedSessions(sessions=reach.sessions, accuracy=reach.accuracy, advice=advice)
        limit = command.max_sessions or DEFAULT_PART
        part = await self._selections.part(selection, live_at=live_at, limit=limit, after=after)
        cursor, revoked = await self._revoke(caller, command, part.session_ids, now)
        return RevokedSessions(
            sessions=revoked,
            next_page_token="" if part.next is None else _format(selection, part.next),
            cursor=cursor,
            advice=advice,
        )

    async def _revoke(
        self, caller: Caller, command: RevokeSessionsCommand, session_ids: Sequence[UUID], now: float
    ) -> tuple[Cursor, int]:
        """Append an entry for each session; return a place that includes them and the number of new entries."""
        actor = caller.actor()
        drafts = [
            draft_of(RevocationTarget.SESSION, str(each), now, reason=command.reason, comment=command.comment)
            for each in session_ids
        ]
        events = [event_of(draft, actor) for draft in drafts]
        cursor, revoked = await self._append(
            [replace(draft, event=event) for draft, event in zip(drafts, events, strict=True)]
        )
        for event in events:
            self._audit.record(structs.replace(event, fields={"cursor": str(cursor)}))
        return cursor, revoked


def _checked(command: RevokeSessionsCommand) -> SessionPosition | None:
    """Return the position at which the call begins. Raises `InvalidRequestError`."""
    checks = Checks()
    command.selection.check(checks)
    checks.text("comment", command.comment, MAX_COMMENT)
    if not 0 <= command.max_sessions <= MAX_SESSIONS_REVOKED:
        checks.add("max_sessions", f"is not from 0 to {MAX_SESSIONS_REVOKED}")
    after = None
    if command.page_token:
        try:
            after = _parse(command.selection, command.page_token)
        except ValueError:
            checks.add("page_token", "was not issued for this filter; begin without a page token")
    checks.done()
    return after


def _require_within(caller: Caller, selection: SessionSelection) -> None:
    """Raise `PermissionDeniedError` unless the caller may revoke every session of a selection."""
    if not selection.names_owner:
        admit(caller, UseCase.REVOKE_WIDELY)
    if caller.rights.are_unbounded(Permission.REVOKE):
        return
    if not selection.client_id:
        raise deny_outside_clients(Permission.REVOKE, "no client in its filter")
    admit_client(caller, UseCase.REVOKE_SESSIONS, selection.client_id)


def _advice(selection: SessionSelection) -> str:
    """Return a better way to revoke the sessions, which also covers tokens without a session; empty: there is none."""
    for name in ("subject", "client_id"):
        value = getattr(selection, name)
        if value and selection == SessionSelection(**{name: value}):
            return (
                f"RevokeToken with this {name} revokes the same sessions with one entry instead of one for each, and "
                "also tokens without a session"
            )
    return ""


def _digest(selection: SessionSelection) -> bytes:
    return hashlib.sha256(repr(selection).encode("utf-8", "replace")).digest()[:_DIGEST]


def _format(selection: SessionSelection, position: SessionPosition) -> str:
    micros = round(position.create_time * 1_000_000)
    return base64url.encode(_digest(selection) + micros.to_bytes(8) + position.session_id.bytes)


def _parse(selection: SessionSelection, text: str) -> SessionPosition:
    """Return the position in a page token. Raises `ValueError` if it is none or belongs to another selection."""
    data = base64url.decode(text.encode("ascii"))
    micros = int.from_bytes(data[_DIGEST:16])
    if len(data) != 32 or data[:_DIGEST] != _digest(selection) or micros > MAX_NUMERIC_DATE * 1_000_000:
        raise ValueError("not a position of this selection")
    return SessionPosition(micros / 1_000_000, UUID(bytes=data[16:]))
