"""EraseSubject: revokes the tokens of a subject, then erases what the service holds about it, part by part."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Final

import msgspec

from token_service.core.access.caller import Caller
from token_service.core.access.gate import UseCase, admit
from token_service.core.administration.subjects.store import SubjectData, SubjectStore
from token_service.core.events.audit import Audit
from token_service.core.events.chain import AuditKeys
from token_service.core.events.event import Action, Actor, AuditEvent, Target
from token_service.core.events.store import AuditStore
from token_service.core.limits import MAX_COMMENT, MAX_SUBJECT, Checks
from token_service.core.revocation.drafts import draft_of, event_of
from token_service.core.revocation.entries import RevocationEntries
from token_service.core.revocation.log import RevocationDraft
from token_service.tokens import base64url
from token_service.tokens.revocation import Cursor, RevocationReason, RevocationTarget

ROWS: Final = 500
"""Sessions, and audit events, that one call changes at most."""
SETTLE: Final = 1.0
"""Seconds between the revocation and the erasure. Events of calls before the revocation wait up to 0.25 s for their row."""
_LABEL: Final = b"subject fingerprint"

CarryOut = Callable[[RevocationDraft, Actor], Awaitable[Cursor]]
"""Makes a revocation durable. See `Revoker.carry_out`."""
TellClients = Callable[[str, Cursor, float], Awaitable[None]]
"""Plans the logouts of the sessions of a subject that an entry of the log has ended."""


class Progress(msgspec.Struct, frozen=True, array_like=True):
    """What the calls before have done for one subject."""

    digest: str
    sessions: int
    events: int
    device_requests: int


@dataclass(frozen=True, slots=True, kw_only=True)
class EraseCommand:
    """Erase a subject, or only count what would be erased."""

    subject: str
    comment: str = ""
    """It is part of the revocation's audit event until that event is erased, and of no other."""
    dry_run: bool = False
    page_token: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Erased:
    """The rows that all calls with one another's page tokens have erased, or that a dry run has counted."""

    data: SubjectData
    next_page_token: str = ""
    """Empty: nothing is left, and the erasure is recorded."""


@dataclass(frozen=True, slots=True)
class ErasureStores:
    """What an erasure changes."""

    subjects: SubjectStore
    entries: RevocationEntries
    events: AuditStore


class SubjectErasure:
    """Erases subjects. A call that failed, or whose node was killed, can be repeated with or without its page token."""

    def __init__(
        self,
        stores: ErasureStores,
        carry_out: CarryOut,
        audit: Audit,
        *,
        tell_clients: TellClients | None = None,
        settle: float = SETTLE,
    ) -> None:
        """`tell_clients`: None if no client is told of logouts."""
        self._stores = stores
        self._carry_out = carry_out
        self._audit = audit
        self._tell_clients = tell_clients
        self._settle = settle

    async def erase(self, caller: Caller, command: EraseCommand, now: float) -> Erased:
        """Erase the next part. The first call revokes the subject before it erases a row.

        Raises `PermissionDeniedError`, `InvalidRequestError` and `StoreUnavailableError`.
        """
        admit(caller, UseCase.ERASE_SUBJECT)
        subject = command.subject
        checks = Checks()
        checks.text("subject", subject, MAX_SUBJECT, required=True)
        checks.text("comment", command.comment, MAX_COMMENT)
        fingerprint = subject_fingerprint(self._stores.events.keys, subject)
        before = checks.page(0, command.page_token, _parse)
        if before is not None and before.digest != fingerprint:
            checks.add("page_token", "was issued for another subject; begin without a page token")
        checks.done()
        if command.dry_run:
            return Erased(data=await self._stores.subjects.count(subject))
        if before is None or not await self._is_revoked(subject):
            await self._revoke(caller, command, now)
        done = before or Progress(fingerprint, 0, 0, 0)
        part = await self._next_part(caller.actor(), subject, now)
        after = Progress(
            fingerprint,
            done.sessions + part.sessions,
            done.events + part.events,
            done.device_requests + part.device_requests,
        )
        total = SubjectData(
            sessions=after.sessions, events=after.events, device_requests=after.device_requests
        )
        if part != SubjectData():
            return Erased(data=total, next_page_token=base64url.encode(msgspec.json.encode(after)))
        await self._record(caller.actor(), after)
        return Erased(data=total)

    async def _is_revoked(self, subject: str) -> bool:
        return await self._stores.entries.has_floor(RevocationTarget.SUBJECT, subject)

    async def _revoke(self, caller: Caller, command: EraseCommand, now: float) -> None:
        draft = draft_of(
            RevocationTarget.SUBJECT,
            command.subject,
            now,
            reason=RevocationReason.ADMINISTRATIVE,
            comment=command.comment,
        )
        actor = caller.actor()
        event = msgspec.structs.replace(event_of(draft, actor), fields={"erasure": True})
        cursor = await self._carry_out(replace(draft, event=event), actor)
        if self._tell_clients is not None:
            await self._tell_clients(command.subject, cursor, now)
        await asyncio.sleep(self._settle)

    async def _next_part(self, actor: Actor, subject: str, now: float) -> SubjectData:
        """Erase one part; return what it was. Nothing: no part is left."""
        subjects = self._stores.subjects
        part = await subjects.erase_sessions(actor, subject, now, ROWS)
        if part == SubjectData():
            part = SubjectData(device_requests=await subjects.erase_device_requests(subject))
        if part == SubjectData():
            part = SubjectData(events=await subjects.erase_events(actor, subject, ROWS))
        return part

    async def _record(self, actor: Actor, done: Progress) -> None:
        """Record the erasure with a fingerprint in the place of the subject."""
        event = AuditEvent(
            action=Action.SUBJECT_ERASED,
            actor=actor,
            target=Target("erased_subject", done.digest),
            fields={
                "sessions": done.sessions,
                "events": done.events,
                "device_requests": done.device_requests,
            },
        )
        await self._stores.events.append([event])
        self._audit.record(event)


def subject_fingerprint(keys: AuditKeys, subject: str) -> str:
    """Return the fingerprint of a subject under the newest audit key, as `VERSION.MAC`.

    Only a holder of the key can tell whether an erased subject was a given one.
    """
    mac = keys.mac(keys.version, _LABEL, subject.encode("utf-8", "replace"))
    assert mac is not None  # by the first key
    return f"{keys.version}.{base64url.encode(mac[:16])}"


def _parse(text: str) -> Progress:
    try:
        return msgspec.json.decode(base64url.decode(text.encode("ascii")), type=Progress)
    except msgspec.MsgspecError as error:
        raise ValueError("not the progress of an erasure") from error
