"""What the commands read of the audit trail: in the database, or at a running service."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from token_service.cli.progress import Progress
from token_service.config import Settings

if TYPE_CHECKING:
    from token_service.app.audit import AuditTrail
    from token_service.cli.remote.service import Service
    from token_service.core.events.chain import AuditRow
    from token_service.core.events.store import AuditFilter
    from token_service.core.events.verification import Verification
    from token_service.core.reports.audit import Explanation
    from token_service.tokens.revocation import RevocationTarget

T = TypeVar("T")


class Trail(Protocol):
    """The audit trail of one place. Each method raises `ServiceError`."""

    def list(self, where: AuditFilter, limit: int, page_token: str) -> tuple[Sequence[AuditRow], str]:
        """Return a page of events, newest first, and the token of the next page."""
        ...

    def explain(self, target: RevocationTarget, value: str) -> Sequence[Explanation]:
        """Return the events that revoked a target, newest first."""
        ...

    def verify(self, *, quiet: bool) -> Verification:
        """Verify the whole trail."""
        ...

    def members_of(self, row: AuditRow) -> dict[str, Any]:
        """Return the known parts of an event as JSON members."""
        ...


def trail_of(place: Settings | Service) -> Trail:
    """Return the trail of a database or of a running service."""
    if isinstance(place, Settings):
        return StoredTrail(place)
    from token_service.cli.audit.remote import RemoteTrail

    return RemoteTrail(place)


class StoredTrail:
    """The trail in the database."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def list(self, where: AuditFilter, limit: int, page_token: str) -> tuple[Sequence[AuditRow], str]:
        """Return a page of events."""

        async def read(trail: AuditTrail) -> tuple[Sequence[AuditRow], str]:
            page = await trail.reports.list(trail.operator, where, limit, page_token)
            return page.rows, page.next_page_token

        return on_trail(self._settings, read)

    def explain(self, target: RevocationTarget, value: str) -> Sequence[Explanation]:
        """Return the events that revoked a target."""

        async def read(trail: AuditTrail) -> Sequence[Explanation]:
            return await trail.reports.explain(trail.operator, target, value)

        return on_trail(self._settings, read)

    def verify(self, *, quiet: bool, exported: Any = None) -> Verification:
        """Verify the whole trail, and compare it with an exported checkpoint."""
        from token_service.core.events.verification import verify

        async def check(trail: AuditTrail) -> Verification:
            with Progress("events verified", quiet=quiet) as progress:
                return await verify(trail.store, exported, progress.show)

        return on_trail(self._settings, check)

    def members_of(self, row: AuditRow) -> dict[str, Any]:
        """Return an event as JSON members, with its place in the chain."""
        from token_service.core.events.export import members_of

        return members_of(row)


def on_trail(settings: Settings, work: Callable[[AuditTrail], Awaitable[T]]) -> T:
    """Do `work` on the trail of the database."""
    from token_service.app.audit import open_trail

    async def run() -> T:
        async with open_trail(settings) as trail:
            return await work(trail)

    return asyncio.run(run())
