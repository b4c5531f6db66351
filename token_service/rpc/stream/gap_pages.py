"""Log pages from SQL for readers that are behind the ring: concurrent readers of a page share one read."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from token_service.core.revocation.log import RevocationLog
from token_service.rpc.stream.messages import encode_entry, encode_position
from token_service.tokens.revocation import Cursor, Revocation

PAGE: Final = 1000
"""Entries per page."""
_MAX_PAGES: Final = 32
"""Pages cached for later readers."""
_MAX_SHARED: Final = 4
"""Messages cached per page.

Most readers need the whole page, and readers that lost the same node need the same part of a page.
"""


class Page:
    """Consecutive encoded entries."""

    __slots__ = ("_entries", "_messages", "_position", "first", "last")

    def __init__(self, epoch: str, entries: Sequence[Revocation]) -> None:
        self.first = entries[0].sequence
        self.last = entries[-1].sequence
        self._entries = [encode_entry(entry) for entry in entries]
        self._position = encode_position(str(Cursor(epoch, self.last)), caught_up=False)
        self._messages: dict[int, bytes] = {}

    def follows(self, sequence: int) -> bool:
        """Return whether the page has the entry right after `sequence`."""
        return self.first <= sequence + 1 <= self.last

    def message(self, after: int) -> bytes:
        """Return the entries after `after` as one encoded message."""
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
        """Highest position of these readers."""
        self.page: asyncio.Future[Page | None] = asyncio.get_running_loop().create_future()


class GapPages:
    """Reads log pages that begin at multiples of `PAGE`, one after the other, the lowest first.

    So readers that are behind catch up with readers that wait, and from there on they share pages.
    """

    def __init__(self, log: RevocationLog, head: Callable[[], int]) -> None:
        """Set the log and `head()`, the last sequence to serve."""
        self._log = log
        self._head = head
        self._epoch = ""
        self._pages: dict[int, Page] = {}
        self._wanted: dict[int, _Wanted] = {}
        self._reading: asyncio.Task[None] | None = None

    def reset(self, epoch: str) -> None:
        """Drop all pages: the log has this epoch from now on, or was reset."""
        self._epoch = epoch
        self._pages = {}

    async def get(self, after: int) -> Page | None:
        """Return a page with the entry after `after`, a sequence below the head; None if it is compacted.

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
            # A cancelled reader must not cancel the read that others wait for.
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
                # A later request may need more than the read that starts now will find.
                wanted = self._wanted.pop(number)
                page = self._pages.get(number)
                if page is None or page.last <= wanted.after:
                    page = await self._read(number)
                wanted.page.set_result(page)
                await asyncio.sleep(0)
        except Exception as error:  # noqa: BLE001 - every waiting reader gets it
            for each in (wanted, *self._wanted.values()):
                if each is not None and not each.page.done():
                    each.page.set_exception(error)
                    each.page.exception()  # marks the exception as retrieved, even if every reader has left
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
