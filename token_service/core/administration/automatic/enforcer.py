"""Revokes sessions that are past a limit, in bounded batches, on the node that has the lease."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from math import inf
from typing import Any, Final
from uuid import UUID

from msgspec import structs

from token_service.clock import Clock
from token_service.core.administration.automatic.limits import Excess, LimitCheck
from token_service.core.administration.automatic.rules import AutomaticRules, Cause
from token_service.core.events.audit import Audit
from token_service.core.events.event import Actor
from token_service.core.leases import Lease
from token_service.core.policies.policies import Policies
from token_service.core.revocation.drafts import draft_of, event_of
from token_service.core.revocation.log import RevocationDraft, RevocationLog
from token_service.core.sessions.walk import MAX_WALKED, SessionWalk, WalkFilter
from token_service.errors import TokenServiceError
from token_service.tokens.revocation import Cursor, RevocationReason, RevocationTarget

ACTOR: Final = Actor.system("automatic-revocation")
BATCH: Final = 200
"""Sessions of one transaction. It locks the head of the log."""
_PAUSE: Final = 0.05
"""Seconds between two parts, so that statements of calls run first."""
_LEASE_TTL: Final = 15.0
"""Seconds after which another node takes over from one that was killed."""
_WATCH: Final = 1.0
"""Seconds after which new rules are noticed."""

AppendCounted = Callable[[Sequence[RevocationDraft]], Awaitable[tuple[Cursor, int]]]
"""Makes entries durable in one transaction. See `Revoker.append_counted`."""
Listener = Callable[[Cause, int], None]
"""Is called with the cause and the number of revocations."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class EnforcerSources:
    """What decides about a session."""

    rules: Callable[[], AutomaticRules]
    """Returns the rules in force."""
    policies: Policies
    clients_revision: Callable[[], int]
    """Returns the revision of the registered clients, which have classifications."""
    walk: SessionWalk
    log: RevocationLog


class LimitEnforcer:
    """Walks all sessions every `interval` of the rules while limits are set.

    Nothing is stored besides the revocations: a walk that was interrupted begins again, and the log leaves out a session that
    is revoked already.
    """

    def __init__(
        self, sources: EnforcerSources, append: AppendCounted, audit: Audit, lease: Lease, clock: Clock
    ) -> None:
        self._from = sources
        self._append = append
        self._audit = audit
        self._lease = lease
        self._clock = clock
        self._classified: tuple[Any, ...] | None = None
        """What decided about classifications at the last complete walk of this node."""
        self._listeners: list[Listener] = []
        self.ran_at: float | None = None
        """The time of the last complete walk of this node, in seconds since the Unix epoch; None: none yet."""

    def on_revoked(self, listener: Listener) -> None:
        """Call `listener` after each batch."""
        self._listeners.append(listener)

    async def run(self) -> None:
        """Enforce the limits until cancelled."""
        failing, rules, due = False, None, -inf
        try:
            while True:
                if self._from.rules() is not rules or self._clock.monotonic() >= due:
                    rules = self._from.rules()
                    try:
                        await self.enforce()
                        failing = False
                    except TokenServiceError as error:
                        if not failing:
                            logger.warning(
                                "the limits on sessions can't be enforced, trying again: %s", error.message
                            )
                        failing = True
                    due = self._clock.monotonic() + rules.interval
                await asyncio.sleep(_WATCH)
        finally:
            with suppress(TokenServiceError, TimeoutError):
                async with asyncio.timeout(1):
                    await self._lease.release()

    async def enforce(self) -> Counter[Cause]:
        """Walk all sessions once; return the numbers of sessions past a limit. A dry run revokes none of them.

        Does nothing without limits, and without the lease. Raises `StoreUnavailableError`.
        """
        rules, book = self._from.rules(), self._from.policies.book
        found: Counter[Cause] = Counter()
        if not any(rules.limits.values()):
            return found
        if not await self._lease.acquire(_LEASE_TTL):
            self._classified = None  # another node walks meanwhile
            return found
        deciding = (rules, book, self._from.clients_revision())
        # No clock of one node alone may end sessions: the earlier of its clock and the database's counts.
        now = min(self._clock.now(), (await self._from.log.head()).read_time)
        check = LimitCheck(
            rules.limits,
            book,
            self._from.policies.classification,
            now,
            with_classification=not _same(deciding, self._classified),
        )
        if (where := check.where) is None:
            return found
        if not await self._walk(rules, check, where, now, found):
            return found
        self._classified = deciding
        self.ran_at = self._clock.now()
        if rules.dry_run and found:
            logger.info(
                "automatic revocation is a dry run; it would revoke %s",
                ", ".join(f"{count} sessions by {cause}" for cause, count in sorted(found.items())),
            )
        return found

    async def _walk(
        self,
        rules: AutomaticRules,
        check: LimitCheck,
        where: WalkFilter,
        now: float,
        found: Counter[Cause],
    ) -> bool:
        """Walk to the end; return False if this node lost the lease, or if the rules have changed."""
        after: UUID | None = None
        while True:
            part = await self._from.walk.part(where, live_at=now, limit=MAX_WALKED, after=after)
            past = [each for session in part.sessions if (each := check.excess(session)) is not None]
            after = part.next
            if len(past) > BATCH:
                past = past[:BATCH]
                after = past[-1].session.session_id
            if not await self._lease.acquire(_LEASE_TTL) or self._from.rules() is not rules:
                return False
            if past and not rules.dry_run:
                found.update(await self._revoke(past, now))
            else:
                found.update(each.cause for each in past)
            if after is None:
                return True
            paced = 0.0 if rules.dry_run else len(past) * 60 / rules.sessions_per_minute
            await self._pace(max(_PAUSE, paced))

    async def _revoke(self, past: Sequence[Excess], now: float) -> Counter[Cause]:
        """Revoke sessions in one transaction."""
        drafts = []
        for each in past:
            draft = draft_of(
                RevocationTarget.SESSION,
                str(each.session.session_id),
                now,
                reason=RevocationReason.ADMINISTRATIVE,
                comment=each.comment(),
            )
            event = event_of(draft, ACTOR)
            target = structs.replace(event.target, client_id=each.session.client_id)
            event = structs.replace(event, target=target, fields=each.fields())
            drafts.append(replace(draft, event=event))
        cursor, count = await self._append(drafts)
        for draft in drafts:
            assert draft.event is not None
            fields = {**draft.event.fields, "cursor": str(cursor)}
            self._audit.record(structs.replace(draft.event, fields=fields))
        causes = Counter(each.cause for each in past)
        if count < len(past):
            logger.debug("%d of %d sessions had ended meanwhile", len(past) - count, len(past))
        for cause, number in causes.items():
            for listener in self._listeners:
                listener(cause, number)
        return causes

    async def _pace(self, seconds: float) -> None:
        """Wait, and keep the lease."""
        while seconds > _LEASE_TTL / 3:
            await asyncio.sleep(_LEASE_TTL / 3)
            await self._lease.acquire(_LEASE_TTL)
            seconds -= _LEASE_TTL / 3
        await asyncio.sleep(seconds)


def _same(deciding: tuple[Any, ...], before: tuple[Any, ...] | None) -> bool:
    return before is not None and all(one is other for one, other in zip(deciding, before, strict=True))
