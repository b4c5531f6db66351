"""The revocation log across a failover of its database.

A synchronous standby has every acknowledged commit. When it is promoted, the log is renewed without a revocation, and all
nodes continue. An asynchronous standby may lack revocations, including those of signing keys. After its promotion the log
stays closed until an operator renews it. If the operator has chosen so in advance, it continues under another name, and
each running node writes again the entries that it knows (`known_entries`).
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeVar

from token_service.clock import Clock
from token_service.core.entropy import Entropy
from token_service.core.events.audit import Audit
from token_service.core.events.event import Actor
from token_service.core.revocation.log import LogHead, LogMovedError, RevocationDraft, RevocationLog
from token_service.core.revocation.log_renewal import LogChangedError, renew_log
from token_service.errors import ConfigurationError, StoreUnavailableError
from token_service.tokens.revocation import Revocation

T = TypeVar("T")

_ACTOR: Final = Actor.system("failover")

logger = logging.getLogger(__name__)


class FailoverLog:
    """A `RevocationLog` that renews itself after a failover that lost nothing, or after any if `accepts_loss`."""

    def __init__(
        self,
        log: RevocationLog,
        clock: Clock,
        entropy: Entropy,
        audit: Audit,
        *,
        accepts_loss: bool = False,
    ) -> None:
        self._accepts_loss: Final = accepts_loss
        self._log: Final = log
        self._clock: Final = clock
        self._entropy: Final = entropy
        self._audit: Final = audit
        self._known: LogHead | None = None
        self.read: Final = log.read
        self.renew: Final = log.renew
        self.compact: Final = log.compact
        self.purge_floors: Final = log.purge_floors

    async def head(self) -> LogHead:
        """See `RevocationLog.head`."""
        head = await self._across_failovers(self._log.head)
        self._note(head)
        return head

    async def append(self, drafts: Sequence[RevocationDraft]) -> tuple[LogHead, Sequence[Revocation]]:
        """See `RevocationLog.append`."""
        head, entries = await self._across_failovers(lambda: self._log.append(drafts))
        self._note(head)
        return head, entries

    def _note(self, head: LogHead) -> None:
        """Remember the highest head: a read that began before an append may end after it."""
        if self._known is None or self._known.sequence <= head.sequence:
            self._known = head

    async def _across_failovers(self, call: Callable[[], Awaitable[T]]) -> T:
        try:
            return await call()
        except LogMovedError as moved:
            # An entry that this node knows and the server lacks may have been acknowledged to a caller.
            nothing_lost = moved.nothing_lost and _contains(moved.head, self._known)
            if not nothing_lost and not (self._accepts_loss and moved.promoted):
                raise
            await self._renew(moved.head, nothing_lost=nothing_lost)
        return await call()

    async def _renew(self, head: LogHead, *, nothing_lost: bool) -> None:
        try:
            renewal = await renew_log(
                self._log,
                head,
                self._clock.now(),
                self._entropy,
                self._audit,
                _ACTOR,
                nothing_lost=nothing_lost,
                keep=True,
            )
        except LogChangedError:
            return  # another node has renewed it
        except ConfigurationError as error:
            raise StoreUnavailableError(error.message, retry_after=1.0) from error
        if nothing_lost:
            logger.warning(
                "the database failed over to a synchronous standby: the revocation log %s continues as %s",
                renewal.before,
                renewal.after,
            )
        else:
            logger.error(
                "the database failed over to a standby that may lack revocations: the revocation log %s continues as %s; "
                "running nodes write again what they know, sessions and changes of clients, keys and policies stay lost",
                renewal.before,
                renewal.after,
            )


def _contains(head: LogHead, known: LogHead | None) -> bool:
    """Tell whether a log that ends at `head` contains the last entry of the head known here.

    Sequences decide this across renewals as well, because each renewal continues above all earlier sequences.
    """
    if known is None or known.sequence < head.sequence:
        return True
    return (known.epoch, known.sequence) == (head.epoch, head.sequence) and (
        None in (known.newest, head.newest) or known.newest == head.newest
    )
