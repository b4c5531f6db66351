"""Client metadata documents, fetched from their URLs."""

from __future__ import annotations

from typing import Final

from token_service.core.clients.documents import MAX_DOCUMENT, FetchedDocument, UnusableDocumentError
from token_service.fetching.documents import lifetime_of
from token_service.fetching.failure import FetchError
from token_service.fetching.fetcher import FetchRules, HttpFetcher

RULES: Final = FetchRules(max_bytes=MAX_DOCUMENT)


class ClientDocuments:
    """An adapter of the port `DocumentSource`."""

    def __init__(self, fetcher: HttpFetcher, rules: FetchRules = RULES) -> None:
        self._fetcher = fetcher
        self._rules = rules

    async def fetch(self, url: str) -> FetchedDocument:
        """See `DocumentSource.fetch`."""
        try:
            answer = await self._fetcher.get(url, self._rules)
        except FetchError as error:
            raise UnusableDocumentError(str(error)) from None
        return FetchedDocument(answer.body, lifetime_of(answer.cache_control, answer.age))
