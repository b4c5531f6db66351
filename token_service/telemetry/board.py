"""The values of metrics in memory that the workers of a service share.

The parent makes one segment for each worker before it forks, so that every worker can read the values of all. A worker
writes into its own segment only. The memory outlives a worker that is killed: its successor goes on from the same
values, so counters never go back.

A segment has an array of numbers and a directory, which only grows: one entry for each series, with the place of its
numbers. An entry is written before the length of the directory includes it, and it has a checksum: a reader sees a whole
entry or none. An aligned number of eight bytes is read and written in one step. The values of a histogram change
one after the other, so a scrape may see the sum of one more measurement than the counts.
"""

from __future__ import annotations

import json
import logging
import mmap
import struct
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import nan
from typing import Final

logger = logging.getLogger(__name__)

_NUMBERS: Final = 65_536
_DIRECTORY: Final = 2 * 1024 * 1024
"""Bytes. The system gives a page of memory only once it is written."""
_NOWHERE: Final = 0
"""The place of what finds no room. The numbers there are never read."""
_BEAT: Final = 32
"""The place of the time at which the writer was last alive, by the monotonic clock of the machine; 0: never."""
_LENGTH: Final = 33
"""The place of the length of the directory."""
_FIRST: Final = 34
_ENTRY: Final = struct.Struct("<II")
_SILENT: Final = 15.0
"""Seconds after which a worker that did not update its gauges is left out of them."""


@dataclass(frozen=True, slots=True)
class Series:
    """A series in the directory of a segment."""

    name: str
    labels: tuple[str, ...]
    place: int
    size: int


class Segment:
    """The memory of one worker. Only one process may write, and only in one thread."""

    def __init__(self) -> None:
        self._memory: Final = mmap.mmap(-1, _NUMBERS * 8 + _DIRECTORY)
        self._view: Final = memoryview(self._memory)
        self.numbers: Final = self._view[: _NUMBERS * 8].cast("d")
        self._directory: Final = self._view[_NUMBERS * 8 :]
        self._known: list[Series] = []
        self._read = 0
        """The length of the directory that `_known` was read from."""
        self._free = _FIRST
        self._is_full = False

    def series(self) -> Sequence[Series]:
        """Return the series that the segment has now. Reads only new ones."""
        length = int(self.numbers[_LENGTH])
        while self._read < length:
            size, checksum = _ENTRY.unpack_from(self._directory, self._read)
            begin = self._read + _ENTRY.size
            content = bytes(self._directory[begin : begin + size])
            if not size or zlib.crc32(content) != checksum:
                break  # not visible to this processor yet
            name, labels, place, numbers = json.loads(content)
            self._known.append(Series(name, tuple(labels), place, numbers))
            self._read = begin + size
            self._free = max(self._free, place + numbers)
        return self._known

    def add(self, name: str, labels: tuple[str, ...], size: int) -> int:
        """Add a series, all zero, and return its place. Without room, return a place that is never read."""
        self.series()
        content = json.dumps((name, labels, self._free, size)).encode()
        begin, place = self._read, self._free
        end = begin + _ENTRY.size + len(content)
        if place + size > _NUMBERS or end > _DIRECTORY:
            if not self._is_full:
                logger.error(
                    "the page of metrics has no room for further series, such as %s %s", name, labels
                )
            self._is_full = True
            return _NOWHERE
        _ENTRY.pack_into(self._directory, begin, len(content), zlib.crc32(content))
        self._directory[begin + _ENTRY.size : end] = content
        self.numbers[_LENGTH] = end
        self.series()
        return place

    def beat(self) -> None:
        """Note that the gauges of this worker are up to date."""
        self.numbers[_BEAT] = time.monotonic()

    def leave(self) -> None:
        """Note that the worker has ended. Its gauges no longer count."""
        self.numbers[_BEAT] = 0.0

    @property
    def is_alive(self) -> bool:
        """Whether the gauges of this worker count."""
        return time.monotonic() - self.numbers[_BEAT] < _SILENT and self.numbers[_BEAT] > 0


class Board:
    """The segments of all workers."""

    def __init__(self, workers: int = 1) -> None:
        """Reserve the memory. Call it before the workers are forked."""
        self.segments: Final = tuple(Segment() for _ in range(workers))

    def read(self) -> Iterator[tuple[Segment, Series, Sequence[float]]]:
        """Yield the series of all segments with their numbers."""
        for segment in self.segments:
            numbers = segment.numbers
            for each in tuple(segment.series()):
                yield segment, each, numbers[each.place : each.place + each.size].tolist()


@dataclass(frozen=True, slots=True)
class MetricsShare:
    """The part of one worker in the board."""

    board: Board
    number: int

    @property
    def segment(self) -> Segment:
        """The segment that this worker writes."""
        return self.board.segments[self.number]


class Writer:
    """The instruments of one worker, in its segment."""

    def __init__(self, segment: Segment, is_gauge: Callable[[str], bool]) -> None:
        """Take over the segment of a worker that has ended. `is_gauge` tells the kind of a metric by its name."""
        segment.leave()
        self._segment = segment
        self._places = {(each.name, each.labels): each for each in segment.series()}
        for each in self._places.values():
            if is_gauge(each.name):
                segment.numbers[each.place] = nan

    def place(self, name: str, labels: tuple[str, ...], size: int) -> int:
        """Return the place of a series; add it if it is new."""
        known = self._places.get((name, labels))
        if known is not None:
            return known.place
        place = self._segment.add(name, labels, size)
        if place != _NOWHERE:
            self._places[name, labels] = Series(name, labels, place, size)
        return place

    def labels(self, name: str) -> list[tuple[str, ...]]:
        """Return the labels of the known series of a metric."""
        return [each.labels for each in self._places.values() if each.name == name]

    @property
    def segment(self) -> Segment:
        """The segment that is written."""
        return self._segment
