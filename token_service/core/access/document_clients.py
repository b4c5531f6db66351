"""Clients that describe themselves in a metadata document, besides the registered ones.

`resolve` fetches the document of an unknown id, once for all concurrent calls. Any id may be invented, so fetches are
limited: for each asker, for each host and in all. The registry always wins: a registered, disabled or deleted client is
never looked up elsewhere.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Hashable
from contextvars import Context
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from token_service.clock import Clock
from token_service.core.access.quotas import RateQuota
from token_service.core.clients.client import Client
from token_service.core.clients.documents import (
    SCHEME,
    DocumentRules,
    DocumentSource,
    UnusableDocumentError,
    client_of_document,
    problem_of_document_url,
)
from token_service.core.clients.lookup import Clients
from token_service.errors import ClientDocumentUnavailableError

MAX_DOCUMENTS: Final = 1000
"""Documents that a process holds. Another one replaces the one used least recently."""
MAX_FETCHES: Final = 120
"""Fetches for unknown ids in all, per minute."""
MAX_FETCHES_PER_ASKER: Final = 20
"""Fetches for unknown ids on requests of one caller or network, per minute."""
MAX_FETCHES_PER_HOST: Final = 20
"""Fetches for unknown ids from one host, per minute."""
FETCH_TIMEOUT: Final = 5.0
"""Seconds for a whole fetch."""
FETCH_RETRY: Final = 10.0
"""Seconds after a failure for which the same document is not fetched again."""
DOCUMENT_LAST_GOOD: Final = 3600.0
"""Seconds for which a document stays in force after its lifetime, while fetches fail."""
_WINDOW: Final = 60.0
_MAX_CAUSE: Final = 300

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class _Held:
    """A document in force. Times are monotonic."""

    client: Client
    current_until: float
    in_force_until: float


class DocumentClients:
    """The registered clients, and those that describe themselves. For one event loop."""

    def __init__(
        self, registered: Clients, source: DocumentSource, rules: DocumentRules, clock: Clock
    ) -> None:
        self._registered = registered
        self._source = source
        self._rules = rules
        self._clock = clock
        self._held: OrderedDict[str, _Held] = OrderedDict()
        self._running: dict[str, asyncio.Task[Client]] = {}
        self._retry_at: dict[str, float] = {}
        """When a document whose fetch failed may be fetched again."""
        self._of_asker = _quota("fetched client metadata documents", MAX_FETCHES_PER_ASKER, clock)
        self._of_host = _quota("client metadata documents of one host", MAX_FETCHES_PER_HOST, clock)
        self._in_all = _quota("client metadata documents of all clients", MAX_FETCHES, clock)

    def __len__(self) -> int:
        """Return the number of held documents."""
        return len(self._held)

    def get(self, client_id: str) -> Client | None:
        """Return a registered client in any state, or one whose document is held; None if there is neither."""
        client = self._registered.get(client_id)
        if client is not None or not client_id.startswith(SCHEME):
            return client
        held = self._in_force(client_id)
        return None if held is None else held.client

    def classification(self, client_id: str) -> str | None:
        """See `Clients.classification`."""
        client = self.get(client_id)
        return (client.classification or None) if client is not None else None

    async def resolve(self, client_id: str, asker: Hashable) -> Client | None:
        """See `Clients.resolve`. A document that is held stays in force while its fetch fails, for a limited time."""
        client = await self._registered.resolve(client_id, asker)
        if client is not None or not self._may_describe_itself(client_id):
            return client
        held = self._in_force(client_id)
        if held is not None and self._clock.monotonic() < held.current_until:
            self._held.move_to_end(client_id)
            return held.client
        try:
            client = await self._fetched(client_id, asker, is_known=held is not None)
        except ClientDocumentUnavailableError:
            held = self._in_force(client_id)
            if held is None:
                raise
            client = held.client
        return self._registered.get(client_id) or client  # it may have been registered during the fetch

    def _may_describe_itself(self, client_id: str) -> bool:
        return (
            client_id.startswith(SCHEME)
            and problem_of_document_url(client_id) is None
            and self._rules.allow(client_id)
        )

    def _in_force(self, client_id: str) -> _Held | None:
        held = self._held.get(client_id)
        return held if held is not None and self._clock.monotonic() < held.in_force_until else None

    async def _fetched(self, client_id: str, asker: Hashable, *, is_known: bool) -> Client:
        """Fetch a document, or wait for the fetch that runs.

        A document that was good before is no invented one, so its fetch is not counted.
        """
        fetch = self._running.get(client_id)
        if fetch is None:
            now = self._clock.monotonic()
            if now < (retry_at := self._retry_at.get(client_id, now)):
                raise ClientDocumentUnavailableError(retry_after=retry_at - now)
            if not is_known:
                self._count(client_id, asker)
            # The fetch belongs to no call, so it has the context of none, and no call cancels it for others.
            fetch = asyncio.create_task(
                self._fetch(client_id), name="fetch-client-document", context=Context()
            )
            self._running[client_id] = fetch
            fetch.add_done_callback(lambda fetch: self._ended(client_id, fetch))
        await asyncio.wait([fetch])
        try:
            return fetch.result()
        except UnusableDocumentError:
            raise ClientDocumentUnavailableError(retry_after=FETCH_RETRY) from None

    def _ended(self, client_id: str, fetch: asyncio.Task[Client]) -> None:
        del self._running[client_id]
        if not fetch.cancelled():
            fetch.exception()  # marks the failure as retrieved: all callers may have been cancelled

    def _count(self, client_id: str, asker: Hashable) -> None:
        """Count a fetch for an unknown id. Raises `OverloadedError`."""
        host = urlsplit(client_id).hostname
        for quota, spender in ((self._of_asker, asker), (self._of_host, host), (self._in_all, None)):
            quota.require(spender)
        for quota, spender in ((self._of_asker, asker), (self._of_host, host), (self._in_all, None)):
            quota.spend(spender)

    async def _fetch(self, url: str) -> Client:
        began = self._clock.monotonic()
        try:
            async with asyncio.timeout(FETCH_TIMEOUT):
                document = await self._source.fetch(url)
        except TimeoutError:
            raise self._failed(url, f"no complete answer within {FETCH_TIMEOUT:g} s") from None
        except UnusableDocumentError as error:
            raise self._failed(url, str(error)) from None
        try:
            client = client_of_document(url, document.body, self._rules, self._clock.now())
        except UnusableDocumentError as error:
            self._held.pop(url, None)  # its server answered, so the earlier document is no longer in force
            raise self._failed(url, str(error)) from None
        current_until = began + document.lifetime
        self._held[url] = _Held(client, current_until, current_until + DOCUMENT_LAST_GOOD)
        self._held.move_to_end(url)
        if len(self._held) > MAX_DOCUMENTS:
            self._held.popitem(last=False)
        return client

    def _failed(self, url: str, cause: str) -> UnusableDocumentError:
        """Note a failed fetch, and write it to the log; return the error."""
        now = self._clock.monotonic()
        self._retry_at = {known: time for known, time in self._retry_at.items() if time > now}
        self._retry_at[url] = now + FETCH_RETRY
        cause = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in cause[:_MAX_CAUSE])
        logger.warning("the client metadata document %s can't be used: %s", url, cause)
        return UnusableDocumentError(cause)


def _quota(name: str, limit: int, clock: Clock) -> RateQuota:
    return RateQuota(name, limit, _WINDOW, clock.monotonic)
