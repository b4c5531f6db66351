"""ListRevocations: the live entries of the log with their comments and actors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from token_service.core.access.caller import Caller
from token_service.core.access.gate import UseCase, admit
from token_service.core.events.chain import AuditRow
from token_service.core.events.store import AuditStore
from token_service.core.limits import DEFAULT_PAGE, MAX_SUBJECT, Checks
from token_service.core.revocation.entries import EntryFilter, RevocationEntries
from token_service.tokens import base64url
from token_service.tokens.revocation import Revocation, RevocationTarget

_PREFIX: Final = 1  # the first byte of a page token, so that a later version can have another form


@dataclass(frozen=True, slots=True)
class LiveRevocation:
    """A live entry, with the comment and the actor that the audit trail has of it."""

    revocation: Revocation
    comment: str = ""
    actor: str = ""
    """`kind:name`; empty if the trail does not have the entry."""


@dataclass(frozen=True, slots=True)
class RevocationPage:
    """Revocations, newest first. `next_page_token` is empty on the last page."""

    revocations: Sequence[LiveRevocation]
    next_page_token: str


class LiveRevocations:
    """Lists the live revocations from the log in SQL, which has them all."""

    def __init__(self, entries: RevocationEntries, audit: AuditStore) -> None:
        self._entries = entries
        self._audit = audit

    async def list(
        self, caller: Caller, where: EntryFilter, page_size: int, page_token: str, now: float
    ) -> RevocationPage:
        """List a page; a size of 0 is the default.

        Raises `PermissionDeniedError`, `InvalidRequestError` and `StoreUnavailableError`.
        """
        admit(caller, UseCase.LIST_REVOCATIONS)
        checks = Checks()
        checks.text("id", where.value, MAX_SUBJECT)
        if where.value and where.target in {None, RevocationTarget.EVERYTHING}:
            checks.add("id", "needs a target other than everything")
        below = checks.page(page_size, page_token, _parse)
        checks.done()
        page = await self._entries.page(where, live_at=now, limit=page_size or DEFAULT_PAGE, below=below)
        events = await self._audit.of_entries(page.epoch, [each.revocation for each in page.entries])
        return RevocationPage(
            [
                _live(each.revocation, each.comment, events.get(each.revocation.sequence))
                for each in page.entries
            ],
            "" if page.next is None else base64url.encode(bytes([_PREFIX]) + page.next.to_bytes(8)),
        )


def _live(entry: Revocation, comment: str, row: AuditRow | None) -> LiveRevocation:
    if row is None:
        return LiveRevocation(entry, comment)
    return LiveRevocation(entry, row.comment, f"{row.actor_kind}:{row.actor_name}")


def _parse(text: str) -> int:
    data = base64url.decode(text.encode("ascii"))
    if len(data) != 9 or data[0] != _PREFIX or data[1] >= 0x80:
        raise ValueError("not a position")
    return int.from_bytes(data[1:])
