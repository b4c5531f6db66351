"""Verification of the stored audit trail.

Finds every changed, removed, reordered and inserted row, a removed chain, and a changed or removed checkpoint. A removal
of the last rows of a chain together with every checkpoint that names them is found only with a checkpoint that was
exported after the rows were written.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

import msgspec

from token_service.core.events.chain import AuditKeys, AuditRow, commitment, mac_of, personal_of
from token_service.core.events.checkpoint import Checkpoint, Place
from token_service.core.events.event import Action
from token_service.core.events.store import AuditStore

_PAGE: Final = 500
_ATTEMPTS: Final = 3
MAX_FINDINGS: Final = 100
"""Findings that a verification reports."""

_decode: Final = msgspec.json.Decoder().decode


@dataclass(frozen=True, slots=True)
class Finding:
    """A place where the trail is not as it was written."""

    place: str
    """`CHAIN:POSITION`, or `checkpoint NUMBER`."""
    problem: str

    def __str__(self) -> str:
        return f"{self.place}: {self.problem}"


@dataclass(slots=True)
class Verification:
    """The result of a verification."""

    events: int = 0
    chains: int = 0
    checkpoints: int = 0
    erased: int = 0
    """Rows whose personal fields were erased."""
    findings: list[Finding] = field(default_factory=list)

    @property
    def is_intact(self) -> bool:
        """Whether nothing was found."""
        return not self.findings

    def add(self, place: str, problem: str) -> None:
        """Add a finding, unless there are `MAX_FINDINGS`."""
        if len(self.findings) < MAX_FINDINGS:
            self.findings.append(Finding(place, problem))


async def verify(
    store: AuditStore, exported: Checkpoint | None = None, progress: Callable[[int], None] = lambda _: None
) -> Verification:
    """Verify the whole trail, and compare it with an exported checkpoint.

    `progress` is called with the number of events verified so far. Rows that are written meanwhile do not disturb. Raises
    `ConfigurationError` without a key, `StoreUnavailableError`.
    """
    for _ in range(_ATTEMPTS - 1):
        run = _Run(store, progress)
        result = await run.verify(exported)
        # The retention may have deleted rows after their cut was read.
        if result.is_intact or not await store.checkpoints(run.newest, 1):
            return result
    return await _Run(store, progress).verify(exported)


class _Run:
    """One pass over the trail."""

    def __init__(self, store: AuditStore, progress: Callable[[int], None]) -> None:
        self._store = store
        self._progress = progress
        self._keys: AuditKeys = store.keys
        self._result = Verification()
        self._heads: dict[str, Place] = {}
        self._cuts: dict[str, Place] = {}
        self._recorded_erasures = 0
        self.newest = 0
        """The number of the newest checkpoint that was read."""

    async def verify(self, exported: Checkpoint | None) -> Verification:
        same = await self._checkpoints(exported)
        expected: dict[str, list[Place]] = {chain_id: [place] for chain_id, place in self._heads.items()}
        if exported is not None:
            self._compare(exported, same, expected)
        # In this order: a row that is written meanwhile has its chain noted.
        with_rows = await self._store.chains_of_rows()
        noted = await self._store.chains()
        for chain_id in sorted({*with_rows, *noted, *expected}):
            await self._chain(chain_id, noted.get(chain_id), expected.get(chain_id, ()))
        result = self._result
        if result.erased > self._recorded_erasures:
            result.add(
                "personal fields",
                f"{result.erased} rows are erased, but only {self._recorded_erasures} erasures are recorded",
            )
        return result

    async def _checkpoints(self, exported: Checkpoint | None) -> Checkpoint | None:
        """Read and verify the checkpoints; return the one with the number of the exported one."""
        last: Checkpoint | None = None
        same: Checkpoint | None = None
        while page := await self._store.checkpoints(self.newest, _PAGE):
            for each in page:
                place = f"checkpoint {each.number}"
                self._result.checkpoints += 1
                if not _is_signed(each, self._keys):
                    self._result.add(place, "was changed, or its key is not configured")
                elif last is None:
                    if not each.full or (each.number == 1) != (each.previous_mac == ""):
                        self._result.add(place, "the checkpoints before it are missing")
                elif each.number != last.number + 1:
                    self._result.add(
                        place, f"the checkpoints {last.number + 1} to {each.number - 1} are missing"
                    )
                elif each.previous_mac != last.mac:
                    self._result.add(place, "does not follow the checkpoint before it")
                if each.full:
                    self._heads, self._cuts = dict(each.heads), dict(each.cuts)
                else:
                    self._heads.update(each.heads)
                if exported is not None and each.number == exported.number:
                    same = each
                last = each
                self.newest = each.number
        return same

    def _compare(
        self, exported: Checkpoint, same: Checkpoint | None, expected: dict[str, list[Place]]
    ) -> None:
        place = f"exported checkpoint {exported.number}"
        if not _is_signed(exported, self._keys):
            self._result.add(place, "was changed, or its key is not configured")
            return
        if same is not None and same != exported:
            self._result.add(place, "the stored checkpoint of this number is another one")
        if self.newest < exported.number:
            self._result.add(place, f"the checkpoints {self.newest + 1} to {exported.number} are missing")
        for chain_id, head in exported.heads.items():
            # A later checkpoint that does not name the chain says that the retention has deleted it.
            if chain_id in self._heads or self.newest <= exported.number:
                expected.setdefault(chain_id, []).append(head)

    async def _chain(self, chain_id: str, noted: Place | None, expected: list[Place] | tuple[()]) -> None:
        self._result.chains += 1
        cut = self._cuts.get(chain_id, Place(0, ""))
        missing = {each.position: each.mac for each in expected if each.position > cut.position}
        position, mac = cut.position, bytes.fromhex(cut.mac)
        known: bytes | None = mac
        after = 0
        while page := await self._store.rows(chain_id, after, _PAGE):
            for row in page:
                after = row.position
                place = f"{chain_id}:{row.position}"
                self._result.events += 1
                if row.position <= cut.position:
                    self._result.add(place, "was deleted by the retention, and exists again")
                    continue
                if row.position != position + 1:
                    self._result.add(place, f"the events {position + 1} to {row.position - 1} are missing")
                    known = None  # the MAC of this row can't be checked
                self._row(row, known, place)
                if missing.pop(row.position, row.mac.hex()) != row.mac.hex():
                    self._result.add(place, "is not the event that a checkpoint names")
                position, known = row.position, row.mac
            self._progress(self._result.events)
        end = f"{chain_id}:{position}"
        if noted is None:
            if position or expected:
                self._result.add(end, "the end of the chain is not noted")
        elif noted.position > position:
            self._result.add(end, f"the events {position + 1} to {noted.position} are missing")
        elif noted.position == position and known is not None and noted.mac != known.hex():
            self._result.add(end, "is not the event that is noted as the end of the chain")
        elif noted.position < max((each.position for each in expected), default=0):
            self._result.add(end, "the noted end of the chain was moved back")
        beyond = [each for each in missing if each > position]
        if beyond and (noted is None or noted.position <= position):
            self._result.add(end, f"the events {position + 1} to {max(beyond)} are missing")

    def _row(self, row: AuditRow, previous: bytes | None, place: str) -> None:
        if previous is not None:
            mac = mac_of(row, previous, self._keys)
            if mac is None:
                self._result.add(place, f"its audit key {row.key_version} is not configured")
            elif mac != row.mac:
                self._result.add(place, "was changed, or is not in its place")
        if row.is_erased:
            self._result.erased += 1
            if any(personal_of(row)):
                self._result.add(place, "its personal fields were changed after their erasure")
        elif row.salt is not None and commitment(row.salt, personal_of(row)) != row.personal_hash:
            self._result.add(place, "its personal fields were changed")
        if row.action == Action.AUDIT_ERASED:
            self._recorded_erasures += _rows_in(row.fields)


def _is_signed(checkpoint: Checkpoint, keys: AuditKeys) -> bool:
    signed = checkpoint.signed(keys)
    return signed is not None and signed.mac == checkpoint.mac


def _rows_in(fields: str) -> int:
    """Return the number of erased rows in the fields of an event; 0 if they were damaged."""
    try:
        members: Mapping[str, int] = _decode(fields)
        return int(members["rows"])
    except (msgspec.DecodeError, LookupError, TypeError, ValueError):
        return 0
