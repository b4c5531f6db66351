"""Renewing the revocation log, after its database went back to an earlier state.

A database that is restored from a backup, or that fails over to a standby that was behind, has forgotten the
last entries of the log and gives their sequences to other ones. Tokens issued in the time that is forgotten
carry a `rev` that the log has yet to reach, so nothing appended there would hit them.

The log therefore goes on, under another name, at a sequence that no token can have seen: the microseconds
since the Unix epoch. A log that grows by fewer than a million entries a second, from 0 or from its last
renewal, is below that at any time, in whatever part of its history that was forgotten; also in one in which
it was renewed before. There the log begins with an entry that revokes everything, and what was issued before
is told from what is issued after by an exact comparison of sequences, as ever.

Where nothing was lost that had been acknowledged, the log goes on in the same way and keeps its entries. What
may be lost then is an entry that was seen before its commit was acknowledged; a sequence must not come to
mean another entry for whoever saw it.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import Final

from token_service.core.entropy import Entropy
from token_service.core.events.audit import Audit
from token_service.core.revocation.drafts import draft_of
from token_service.core.revocation.log import LogHead, RevocationLog
from token_service.errors import ConfigurationError
from token_service.tokens.base64url import encode
from token_service.tokens.revocation import MAX_LEEWAY, Cursor, RevocationReason, RevocationTarget

MAX_SEQUENCE: Final = 2**53 - 1
"""Sequences are numbers of JSON (`rev`) and of Redis, which are exact up to here."""
JUMP: Final = 2**32
"""Entries the log jumps over should its sequence be ahead of the clock."""
_ROOM: Final = 2**50
"""Entries that must fit behind a renewal: a million a second for 35 years."""
_EPOCH_BYTES: Final = 12


@dataclass(frozen=True, slots=True)
class Renewal:
    """What a renewal did."""

    before: Cursor
    after: Cursor


class LogChangedError(Exception):
    """The log is not the one that was to be renewed."""


async def renew_log(
    log: RevocationLog,
    head: LogHead,
    now: float,
    entropy: Entropy,
    audit: Audit,
    *,
    nothing_lost: bool = False,
) -> Renewal:
    """Renew the log that `head` was read from.

    Everything issued until then is revoked with it, sessions included. With `nothing_lost` nothing is: the
    entries of the log stay in force under its new name.

    Raises `LogChangedError` if it was renewed meanwhile, `ConfigurationError` if a clock can't be right,
    `StoreUnavailableError` (it may have happened; look at the head).
    """
    apart = abs(now - head.read_time)
    if MAX_LEEWAY < apart < inf:
        raise ConfigurationError(
            f"the clocks of this machine and of the database are {apart:.0f} s apart; set them, then renew the log"
        )
    before = Cursor(head.epoch, head.sequence)
    draft = draft_of(
        RevocationTarget.TOKEN_ID if nothing_lost else RevocationTarget.EVERYTHING,
        encode(entropy(_EPOCH_BYTES)) if nothing_lost else "",  # the id of no token
        now,
        reason=RevocationReason.ADMINISTRATIVE,
        comment=f"the log was renewed; it was {before}",
    )
    after = await log.renew(
        draft,
        replaces=head.epoch,
        epoch=encode(entropy(_EPOCH_BYTES)),
        sequence=next_start(head.sequence, now),
        keep=nothing_lost,
    )
    if after is None:
        raise LogChangedError
    renewal = Renewal(before, Cursor(after.epoch, after.sequence))
    audit.record(
        "log.renewed", before=str(renewal.before), after=str(renewal.after), nothing_lost=nothing_lost
    )
    return renewal


def next_start(sequence: int, now: float) -> int:
    """Where to renew a log that is at `sequence`.

    Raises `ConfigurationError` if that leaves no room for what follows.
    """
    start = round(now * 1_000_000)
    if start <= sequence:
        # By a clock that is behind, or was ahead. (Never without need: what is ahead of the clock is not
        # beaten by it the next time.)
        start = sequence + JUMP
    if start > MAX_SEQUENCE - _ROOM:
        raise ConfigurationError(
            f"the log can't be renewed at {start}: the clock, which says {now:.0f} seconds since 1970, or the database is wrong"
        )
    return start
