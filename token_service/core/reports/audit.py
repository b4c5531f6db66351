"""ListAuditEvents, VerifyAuditTrail and ExplainRevocation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from token_service.core.access.caller import Caller
from token_service.core.access.gate import UseCase, admit
from token_service.core.events.chain import AuditRow
from token_service.core.events.event import Action
from token_service.core.events.store import REVOKING, AuditFilter, AuditPosition, AuditStore, cursor_of
from token_service.core.events.verification import Verification, verify
from token_service.core.limits import DEFAULT_PAGE, MAX_SUBJECT, Checks
from token_service.core.revocation.commands import RevokeCommand, check_command
from token_service.core.sessions.store import SessionStore
from token_service.core.subscribers.samples import SampleStore
from token_service.core.subscribers.validations import Validations
from token_service.tokens import base64url
from token_service.tokens.revocation import MAX_LEEWAY, RevocationTarget

MAX_ACTOR: Final = 1024
_MAX_EXPLANATIONS: Final = 50
_ARRIVALS_WITHIN: Final = 3600.0
"""Seconds after an event in which samples are looked for."""
_EVERYTHING: Final = AuditFilter(target_kind="everything", actions=REVOKING)
_KINDS: Final = {
    RevocationTarget.TOKEN_ID: "token_id",
    RevocationTarget.CLIENT: "client",
    RevocationTarget.KEY: "key",
}


@dataclass(frozen=True, slots=True)
class AuditPage:
    """Events, newest first. `next_page_token` is empty on the last page."""

    rows: Sequence[AuditRow]
    next_page_token: str


@dataclass(frozen=True, slots=True)
class Arrival:
    """A subscriber that had applied an event at a time, and what it reported to this process within the last hour."""

    subscriber: str
    time: float
    validations: Validations | None = None


@dataclass(frozen=True, slots=True)
class Explanation:
    """An event that revoked a target, and the subscribers that had applied it."""

    row: AuditRow
    arrivals: Sequence[Arrival]


class AuditReports:
    """Reads the audit trail. Each method raises `PermissionDeniedError` and `StoreUnavailableError`."""

    def __init__(
        self,
        store: AuditStore,
        sessions: SessionStore,
        samples: SampleStore,
        validations: Callable[[str], Validations | None] = lambda _: None,
    ) -> None:
        """Configure the reports. `validations` returns the counts that a subscriber has reported to this process."""
        self._store = store
        self._sessions = sessions
        self._samples = samples
        self._validations = validations

    async def list(self, caller: Caller, where: AuditFilter, page_size: int, page_token: str) -> AuditPage:
        """List a page of the events that match; a size of 0 is the default. Raises `InvalidRequestError`."""
        admit(caller, UseCase.LIST_AUDIT_EVENTS)
        checks = Checks()
        for name, value in (
            ("subject", where.subject),
            ("session_id", where.session_id),
            ("client_id", where.client_id),
        ):
            checks.text(name, value, MAX_SUBJECT)
        checks.text("actor", where.actor, MAX_ACTOR)
        for number, action in enumerate(where.actions):
            if action not in tuple(Action):
                checks.add(f"actions[{number}]", f"is none of {', '.join(Action)}")
        after = checks.page(page_size, page_token, _parse_position)
        checks.done()
        size = page_size or DEFAULT_PAGE
        rows = await self._store.list(where, limit=size + 1, after=after)
        page = rows[:size]
        return AuditPage(page, _format_position(page[-1]) if len(rows) > size else "")

    async def verify(self, caller: Caller) -> Verification:
        """Verify the whole trail. Raises `ConfigurationError` without an audit key."""
        admit(caller, UseCase.VERIFY_AUDIT_TRAIL)
        return await verify(self._store)

    async def explain(self, caller: Caller, target: RevocationTarget, value: str) -> Sequence[Explanation]:
        """Return the events that revoked a target, newest first, and the subscribers that had each within an hour.

        The result is empty if no event is stored.

        A session may also have ended through its subject, its client or everything, and a subject or a client through
        everything. Raises `InvalidRequestError`.
        """
        admit(caller, UseCase.EXPLAIN_REVOCATION)
        check_command(RevokeCommand(target=target, value=value))
        filters = [_filter_of(target, value)]
        if target is RevocationTarget.SESSION:
            session = await self._sessions.get(UUID(value))
            if session is not None:
                since = session.create_time
                filters += [
                    AuditFilter(
                        target_kind="subject", subject=session.subject, actions=REVOKING, since=since
                    ),
                    AuditFilter(
                        target_kind="client", target_id=session.client_id, actions=REVOKING, since=since
                    ),
                    AuditFilter(target_kind="everything", actions=REVOKING, since=since),
                ]
        elif target in {RevocationTarget.SUBJECT, RevocationTarget.CLIENT}:
            filters.append(_EVERYTHING)
        found = [
            row
            for where in filters
            for row in await self._store.list(where, limit=_MAX_EXPLANATIONS, after=None)
        ]
        newest = sorted(found, key=lambda row: row.time, reverse=True)[:_MAX_EXPLANATIONS]
        return [Explanation(row, await self._arrivals(row)) for row in newest]

    async def _arrivals(self, row: AuditRow) -> Sequence[Arrival]:
        """Return the first sample of each subscriber that has the entry of an event."""
        cursor = cursor_of(row)
        if cursor is None:
            return ()
        time = row.time / 1_000_000
        # The clocks of the two nodes may differ.
        samples = await self._samples.first(
            cursor.epoch, cursor.sequence, time - MAX_LEEWAY, time + _ARRIVALS_WITHIN
        )
        return [
            Arrival(sample.subscriber, sample.time, self._validations(sample.subscriber))
            for sample in samples
        ]


def _filter_of(target: RevocationTarget, value: str) -> AuditFilter:
    if target is RevocationTarget.SESSION:
        return AuditFilter(session_id=str(UUID(value)), actions=REVOKING)
    if target is RevocationTarget.SUBJECT:
        return AuditFilter(target_kind="subject", subject=value, actions=REVOKING)
    if target is RevocationTarget.EVERYTHING:
        return _EVERYTHING
    return AuditFilter(target_kind=_KINDS[target], target_id=value, actions=REVOKING)


def _format_position(row: AuditRow) -> str:
    return base64url.encode(row.time.to_bytes(8) + row.position.to_bytes(8) + row.chain_id.encode())


def _parse_position(text: str) -> AuditPosition:
    data = base64url.decode(text.encode("ascii"))
    if len(data) <= 16 or data[0] >= 0x80 or data[8] >= 0x80 or b"\0" in data[16:]:
        raise ValueError("not a position")
    return AuditPosition(int.from_bytes(data[:8]), data[16:].decode(), int.from_bytes(data[8:16]))
