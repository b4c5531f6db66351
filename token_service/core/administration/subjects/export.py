"""ExportSubject: everything that the service holds about a subject, page by page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

import msgspec

from token_service.core.access.caller import Caller
from token_service.core.access.gate import UseCase, admit
from token_service.core.administration.subjects.records import (
    device_request_members,
    entry_members,
    event_members,
    logout_members,
    session_members,
)
from token_service.core.administration.subjects.store import SubjectStore
from token_service.core.events.audit import Audit
from token_service.core.events.event import Action, AuditEvent, Target
from token_service.core.events.store import AuditFilter, AuditPosition, AuditStore
from token_service.core.limits import MAX_COMMENT, MAX_SUBJECT, Checks
from token_service.core.revocation.entries import EntryFilter, RevocationEntries
from token_service.core.sessions.store import SessionFilter, SessionPosition, SessionStore
from token_service.tokens import base64url
from token_service.tokens.revocation import RevocationTarget

SCHEMA_VERSION: Final = 1
"""Grows when a member of an exported record gets another meaning. New members and new sections do not change it."""
PAGE: Final = 100
"""Records of a page. A page may have fewer, or none, although more follow."""
_MAX_BYTES: Final = 1024 * 1024
"""Bytes of JSON after which a page of sessions ends: their claims may be long."""
_SESSIONS_SEARCHED: Final = 50
"""Sessions whose events one page looks for."""
_MAX_LOGOUTS: Final = 1000


class Place(msgspec.Struct, frozen=True, array_like=True):
    """The place after a page: a section, the time at which the export began, and a position in the section."""

    section: int
    began: float
    position: tuple[Any, ...] = ()


@dataclass(frozen=True, slots=True)
class SubjectRecord:
    """One exported record. Its members are JSON."""

    section: str
    members: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class SubjectPage:
    """Records of an export. `next_page_token` is empty on the last page."""

    records: Sequence[SubjectRecord]
    next_page_token: str


@dataclass(frozen=True, slots=True)
class SubjectSources:
    """What an export reads."""

    subjects: SubjectStore
    sessions: SessionStore
    entries: RevocationEntries
    events: AuditStore


_Part = tuple[list[Mapping[str, Any]], tuple[Any, ...] | None]
"""Records of one section, and the position after them; None: the section has ended."""
_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(Place).decode
SECTIONS: Final = (
    "sessions",
    "device_requests",
    "pending_logouts",
    "revocations",
    "events",
    "events_of_sessions",
    "events_on_behalf",
)
"""The sections in their order."""


class SubjectExport:
    """Read the pages of an export. One page is in memory at a time."""

    def __init__(self, sources: SubjectSources, audit: Audit) -> None:
        self._from = sources
        self._audit = audit
        self._parts = (
            self._sessions,
            self._device_requests,
            self._logouts,
            self._entries,
            self._events,
            self._events_of_sessions,
            self._acts,
        )

    async def page(
        self, caller: Caller, subject: str, page_token: str, now: float, comment: str = ""
    ) -> SubjectPage:
        """Return the page after a page token. Each page is an audit event, whose row is written before it is returned.

        Events of the export itself and later ones are left out. Raises `PermissionDeniedError`, `InvalidRequestError` and
        `StoreUnavailableError`.
        """
        admit(caller, UseCase.EXPORT_SUBJECT)
        checks = Checks()
        checks.text("subject", subject, MAX_SUBJECT, required=True)
        checks.text("comment", comment, MAX_COMMENT)
        place = checks.page(0, page_token, _parse) or Place(0, now)
        checks.done()
        await self._record(caller, subject, place, comment)
        try:
            found, position = await self._parts[place.section](subject, place)
        except (TypeError, ValueError, OverflowError) as error:  # a position that the service did not issue
            checks.add("page_token", "was not issued by the token service; export again from the first page")
            checks.done()
            raise AssertionError from error
        records = [SubjectRecord(SECTIONS[place.section], members) for members in found]
        if position is not None:
            return SubjectPage(records, _format(Place(place.section, place.began, position)))
        if place.section + 1 < len(SECTIONS):
            return SubjectPage(records, _format(Place(place.section + 1, place.began)))
        return SubjectPage(records, "")

    async def _record(self, caller: Caller, subject: str, place: Place, comment: str) -> None:
        event = AuditEvent(
            action=Action.SUBJECT_EXPORTED,
            actor=caller.actor(),
            target=Target("subject", subject, subject=subject),
            comment=comment,
            fields={"section": SECTIONS[place.section], "continued": bool(place.position)},
        )
        await self._from.events.append([event])
        self._audit.record(event)

    async def _sessions(self, subject: str, place: Place) -> _Part:
        after = None
        if place.position:
            create_time, session_id = place.position
            after = SessionPosition(create_time, UUID(session_id))
        found = await self._from.sessions.list(
            SessionFilter.SUBJECT, subject, live_at=None, limit=PAGE, after=after
        )
        members: list[Mapping[str, Any]] = []
        size = 0
        for details in found:
            members.append(session_members(details, place.began))
            size += len(_encode(members[-1]))
            if size > _MAX_BYTES:
                break
        if len(members) == len(found) < PAGE:
            return members, None
        last = found[len(members) - 1].session
        return members, (last.create_time, str(last.id))

    async def _device_requests(self, subject: str, _place: Place) -> _Part:
        return list(map(device_request_members, await self._from.subjects.device_requests(subject))), None

    async def _logouts(self, subject: str, _place: Place) -> _Part:
        return list(map(logout_members, await self._from.subjects.logouts(subject, _MAX_LOGOUTS))), None

    async def _entries(self, subject: str, place: Place) -> _Part:
        where = EntryFilter(target=RevocationTarget.SUBJECT, value=subject)
        below = place.position[0] if place.position else None
        page = await self._from.entries.page(where, live_at=0.0, limit=PAGE, below=below)
        members = [entry_members(page.epoch, each) for each in page.entries]
        return members, None if page.next is None else (page.next,)

    async def _events(self, subject: str, place: Place) -> _Part:
        where = AuditFilter(subject=subject, until=place.began)
        rows = await self._from.events.list(where, limit=PAGE, after=_audit_position(place.position))
        return list(map(event_members, rows)), _after(rows)

    async def _events_of_sessions(self, subject: str, place: Place) -> _Part:
        """Read the events that name only a session. The position is a session, and a row of it."""
        session_id, *row = place.position or ("",)
        if row:
            members, position = await self._events_of_session(subject, session_id, place, tuple(row))
            return members, (session_id, *(position or ()))
        found: list[Mapping[str, Any]] = []
        ids = await self._from.subjects.session_ids(subject, session_id, _SESSIONS_SEARCHED)
        for each in ids:
            members, position = await self._events_of_session(subject, each, place, ())
            found += members
            if position is not None:
                return found, (each, *position)
            if len(found) >= PAGE:
                return found, (each,)
        return found, (ids[-1],) if len(ids) == _SESSIONS_SEARCHED else None

    async def _events_of_session(
        self, subject: str, session_id: str, place: Place, row: tuple[Any, ...]
    ) -> _Part:
        where = AuditFilter(session_id=session_id, until=place.began)
        rows = await self._from.events.list(where, limit=PAGE, after=_audit_position(row))
        return [event_members(each) for each in rows if each.subject != subject], _after(rows)

    async def _acts(self, subject: str, place: Place) -> _Part:
        rows = await self._from.subjects.acts(
            subject, limit=PAGE, after=_audit_position(place.position or (round(place.began * 1e6), "", 0))
        )
        return list(map(event_members, rows)), _after(rows)


def _after(rows: Sequence[Any]) -> tuple[Any, ...] | None:
    return (rows[-1].time, rows[-1].chain_id, rows[-1].position) if len(rows) == PAGE else None


def _audit_position(position: tuple[Any, ...]) -> AuditPosition | None:
    if not position:
        return None
    time, chain_id, row = position
    if not (isinstance(time, int) and isinstance(chain_id, str) and isinstance(row, int)):
        raise TypeError("not a position")
    return AuditPosition(time, chain_id, row)


def _format(place: Place) -> str:
    return base64url.encode(_encode(place))


def _parse(text: str) -> Place:
    try:
        place = _decode(base64url.decode(text.encode("ascii")))
    except msgspec.MsgspecError as error:
        raise ValueError("not a place") from error
    if not 0 <= place.section < len(SECTIONS):
        raise ValueError("not a section")
    return place
