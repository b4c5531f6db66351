"""Cursors neither skip nor go back within an epoch."""

from __future__ import annotations

from tests.faults.campaign.checks.finding import Finding, Surroundings
from tests.faults.campaign.history import Record, from_ranges


def _parse(cursor: str) -> tuple[str, int]:
    epoch, _, sequence = cursor.rpartition(":")
    return epoch, int(sequence)


class Cursors:
    """Judges the messages of streams and the cursors of validators."""

    def __init__(self, surroundings: Surroundings) -> None:
        self._surroundings = surroundings
        self._streams: dict[str, tuple[str, int]] = {}
        """Cursor of each consumer's stream."""
        self._snapshots: dict[str, tuple[str, int] | None] = {}
        """Cursor of each consumer before the snapshot that it is receiving."""
        self._validators: dict[str, tuple[float, str, int]] = {}
        self._found: list[Finding] = []
        self.messages = 0

    def feed(self, record: Record) -> None:
        """Take a record."""
        if record["k"] == "stream":
            self.messages += 1
            self._stream(record)
        elif record["k"] == "connect":
            self._snapshots.pop(record["v"], None)
        elif record["k"] == "started":
            for name in record.get("names", ()):
                self._validators.pop(name, None)
        elif record["k"] == "pass":
            self._validator(record)

    def findings(self) -> list[Finding]:
        """Return the findings so far."""
        return list(self._found)

    def _stream(self, record: Record) -> None:
        name = record["v"]
        if record["reset"]:
            self._snapshots[name] = self._streams.pop(name, None)
        entries = from_ranges(record["entries"])
        known = self._streams.get(name)
        if known is not None:
            expected = list(range(known[1] + 1, known[1] + 1 + len(entries)))
            if list(entries) != expected:
                self._add(
                    record, "a stream skipped entries", f"entries {record['entries']} followed {known[1]}"
                )
        if not record["cursor"]:
            return
        epoch, sequence = _parse(record["cursor"])
        if known is not None:
            if epoch != known[0]:
                self._add(record, "a stream changed its epoch without a reset", f"{known[0]} to {epoch}")
            elif sequence != known[1] + len(entries):
                self._add(
                    record,
                    "a cursor does not fit its entries",
                    f"{record['entries'] or 'no entries'} with cursor {sequence} followed {known[1]}",
                )
        elif name in self._snapshots:
            before = self._snapshots.pop(name)
            if before is not None and before[0] == epoch and sequence < before[1]:
                self._add(record, "a snapshot goes back within its epoch", f"{before[1]} to {sequence}")
        self._streams[name] = (epoch, sequence)

    def _validator(self, record: Record) -> None:
        for cursor, *_, began, ended in (record["s0"], record["s1"]):
            if not cursor:
                continue
            epoch, sequence = _parse(cursor)
            known = self._validators.get(record["v"])
            # Several threads read one validator: a read is later only if it began after the other had ended.
            if known is not None and began < known[0]:
                continue
            if known is not None and epoch == known[1] and sequence < known[2]:
                self._add(
                    record, "a validator's cursor went back within its epoch", f"{known[2]} to {sequence}"
                )
            self._validators[record["v"]] = (ended, epoch, sequence)

    def _add(self, record: Record, kind: str, text: str) -> None:
        at = record.get("at") or record["e"]
        self._found.append(
            Finding(kind, f"{record['v']}: {text}\n" + self._surroundings.around(at - 5, at + 1, at))
        )
