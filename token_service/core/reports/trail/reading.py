"""Reads the events of a time range, chain by chain, and verifies the part of each chain that it reads.

The verification finds every changed, removed, moved and inserted row between the first and the last event of the range
in a chain. It does not find a removed chain, or rows that were cut off from both ends of what it reads: the verification
of the whole trail does (`core.events.verification`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from token_service.core.events.chain import AuditKeys, AuditRow, commitment, mac_of, personal_of
from token_service.core.events.checkpoint import Place
from token_service.core.events.event import Category
from token_service.core.events.store import AuditStore, ChainExtent
from token_service.core.reports.trail.period import Period

MAX_FINDINGS: Final = 100
_PAGE: Final = 2000
_ATTEMPTS: Final = 3
_ROUTINE: Final = Category.ROUTINE.value

Take = Callable[[AuditRow], None]
Show = Callable[[int, int], None]
"""Is called with the number of events that are read, and with that of all."""


@dataclass(frozen=True, slots=True)
class ReadChain:
    """The part of a chain that was read: positions `first` to `last`, with `events` in the range."""

    chain_id: str
    first: int
    last: int
    mac: str
    """The MAC of the last row in hexadecimal digits."""
    events: int
    verified: bool


@dataclass(slots=True)
class TrailRead:
    """The result of a reading."""

    chains: list[ReadChain] = field(default_factory=list)
    events: int = 0
    erased: int = 0
    """Events whose personal fields were erased."""
    routine: int = 0
    """Routine events, such as issued tokens."""
    findings: list[str] = field(default_factory=list)
    cut: list[str] = field(default_factory=list)
    """Chains of which the retention has deleted the row before the first event of the range."""

    @property
    def is_intact(self) -> bool:
        """Whether every chain verifies."""
        return all(chain.verified for chain in self.chains)

    def add(self, finding: str) -> None:
        """Add a finding, unless there are `MAX_FINDINGS`."""
        if len(self.findings) < MAX_FINDINGS:
            self.findings.append(finding)


def show_nothing(_done: int, _total: int) -> None:
    """Show no progress."""


async def read(
    store: AuditStore, period: Period, make_take: Callable[[], Take], show: Show = show_nothing
) -> TrailRead:
    """Pass each event of the range to the function that `make_take` returns, in the order of chains and positions.

    Starts again with another function if the retention deletes rows meanwhile. Raises `ConfigurationError` without
    an audit key, `StoreUnavailableError`.
    """
    for _ in range(_ATTEMPTS - 1):
        run = _Run(store, period, make_take(), show)
        result = await run.read()
        if result.is_intact or not await run.was_cut_meanwhile():
            return result
    return await _Run(store, period, make_take(), show).read()


class _Run:
    """One pass over the range."""

    def __init__(self, store: AuditStore, period: Period, take: Take, show: Show) -> None:
        self._store = store
        self._period = period
        self._take = take
        self._show = show
        self._keys: AuditKeys = store.keys
        self._result = TrailRead()
        self._extents: list[ChainExtent] = []

    async def read(self) -> TrailRead:
        self._extents = await self._find()
        total = sum(extent.events for extent in self._extents)
        noted = await self._store.chains()
        for extent in self._extents:
            await self._chain(extent, noted.get(extent.chain_id), total)
        return self._result

    async def was_cut_meanwhile(self) -> bool:
        """Tell whether the retention has deleted rows that were to be read."""
        cuts, noted = await _cuts(self._store), await self._store.chains()
        no_cut = Place(0, "")
        return any(
            extent.chain_id not in noted or extent.first <= cuts.get(extent.chain_id, no_cut).position
            for extent in self._extents
        )

    async def _find(self) -> list[ChainExtent]:
        """Return the extents, of one day after the other, so that no statement takes long."""
        found: dict[str, ChainExtent] = {}
        for start, end in self._period.days():
            for each in await self._store.extents(start, end):
                known = found.get(each.chain_id, each)
                events = each.events if known is each else known.events + each.events
                found[each.chain_id] = ChainExtent(
                    each.chain_id, min(known.first, each.first), max(known.last, each.last), events
                )
        return [found[chain_id] for chain_id in sorted(found)]

    async def _chain(self, extent: ChainExtent, noted: Place | None, total: int) -> None:
        result, chain_id = self._result, extent.chain_id
        start, end = self._period.start, self._period.end
        findings, before = len(result.findings), result.events
        known = await self._before(extent)
        position = extent.first - 1
        while position < extent.last:
            page = await self._store.rows(chain_id, position, min(_PAGE, extent.last - position))
            for row in page:
                if row.position > extent.last:
                    break
                if row.position != position + 1:
                    self._missing(chain_id, position + 1, row.position - 1)
                    known = None  # the MAC of this row can't be checked
                self._check(row, known)
                position, known = row.position, row.mac
                if start <= row.time < end:
                    result.events += 1
                    result.erased += row.is_erased
                    result.routine += row.category == _ROUTINE
                    self._take(row)
            else:
                self._show(result.events, total)
                if page:
                    continue
            self._missing(chain_id, position + 1, extent.last)
            break
        mac = known or b""  # of the last row
        await self._after(chain_id, position, mac, noted)
        result.chains.append(
            ReadChain(
                chain_id,
                extent.first,
                position,
                mac.hex(),
                result.events - before,
                len(result.findings) == findings,
            )
        )

    async def _before(self, extent: ChainExtent) -> bytes | None:
        """Return the MAC that the first row follows; None if it is not known."""
        if extent.first == 1:
            return b""
        row = next(iter(await self._store.rows(extent.chain_id, extent.first - 2, 1)), None)
        if row is not None and row.position == extent.first - 1:
            return row.mac
        cut = (await _cuts(self._store)).get(extent.chain_id)
        if cut is not None and cut.position == extent.first - 1:
            self._result.cut.append(extent.chain_id)
            return bytes.fromhex(cut.mac)
        self._missing(extent.chain_id, extent.first - 1, extent.first - 1)
        return None

    async def _after(self, chain_id: str, position: int, mac: bytes, noted: Place | None) -> None:
        """Check that the last row is followed by the next one, or is the noted end of its chain."""
        row = next(iter(await self._store.rows(chain_id, position, 1)), None)
        if row is not None:
            if row.position == position + 1:
                self._check(row, mac)
            else:
                self._missing(chain_id, position + 1, row.position - 1)
        elif noted is not None and noted.position > position:
            self._missing(chain_id, position + 1, noted.position)
        elif noted is None or (noted.position == position and noted.mac != mac.hex()):
            self._result.add(f"{chain_id}:{position} is not the event that is noted as the end of the chain")

    def _check(self, row: AuditRow, previous: bytes | None) -> None:
        if previous is not None:
            mac = mac_of(row, previous, self._keys)
            if mac is None:
                self._find_at(row, f"has the audit key {row.key_version}, which is not configured")
            elif mac != row.mac:
                self._find_at(row, "was changed, or is not in its place")
        if row.salt is None:
            if any(personal_of(row)):
                self._find_at(row, "has personal fields that were changed after their erasure")
        elif commitment(row.salt, personal_of(row)) != row.personal_hash:
            self._find_at(row, "has changed personal fields")

    def _find_at(self, row: AuditRow, problem: str) -> None:
        self._result.add(f"{row.chain_id}:{row.position} {problem}")

    def _missing(self, chain_id: str, first: int, last: int) -> None:
        self._result.add(f"{chain_id} lacks the events {first} to {last}")


async def _cuts(store: AuditStore) -> Mapping[str, Place]:
    """Return the last rows that the retention has deleted, by chain."""
    found: Mapping[str, Place] = {}
    after = 0
    while page := await store.checkpoints(after, _PAGE):
        found = next((each.cuts for each in reversed(page) if each.full), found)
        after = page[-1].number
    return found
