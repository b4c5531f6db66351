"""Pages of the log from SQL: their entries, and the number of reads."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from tests.unit.core.virtual_time import settle, virtual_time
from token_service.errors import StoreUnavailableError
from token_service.rpc.stream import gap_pages
from token_service.rpc.stream.gap_pages import GapPages
from token_service.tokens.revocation import Revocation, RevocationTarget
from token_service.v1 import token_service_pb2 as pb


@pytest.fixture(autouse=True)
def pages_of_ten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gap_pages, "PAGE", 10)


class Log:
    """A log with entries from `compacted` to `head`. A read takes a moment and returns the entries at its start."""

    def __init__(self, head: int) -> None:
        self.head = head
        self.compacted = 0
        self.reads: list[int] = []
        self.failure: Exception | None = None

    async def read(self, after: int, limit: int) -> Sequence[Revocation]:
        self.reads.append(after)
        first, last = max(after, self.compacted) + 1, self.head
        await asyncio.sleep(0.01)
        if self.failure is not None:
            raise self.failure
        return [
            Revocation(sequence, RevocationTarget.SUBJECT, f"s-{sequence}", 1.0, 9e9)
            for sequence in range(first, min(last, first + limit - 1) + 1)
        ]


def a_reader(log: Log) -> GapPages:
    pages = GapPages(log, lambda: log.head)  # type: ignore[arg-type]  # as much of a log as it uses
    pages.reset("log")
    return pages


async def read_all(pages: GapPages, after: int, to: int, pause: float = 0.0) -> list[int]:
    """Return the entries of a reader that begins at a cursor and pauses after each page."""
    got: list[int] = []
    while after < to:
        page = await pages.get(after)
        assert page is not None
        message = pb.StreamRevocationsResponse.FromString(page.message(after))
        got += [entry.sequence for entry in message.revocations]
        after = page.last
        assert message.cursor == f"log:{after}"
        await asyncio.sleep(pause)
    return got


@virtual_time
async def test_200_readers_with_as_many_cursors_read_each_page_once():
    log = Log(1000)
    pages = a_reader(log)
    starts = [number * 5 - number % 3 for number in range(1, 201)]
    got = await asyncio.gather(*(read_all(pages, start, 1000) for start in starts))
    assert got == [list(range(start + 1, 1001)) for start in starts]
    assert sorted(set(log.reads)) == list(range(0, 1000, 10))
    assert len(log.reads) <= 110


@virtual_time
async def test_readers_of_any_speed_share_pages():
    log = Log(1000)
    pages = a_reader(log)
    readers = [read_all(pages, number * 5, 1000, pause=number % 7 * 0.02) for number in range(200)]
    await asyncio.gather(*readers)
    assert len(log.reads) <= 1000  # separate reads would be 10,000


@virtual_time
async def test_readers_with_the_same_cursor_share_the_same_bytes():
    pages = a_reader(Log(100))
    messages = [page.message(7) for page in await asyncio.gather(*(pages.get(7) for _ in range(5))) if page]
    assert len(messages) == 5
    assert len({id(message) for message in messages}) == 1
    page = await pages.get(7)
    assert page is not None
    assert len({page.message(after) for after in range(10)}) == 10
    assert len(page._messages) <= gap_pages._MAX_SHARED


@virtual_time
async def test_entries_appended_during_a_read_are_read_when_requested():
    log = Log(5)
    pages = a_reader(log)
    first = asyncio.create_task(pages.get(0))
    await settle()
    log.head = 8
    second = asyncio.create_task(pages.get(5))
    one, two = await first, await second
    assert one is not None
    assert one.last == 5
    assert two is not None
    assert (two.follows(5), two.last) == (True, 8)
    assert log.reads == [0, 0]
    assert await pages.get(2) is two
    assert log.reads == [0, 0]


@virtual_time
async def test_compacted_entries_are_not_found():
    log = Log(100)
    log.compacted = 25
    pages = a_reader(log)
    assert await pages.get(3) is None
    assert await pages.get(24) is None
    page = await pages.get(25)
    assert page is not None
    assert (page.first, page.last) == (26, 30)


@virtual_time
async def test_pages_of_another_log_are_not_returned():
    log = Log(100)
    pages = a_reader(log)
    waiting = asyncio.create_task(pages.get(3))
    await settle()
    pages.reset("another")
    assert await waiting is None
    page = await pages.get(3)
    assert page is not None
    assert b"another:10" in page.message(3)


@virtual_time
async def test_failure_ends_current_waits_and_no_later_ones():
    log = Log(100)
    pages = a_reader(log)
    log.failure = StoreUnavailableError()
    results = await asyncio.gather(*(pages.get(n * 10) for n in range(5)), return_exceptions=True)
    assert {type(result) for result in results} == {StoreUnavailableError}
    assert len(log.reads) == 1
    log.failure = None
    assert await pages.get(40) is not None


@virtual_time
async def test_readers_that_go_away_leave_the_others_their_page():
    log = Log(100)
    pages = a_reader(log)
    waiting = [asyncio.create_task(pages.get(3)) for _ in range(3)]
    await settle()
    waiting[0].cancel()
    assert all(await asyncio.gather(*waiting[1:]))
    log.failure = StoreUnavailableError()
    last = asyncio.create_task(pages.get(50))
    await settle()
    last.cancel()
    await asyncio.sleep(1)
    assert log.reads == [0, 50]


@virtual_time
async def test_number_of_pages_is_limited_and_close_ends_reads():
    log = Log(1000)
    pages = a_reader(log)
    await read_all(pages, 0, 1000)
    assert len(pages._pages) == gap_pages._MAX_PAGES
    waiting = asyncio.create_task(pages.get(0))
    await settle()
    await pages.close()
    waiting.cancel()
    await asyncio.wait([waiting])
