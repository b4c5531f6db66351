"""The stored audit trail in the memory of one process, for tests."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import ClassVar, Final

from msgspec import structs

from token_service.clock import Clock
from token_service.core.events.chain import PERSONAL, SALT_BYTES, AuditKeys, AuditRow, mac_of, row_of
from token_service.core.events.checkpoint import Checkpoint, Place
from token_service.core.events.event import Action, Actor, AuditEvent, Category, Target
from token_service.core.events.store import AuditFilter, AuditPosition, ChainExtent, cursor_of
from token_service.core.subscribers.samples import CursorSample
from token_service.telemetry.fields import without_tokens
from token_service.tokens.revocation import Cursor, Revocation
from token_service.tokens.secret import Secret

AUDIT_KEYS: Final = AuditKeys([Secret(b"a" * 32)])


class MemoryAuditStore:
    """Implements `core.events.store.AuditStore`. `chain_id` names the chain of the next events."""

    keys: ClassVar[AuditKeys] = AUDIT_KEYS

    def __init__(self, clock: Clock) -> None:
        self._clock: Final = clock
        self.chain_id = "memory"
        self.announces_routine = False
        self.renewals = 0
        """Renewals of the revocation log."""
        self.by_place: dict[tuple[str, int], AuditRow] = {}
        self.ends: dict[str, Place] = {}
        self.named: dict[str, int] = {}
        self.written: list[Checkpoint] = []
        self.outbox: list[tuple[float, str, str, int]] = []
        """The time, the type and the place of each event that is not in the event log yet."""

    def add(self, events: Sequence[AuditEvent]) -> None:
        """Write the rows of events as a part of another change."""
        for event in events:
            last = self.ends.get(self.chain_id, Place(0, ""))
            now = round(self._clock.now() * 1_000_000)
            salt = secrets.token_bytes(SALT_BYTES)
            row = row_of(
                event, self.chain_id, last.position + 1, now, salt, self.keys.version, clean=without_tokens
            )
            mac = mac_of(row, bytes.fromhex(last.mac), self.keys)
            assert mac is not None
            self.by_place[row.chain_id, row.position] = structs.replace(row, mac=mac)
            self.ends[self.chain_id] = Place(row.position, mac.hex())
            if self.announces_routine or event.action.category is not Category.ROUTINE:
                self.outbox.append((self._clock.now(), row.action, row.chain_id, row.position))

    def announce_routine(self, announce: bool, /) -> None:  # noqa: FBT001 - as in the port
        """See `AuditStore.announce_routine`."""
        self.announces_routine = announce

    async def append(self, events: Sequence[AuditEvent]) -> None:
        """See `AuditStore.append`."""
        self.add(events)

    async def list(
        self, where: AuditFilter, *, limit: int, after: AuditPosition | None
    ) -> Sequence[AuditRow]:
        """See `AuditStore.list`."""
        wanted = [
            ("actor_name", where.actor),
            ("subject", where.subject),
            ("session_id", where.session_id),
            ("client_id", where.client_id),
            ("target_kind", where.target_kind),
            ("target_id", where.target_id),
        ]
        rows = [
            row
            for row in self.by_place.values()
            if all(not value or getattr(row, name) == value for name, value in wanted)
            and (not where.actions or row.action in where.actions)
            and (where.since is None or row.time >= round(where.since * 1_000_000))
            and (where.until is None or row.time < round(where.until * 1_000_000))
            and (after is None or _place(row) < (after.time, after.chain_id, after.position))
        ]
        return sorted(rows, key=_place, reverse=True)[:limit]

    async def of_entries(self, epoch: str, entries: Sequence[Revocation]) -> Mapping[int, AuditRow]:
        """See `AuditStore.of_entries`."""
        rows = {cursor_of(row): row for row in self.by_place.values()}
        places = {entry.sequence: Cursor(epoch, entry.sequence) for entry in entries}
        return {sequence: rows[cursor] for sequence, cursor in places.items() if cursor in rows}

    async def rows(self, chain_id: str, after: int, limit: int) -> Sequence[AuditRow]:
        """See `AuditStore.rows`."""
        return self._of(chain_id, after)[:limit]

    async def extents(self, since: int, until: int) -> Sequence[ChainExtent]:
        """See `AuditStore.extents`."""
        found: dict[str, list[int]] = {}
        for row in self.by_place.values():
            if since <= row.time < until:
                found.setdefault(row.chain_id, []).append(row.position)
        return [
            ChainExtent(chain_id, min(positions), max(positions), len(positions))
            for chain_id, positions in sorted(found.items())
        ]

    async def histogram(
        self, actions: Sequence[str], since: int, until: int, width: int
    ) -> Mapping[tuple[str, int], int]:
        """See `AuditStore.histogram`."""
        return Counter(
            (row.action, row.time // width)
            for row in self.by_place.values()
            if since <= row.time < until and row.action in actions
        )

    async def chains(self) -> dict[str, Place]:
        """See `AuditStore.chains`."""
        return dict(self.ends)

    async def chains_of_rows(self) -> Sequence[str]:
        """See `AuditStore.chains_of_rows`."""
        return sorted({chain_id for chain_id, _ in self.by_place})

    async def checkpoints(self, after: int, limit: int) -> Sequence[Checkpoint]:
        """See `AuditStore.checkpoints`."""
        return [each for each in self.written if each.number > after][:limit]

    async def checkpoint(self, now: float, *, full: bool = False) -> Checkpoint | None:
        """See `AuditStore.checkpoint`."""
        full = full or not self.written
        return self._checkpoint(now, self._cuts() if full else {}, full=full)

    async def prune(self, before: float, checkpoints_before: float, now: float, limit: int) -> int:
        """See `AuditStore.prune`."""
        cuts, deleted = dict(self._cuts()), 0
        for chain_id in sorted(self.ends):
            rows = self._of(chain_id, 0)
            for row in rows[: limit - deleted]:
                if row.time >= round(before * 1_000_000):
                    break
                del self.by_place[chain_id, row.position]
                cuts[chain_id] = Place(row.position, row.mac.hex())
                deleted += 1
            if rows and not self._of(chain_id, 0):
                del self.ends[chain_id], cuts[chain_id]
        if deleted:
            self._checkpoint(now, cuts, full=True)
        old = [
            each.number for each in self.written if each.full and each.create_time < checkpoints_before * 1e6
        ]
        self.written = [each for each in self.written if not old or each.number >= old[-1]]
        return deleted

    async def erase(self, actor: Actor, subject: str) -> int:
        """See `AuditStore.erase`."""
        sessions = {row.session_id for row in self.by_place.values() if row.subject == subject} - {""}
        places = [
            place
            for place, row in self.by_place.items()
            if (subject in {row.subject, row.on_behalf_of} or row.session_id in sessions)
            and not row.is_erased
        ]
        for place in places:
            self.by_place[place] = structs.replace(
                self.by_place[place], salt=None, **dict.fromkeys(PERSONAL, "")
            )
        if places:
            event = AuditEvent(
                action=Action.AUDIT_ERASED, actor=actor, target=Target("audit"), fields={"rows": len(places)}
            )
            self.add([event])
        return len(places)

    def _of(self, chain_id: str, after: int) -> Sequence[AuditRow]:
        return [
            row
            for (chain, position), row in sorted(self.by_place.items())
            if chain == chain_id and position > after
        ]

    def _cuts(self) -> dict[str, Place]:
        return next((dict(each.cuts) for each in reversed(self.written) if each.full), {})

    def _checkpoint(self, now: float, cuts: dict[str, Place], *, full: bool) -> Checkpoint | None:
        heads = {
            chain_id: place
            for chain_id, place in self.ends.items()
            if full or self.named.get(chain_id) != place.position
        }
        if not (heads or full):
            return None
        signed = Checkpoint(
            number=self.written[-1].number + 1 if self.written else 1,
            create_time=round(now * 1_000_000),
            full=full,
            heads=heads,
            cuts=cuts,
            key_version=self.keys.version,
            previous_mac=self.written[-1].mac if self.written else "",
        ).signed(self.keys)
        assert signed is not None
        self.written.append(signed)
        self.named.update({chain_id: place.position for chain_id, place in heads.items()})
        return signed


def _place(row: AuditRow) -> tuple[int, str, int]:
    return row.time, row.chain_id, row.position


class MemorySampleStore:
    """Implements `core.subscribers.samples.SampleStore`."""

    def __init__(self) -> None:
        self.samples: list[CursorSample] = []

    async def add(self, samples: Sequence[CursorSample]) -> None:
        """See `SampleStore.add`."""
        known = {(each.time, each.subscriber) for each in self.samples}
        self.samples += [each for each in samples if (each.time, each.subscriber) not in known]

    async def first(self, epoch: str, sequence: int, since: float, until: float) -> Sequence[CursorSample]:
        """See `SampleStore.first`."""
        found: dict[str, CursorSample] = {}
        for each in sorted(self.samples, key=lambda sample: sample.time):
            if each.epoch == epoch and each.sequence >= sequence and since <= each.time < until:
                found.setdefault(each.subscriber, each)
        return [found[name] for name in sorted(found)]

    async def purge(self, before: float, limit: int) -> int:
        """See `SampleStore.purge`."""
        gone = sorted((each for each in self.samples if each.time < before), key=lambda each: each.time)[
            :limit
        ]
        self.samples = [each for each in self.samples if each not in gone]
        return len(gone)
