"""Sectors: groups of clients whose users have the same pairwise subjects (OpenID Connect Core 1.0, section 8.1)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection
from typing import Final, Protocol
from urllib.parse import urlsplit

from token_service.core.clients.client import ClientMetadata, SubjectType
from token_service.core.limits import Checks

SECTOR_TIMEOUT: Final = 5.0
"""Seconds for a whole fetch of the document of a sector."""
_MAX_CAUSE: Final = 300
_FIELD: Final = "sector_identifier_uri"

logger = logging.getLogger(__name__)


class UnusableSectorError(Exception):
    """The document of a sector was not fetched, or is no list of URIs. The text is for the log of the node only."""


class SectorDocuments(Protocol):
    """Fetches the documents of sectors."""

    async def redirect_uris(self, url: str) -> Collection[str]:
        """Return the redirect URIs in the JSON list at a URL. The caller limits the time.

        Raises `UnusableSectorError`.
        """
        ...


def sector_of(client: ClientMetadata) -> str:
    """Return the sector of a client: the host of its `sector_identifier_uri`, or the one host of its redirect URIs.

    Empty: it has none, because its redirect URIs have several hosts or are not `https`. All apps on loopback addresses
    would share a sector.
    """
    if client.sector_identifier_uri:
        return urlsplit(client.sector_identifier_uri).hostname or ""
    hosts = {
        urlsplit(uri).hostname or "" if uri.startswith("https://") else "" for uri in client.redirect_uris
    }
    return hosts.pop() if len(hosts) == 1 else ""


def check_sector(checks: Checks, client: ClientMetadata) -> None:
    """Note that a client with pairwise subjects has no sector."""
    if client.subject_type is SubjectType.PAIRWISE and not sector_of(client):
        checks.add(_FIELD, "is required for pairwise subjects, unless all redirect URIs have one https host")


async def check_sector_document(checks: Checks, client: ClientMetadata, documents: SectorDocuments) -> None:
    """Note redirect URIs of a client that the document of its sector does not list, or that it can't be used.

    Without this rule a client could join the sector of others, and learn their subjects.
    """
    url = client.sector_identifier_uri
    try:
        async with asyncio.timeout(SECTOR_TIMEOUT):
            listed = await documents.redirect_uris(url)
    except (UnusableSectorError, TimeoutError) as error:
        cause = str(error) or f"no complete answer within {SECTOR_TIMEOUT:g} s"
        cause = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in cause[:_MAX_CAUSE])
        logger.warning("the document of the sector %s can't be used: %s", url, cause)
        checks.add(_FIELD, "can't be fetched or is no JSON list of URIs; the log of the service says why")
        return
    for number, uri in enumerate(client.redirect_uris):
        if uri not in listed:
            checks.add(f"redirect_uris[{number}]", f"is not listed in the document at {_FIELD}")
