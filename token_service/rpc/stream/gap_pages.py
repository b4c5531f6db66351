"""The log from SQL, for readers that are further behind than the ring: each page is read once for all who
come to it together.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from token_service.core.revocation.log import RevocationLog
from token_service.rpc.stream.messages import encode_entry, encode_position
from token_service.tokens.revocation import Cursor, Revocation

PAGE: Final = 1000
"""Entries of a page."""
_MAX_PAGES: Final = 32
"""Pages kept for readers that follow."""
_MAX_SHARED: Final = 4
"""Messages of a page kept.

Most readers want all of it, and those that lost the same node the same part of one.
"""


class Page:
    """Entries that follow each other, encoded."""

    __slots__ = ("_entries", "_messages", "_position", "first", "last")

    def __init__(self, epoch: str, entries: Sequence[Revocation]) -> None:
        self.first = entries[0].sequence
        self.last = entries[-1].sequence
        self._entries = [encode_entry(entry) for entry in entries]
        self._position = encode_position(str(Cursor(epoch, self.last)), caught_up=False)
        self._messages: dict[int, bytes] = {}

    def follows(self, sequence: int) -> bool:
        """Whether what comes right after `sequence` is here."""
        return self.first <= sequence + 1 <= self.last

    def message(self, after: int) -> bytes:
        """What follows `after`, as one message's bytes."""
        message = self._messages.get(after)
        if message is None:
            message = b"".join([*self._entries[after + 1 - self.first :], self._position])
            if len(self._messages) >= _MAX_SHARED:
                del self._messages[next(iter(self._messages))]
            self._messages[after] = message
        return message


class _Wanted:
    """A page that readers wait for."""

    __slots__ = ("after", "page")

    def __init__(self) -> None:
        self.after = -1
        """The furthest of them needs what follows this."""
        self.page: asyncio.Future[Page | None] = asyncio.get_running_loop().create_future()


class GapPages:
    """Reads the log by pages that begin at multiples of `PAGE`, wherever readers are, one at a time, the
    lowest first: so those who are behind come up with those who wait, and from there on need the same pages.
    """

    def __init__(self, log: RevocationLog, head: Callable[[], int]) -> None:
        """`head()`: beyond it no reader is served from here."""
        self._log = log
        self._head = head
        self._epoch = ""
        self._pages: dict[int, Page] = {}
        self._wanted: dict[int, _Wanted] = {}
        self._reading: asyncio.Task[None] | None = None

    def reset(self, epoch: str) -> None:
        """Forget everything: the log is this one, or begins anew."""
        self._epoch = epoch
        self._pages = {}

    async def get(self, after: int) -> Page | None:
        """A page with what follows `after`, a sequence below the head; None if that is compacted.

        Raises `StoreUnavailableError`.
        """
        number = after // PAGE
        page = self._pages.get(number)
        if page is None or page.last <= after:
            wanted = self._wanted.get(number)
            if wanted is None:
                wanted = self._wanted[number] = _Wanted()
            wanted.after = max(wanted.after, after)
            if self._reading is None:
                self._reading = asyncio.create_task(self._read_wanted(), name="gap-pages")
            # Readers come and go; the others still want it.
            page = await asyncio.shield(wanted.page)
        return page if page is not None and page.follows(after) else None

    async def close(self) -> None:
        """Stop reading."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.wait([self._reading])

    async def _read_wanted(self) -> None:
        wanted: _Wanted | None = None
        try:
            while self._wanted:
                number = min(self._wanted)
                # Who asks from now on may need more than a read that has begun will find.
                wanted = self._wanted.pop(number)
                page = self._pages.get(number)
                if page is None or page.last <= wanted.after:
                    page = await self._read(number)
                wanted.page.set_result(page)
                await asyncio.sleep(0)
        except Exception as error:  # noqa: BLE001 - whoever waits gets it
            for each in (wanted, *self._wanted.values()):
                if each is not None and not each.page.done():
                    each.page.set_exception(error)
                    each.page.exception()  # seen, even if all of them have gone
            self._wanted.clear()
        finally:
            self._reading = None

    async def _read(self, number: int) -> Page | None:
        pages, epoch = self._pages, self._epoch
        found = await self._log.read(number * PAGE, PAGE)
        if pages is not self._pages:
            return None
        last = min((number + 1) * PAGE, self._head())
        entries = [entry for entry in found if entry.sequence <= last]
        if not entries:
            return None
        while len(pages) >= _MAX_PAGES and number not in pages:
            del pages[next(iter(pages))]
        page = pages[number] = Page(epoch, entries)
        return page
