"""The last entries of the log that this node knows, to write them again if a failover lost them.

Invariant: a node proves nothing about a log that continues an earlier one under another name before the log has every
live entry that the node remembers of the earlier one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final, TypeAlias

from token_service.core.events.event import Actor
from token_service.core.revocation.drafts import REMEMBER, event_of
from token_service.core.revocation.log import LogHead, RevocationDraft
from token_service.tokens.revocation import Revocation, RevocationTarget

CAPACITY: Final = 50_000
"""Entries that a node remembers: the most that it can write again."""

_ACTOR: Final = Actor.system("failover")
_COMMENT: Final = "written again: the failover had lost it"

_FLOORS: Final = frozenset({RevocationTarget.SUBJECT, RevocationTarget.CLIENT, RevocationTarget.EVERYTHING})

_Identity: TypeAlias = tuple[RevocationTarget, str, float]


class LostEntries:
    """Entries of earlier logs that were not found in the log so far."""

    def __init__(self, last: Mapping[str, int], entries: Iterable[Revocation] = ()) -> None:
        self.last: Final = last
        """The last sequence that was remembered of each earlier log."""
        self._entries: Final = {_identity(entry): entry for entry in entries}

    def __len__(self) -> int:
        return len(self._entries)

    def found(self, entry: Revocation) -> None:
        """Take note that the log has an entry, perhaps at another sequence."""
        self._entries.pop(_identity(entry), None)

    def take(self, limit: int) -> Sequence[RevocationDraft]:
        """Remove up to `limit` entries, and return drafts that revoke what they revoked.

        Those of a subject, a client or everything also revoke the tokens that were issued since.
        """
        taken = list(self._entries)[:limit]
        return [_draft(self._entries.pop(identity)) for identity in taken]


class KnownEntries:
    """Remembers the last entries of the logs that this node followed."""

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._capacity: Final = capacity
        self._logs: Final[dict[str, dict[int, Revocation]]] = {}
        self._count = 0

    def note(self, epoch: str, entries: Iterable[Revocation]) -> None:
        """Remember entries of a log, and forget the oldest ones above the capacity."""
        log = self._logs.setdefault(epoch, {})
        before = len(log)
        log.update((entry.sequence, entry) for entry in entries)
        self._count += len(log) - before
        while self._count > self._capacity:
            oldest = next(iter(self._logs.values()))
            del oldest[next(iter(oldest))]
            self._count -= 1
            self._drop_empty()

    def of_earlier_logs(self, head: LogHead) -> LostEntries:
        """Return the remembered entries that the log of `head` must have, because it continues their log.

        A renewed log continues above all sequences of the earlier one. Entries that have expired, or that the renewal
        made superfluous, are not returned. The revocation of a key is never superfluous, because a token that is signed
        with a stolen key may claim any time of issue.
        """
        last = {
            epoch: max(log)
            for epoch, log in self._logs.items()
            if epoch != head.epoch and log and max(log) < head.sequence
        }
        return LostEntries(
            last,
            [
                entry
                for epoch in last
                for entry in self._logs[epoch].values()
                if entry.expire_time > head.read_time
                and (entry.sequence > head.compacted or entry.target is RevocationTarget.KEY)
            ],
        )

    def forget(self, lost: LostEntries) -> None:
        """Forget entries of earlier logs, which the log has now."""
        for epoch, last in lost.last.items():
            log = self._logs.get(epoch, {})
            for sequence in [sequence for sequence in log if sequence <= last]:
                del log[sequence]
                self._count -= 1
        self._drop_empty()

    def _drop_empty(self) -> None:
        for epoch in [epoch for epoch, log in self._logs.items() if not log]:
            del self._logs[epoch]


def _identity(entry: Revocation) -> _Identity:
    return entry.target, entry.value, entry.revoke_time


def _draft(entry: Revocation) -> RevocationDraft:
    draft = RevocationDraft(
        target=entry.target,
        value=entry.value,
        revoke_time=entry.revoke_time,
        expire_time=entry.expire_time,
        # A subject, client or everything is revoked for the tokens issued until now, so it must be kept for these.
        remember=REMEMBER if entry.target in _FLOORS else None,
        reason=entry.reason,
        comment=_COMMENT,
        token_expire_time=entry.token_expire_time,
        restored=True,
    )
    return replace(draft, event=event_of(draft, _ACTOR))
