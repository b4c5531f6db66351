"""Whether the log in the database is still the one that this node followed.

Entries never disappear. A log that ends before the last applied entry, or has another entry in its place, was restored
from a backup or belongs to a standby that was behind: the same sequences mean other entries now.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from token_service.core.revocation.log import LogHead
from token_service.tokens.revocation import Cursor, Revocation

logger = logging.getLogger(__name__)


class AnotherLogError(Exception):
    """What was applied last is another entry there."""


def continues(head: LogHead, before: Cursor, newest: float | None) -> bool:
    """Whether a head is of the log the replica followed before the head was read.

    Entries don't go away: a log that ends before what was applied, or with another entry, is one restored
    from a backup, in which the same sequences come to mean other entries.
    """
    if head.epoch != before.epoch or head.sequence < before.sequence:
        return False
    return head.sequence > before.sequence or not differ(head.newest, newest)


def differ(one: float | None, other: float | None) -> bool:
    """Whether two times are known and not the same."""
    return one is not None and other is not None and one != other


def contiguous(entries: Sequence[Revocation]) -> Sequence[Revocation]:
    """The longest run without a gap from the first entry on."""
    for number, entry in enumerate(entries):
        if entry.sequence != entries[0].sequence + number:
            return entries[:number]
    return entries


def report_change(head: LogHead, before: Cursor) -> None:
    """Log that this node follows another log now, and what an operator has to do about a restored one."""
    if head.epoch == before.epoch:
        logger.error(
            "the revocation log is not the one that was followed up to %s, but ends at %d: the database was restored from a "
            "backup, or failed over to a standby that was behind; run `token-service log renew`, until then tokens issued "
            "and revocations made since may be judged wrongly",
            before,
            head.sequence,
        )
    else:
        level = logging.WARNING if before.epoch else logging.INFO
        logger.log(level, "following the revocation log %s:%d after %s", head.epoch, head.sequence, before)
