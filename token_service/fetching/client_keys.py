"""The keys of registered clients, from their record or from their URL."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from token_service.clock import Clock
from token_service.core.access.key_sources import KeySource
from token_service.core.clients.client import Client
from token_service.fetching.fetcher import FetchRules, HttpFetcher
from token_service.fetching.remote_keys import RemoteKeys
from token_service.tokens import strict_json
from token_service.tokens.key_set import KeySet

MAX_KEPT: Final = 10_000
"""Clients whose parsed keys are kept. Others are parsed or fetched again when they authenticate."""


class _KeysOfRecord:
    """Keys that the record of a client holds."""

    def __init__(self, jwks: str) -> None:
        document = strict_json.decode_object(jwks.encode()) if jwks else {}
        self._key_set = KeySet.from_jwks(document.get("keys", ()))

    async def keys(self, key_id: str | None) -> KeySet:
        """See `KeySource.keys`."""
        return self._key_set


class ClientKeys:
    """The sources of the keys of clients. A client whose keys changed in the registry gets a new source."""

    def __init__(
        self, fetcher: HttpFetcher, clock: Clock, rules: FetchRules, *, most: int = MAX_KEPT
    ) -> None:
        """`most`: clients whose sources are kept."""
        self._fetcher = fetcher
        self._clock = clock
        self._rules = rules
        self._most = most
        self._kept: OrderedDict[str, tuple[tuple[str, str], KeySource]] = OrderedDict()

    def of(self, client: Client) -> KeySource:
        """Return the source of the keys of a client, without I/O."""
        described = (client.jwks, client.jwks_uri)
        kept = self._kept.get(client.client_id)
        if kept is None or kept[0] != described:
            source: KeySource
            if client.jwks_uri:
                source = RemoteKeys(client.jwks_uri, self._fetcher, self._clock, rules=self._rules)
            else:
                source = _KeysOfRecord(client.jwks)
            kept = self._kept[client.client_id] = (described, source)
        self._kept.move_to_end(client.client_id)
        if len(self._kept) > self._most:
            self._kept.popitem(last=False)
        return kept[1]
