"""Documents of sectors over HTTP."""

from __future__ import annotations

import json

import pytest

from tests.unit.fetching.serving import Reply, Resolver, serving
from token_service.core.clients.sectors import UnusableSectorError
from token_service.fetching.documents import MAX_DOCUMENT_BYTES
from token_service.fetching.fetcher import FetchRules, HttpFetcher
from token_service.fetching.sector_documents import FetchedSectors

PRIVATE = FetchRules(allow_private=True)
URIS = ["https://a.example/cb", "https://b.example/cb"]


async def test_document_is_the_list_at_the_url() -> None:
    async with serving() as server:
        server.replies["/sector"] = Reply(json.dumps(URIS).encode())
        assert await FetchedSectors(HttpFetcher(), PRIVATE).redirect_uris(server.url("/sector")) == set(URIS)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b'{"redirect_uris":[]}', "200 OK"),
        (b'"https://a.example/cb"', "200 OK"),
        (b"[1]", "200 OK"),
        (b"[", "200 OK"),
        (b"[" * 100_000, "200 OK"),
        (b"\xff", "200 OK"),
        (b" " * MAX_DOCUMENT_BYTES + b"[]", "200 OK"),
        (b"[]", "404 Not Found"),
        (b"[]", "302 Found"),
    ],
)
async def test_other_answer_is_no_document(body: bytes, status: str) -> None:
    async with serving() as server:
        server.replies["/sector"] = Reply(body, status=status)
        with pytest.raises(UnusableSectorError):
            await FetchedSectors(HttpFetcher(), PRIVATE).redirect_uris(server.url("/sector"))


async def test_private_address_is_not_reached_unless_the_operator_allows_it() -> None:
    fetcher = HttpFetcher(Resolver(["10.0.0.1"]))
    with pytest.raises(UnusableSectorError, match="not a global address"):
        await FetchedSectors(fetcher, FetchRules()).redirect_uris("https://group.example/sector")
