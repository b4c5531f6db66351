"""Renewal of the revocation log after its database returned to an earlier state.

A database that is restored from a backup, or that fails over to a lagging standby, has lost the last entries
of the log and gives their sequences to other entries. Tokens issued in the lost period carry a `rev` above the
head of the log, so an entry appended there would not revoke them.

The log therefore continues under another name at a sequence above the `rev` of every token: the microseconds
since the Unix epoch. A log that grows by fewer than a million entries a second, from 0 or from its last
renewal, stays below that number at all times. This holds for the lost part of its history too, even if the log
was renewed there. The renewed log begins with an entry that revokes everything. The usual exact comparison of
sequences separates tokens issued before from tokens issued after.

If no acknowledged entry was lost, the log continues in the same way and keeps its entries. An entry that a
reader saw before its commit was acknowledged may still be lost; its sequence must never name another entry.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import inf
from typing import Final

from msgspec import structs

from token_service.core.entropy import Entropy
from token_service.core.events.audit import Audit
from token_service.core.events.event import Action, Actor, AuditEvent, Target
from token_service.core.revocation.drafts import draft_of
from token_service.core.revocation.log import LogHead, RevocationLog
from token_service.errors import ConfigurationError
from token_service.tokens.base64url import encode
from token_service.tokens.revocation import MAX_LEEWAY, Cursor, RevocationReason, RevocationTarget

MAX_SEQUENCE: Final = 2**53 - 1
"""The highest sequence: numbers of JSON (`rev`) and of Redis are exact up to this value."""
JUMP: Final = 2**32
"""Sequences that a renewal skips if the log is ahead of the clock."""
_ROOM: Final = 2**50
"""Entries that must fit after a renewal: a million a second for 35 years."""
_EPOCH_BYTES: Final = 12


@dataclass(frozen=True, slots=True)
class Renewal:
    """The heads of the log before and after a renewal."""

    before: Cursor
    after: Cursor


class LogChangedError(Exception):
    """The log was changed or renewed before this renewal took effect."""


async def renew_log(
    log: RevocationLog,
    head: LogHead,
    now: float,
    entropy: Entropy,
    audit: Audit,
    actor: Actor,
    *,
    nothing_lost: bool = False,
    keep: bool = False,
) -> Renewal:
    """Renew the log that `head` was read from, on behalf of `actor`.

    The renewal revokes all earlier tokens and sessions. With `nothing_lost` it revokes nothing: the entries of
    the log stay in force under its new name. So does `keep`, for a log that may have lost entries; running nodes then
    write again those that they know.

    Raises `LogChangedError` if the log was renewed meanwhile, `ConfigurationError` if a clock can't be right,
    `StoreUnavailableError` (the log may be renewed; read the head).
    """
    apart = abs(now - head.read_time)
    if MAX_LEEWAY < apart < inf:
        raise ConfigurationError(
            f"the clocks of this machine and of the database are {apart:.0f} s apart; set them, then renew the log"
        )
    keep = keep or nothing_lost
    before = Cursor(head.epoch, head.sequence)
    draft = draft_of(
        RevocationTarget.TOKEN_ID if keep else RevocationTarget.EVERYTHING,
        encode(entropy(_EPOCH_BYTES)) if keep else "",  # the id of no token
        now,
        reason=RevocationReason.ADMINISTRATIVE,
        comment=f"the log was renewed; it was {before}",
    )
    event = AuditEvent(
        action=Action.LOG_RENEWED,
        actor=actor,
        target=Target("log"),
        fields={"before": str(before), "nothing_lost": nothing_lost},
    )
    after = await log.renew(
        replace(draft, event=event),
        replaces=head.epoch,
        epoch=encode(entropy(_EPOCH_BYTES)),
        sequence=next_start(head.sequence, now),
        keep=keep,
    )
    if after is None:
        raise LogChangedError
    renewal = Renewal(before, Cursor(after.epoch, after.sequence))
    audit.record(structs.replace(event, fields={**event.fields, "after": str(renewal.after)}))
    return renewal


def next_start(sequence: int, now: float) -> int:
    """Return the sequence at which to renew a log that is at `sequence`.

    Raises `ConfigurationError` if too few sequences would remain above it.
    """
    start = round(now * 1_000_000)
    if start <= sequence:
        # The clock is behind now, or was ahead at the last renewal. Jump only in this case: the clock does not
        # pass a log that is ahead of it at the next renewal either.
        start = sequence + JUMP
    if start > MAX_SEQUENCE - _ROOM:
        raise ConfigurationError(
            f"the log can't be renewed at {start}: the clock, which says {now:.0f} seconds since 1970, or the database is wrong"
        )
    return start
