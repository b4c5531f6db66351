"""Detection of a log in the database that is not the log that this node followed.

Entries never disappear. A log that ends before the last applied entry, or has another entry in its place, was
restored from a backup or belongs to a lagging standby: the same sequences name other entries now.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from token_service.core.revocation.log import LogHead
from token_service.tokens.revocation import Cursor, Revocation

logger = logging.getLogger(__name__)


class AnotherLogError(Exception):
    """The log has another entry at the sequence that was applied last."""


def continues(head: LogHead, before: Cursor, newest: float | None) -> bool:
    """Tell whether a head belongs to the log that the replica followed before the head was read."""
    if head.epoch != before.epoch or head.sequence < before.sequence:
        return False
    return head.sequence > before.sequence or not differ(head.newest, newest)


def differ(one: float | None, other: float | None) -> bool:
    """Tell whether two times are known and differ."""
    return one is not None and other is not None and one != other


def contiguous(entries: Sequence[Revocation]) -> Sequence[Revocation]:
    """Return the longest run without a gap that begins at the first entry."""
    for number, entry in enumerate(entries):
        if entry.sequence != entries[0].sequence + number:
            return entries[:number]
    return entries


def report_change(head: LogHead, before: Cursor) -> None:
    """Log that this node follows another log now, and what an operator must do about a restored log."""
    if head.epoch == before.epoch:
        logger.error(
            "the revocation log was followed up to %s, but is another log now and ends at %d: the database was restored "
            "from a backup, or failed over to a lagging standby; run `token-service log renew`, until then tokens "
            "issued and revocations made since may be judged wrongly",
            before,
            head.sequence,
        )
    else:
        level = logging.WARNING if before.epoch else logging.INFO
        logger.log(level, "following the revocation log %s:%d after %s", head.epoch, head.sequence, before)
