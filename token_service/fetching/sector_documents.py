"""The documents of sectors (OpenID Connect Core 1.0, section 8.1), fetched from their URLs."""

from __future__ import annotations

import json
from collections.abc import Collection

from token_service.core.clients.sectors import UnusableSectorError
from token_service.fetching.failure import FetchError
from token_service.fetching.fetcher import FetchRules, HttpFetcher


class FetchedSectors:
    """An adapter of the port `SectorDocuments`."""

    def __init__(self, fetcher: HttpFetcher, rules: FetchRules) -> None:
        self._fetcher = fetcher
        self._rules = rules

    async def redirect_uris(self, url: str) -> Collection[str]:
        """See `SectorDocuments.redirect_uris`."""
        try:
            answer = await self._fetcher.get(url, self._rules)
        except FetchError as error:
            raise UnusableSectorError(str(error)) from None
        try:
            uris = json.loads(answer.body.decode())
        except (ValueError, RecursionError):  # its text may repeat parts of the document
            raise UnusableSectorError("the document is not JSON") from None
        if not isinstance(uris, list) or not all(isinstance(uri, str) for uri in uris):
            raise UnusableSectorError("the document is not a JSON list of texts")
        return frozenset(uris)
