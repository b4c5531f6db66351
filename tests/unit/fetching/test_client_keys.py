"""The keys of clients: from the record, or from a URL; a changed record gets new keys."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from tests.support.certificates import Authority
from tests.support.memory_clients import KnownClients
from tests.unit.core.virtual_time import START, ManualClock
from tests.unit.fetching.serving import serving
from token_service.app.access import client_key_sources
from token_service.core.clients.client import AuthMethod, Client
from token_service.errors import ForeignKeysUnavailableError
from token_service.fetching.client_keys import MAX_KEPT, ClientKeys
from token_service.fetching.fetcher import FetchRules, HttpFetcher
from token_service.fetching.remote_keys import RemoteKeys
from token_service.tokens.jwk import public_jwk


def jwks() -> tuple[str, str]:
    jwk = public_jwk(ec.generate_private_key(ec.SECP256R1()).public_key())
    return json.dumps({"keys": [jwk]}), jwk["kid"]


def a_client(client_id: str = "app", **changes: Any) -> Client:
    return Client(
        client_id=client_id,
        token_endpoint_auth_method=AuthMethod.PRIVATE_KEY_JWT,
        create_time=START,
        update_time=START,
        **changes,
    )


def keys(most: int = MAX_KEPT) -> ClientKeys:
    return ClientKeys(HttpFetcher(), ManualClock(), FetchRules(), most=most)


async def test_keys_of_the_record_follow_the_record() -> None:
    sources = keys()
    (first, kid), (second, other_kid) = jwks(), jwks()
    source = sources.of(a_client(jwks=first))
    assert len(await source.keys(kid)) == 1
    assert sources.of(a_client(jwks=first, client_name="renamed")) is source
    changed = await sources.of(a_client(jwks=second)).keys(None)
    assert not changed.get(kid)
    assert changed.get(other_kid)


def test_url_has_one_source_until_it_changes() -> None:
    sources = keys()
    source = sources.of(a_client(jwks_uri="https://app.example/jwks"))
    assert isinstance(source, RemoteKeys)
    assert sources.of(a_client(jwks_uri="https://app.example/jwks")) is source
    assert sources.of(a_client(jwks_uri="https://app.example/other")) is not source


async def test_only_registered_clients_may_have_keys_at_private_addresses(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(Authority("ca").server("app.example"), tmp_path) as server:
        client = a_client("https://app.example/client", jwks_uri=server.url())
        registered = KnownClients()
        source_of = client_key_sources(registered, ManualClock(), allow_private=True)
        with pytest.raises(ForeignKeysUnavailableError):
            await source_of(client).keys(None)
        assert "127.0.0.1, which is not a global address" in caplog.text
        caplog.clear()
        registered[client.client_id] = client
        with pytest.raises(ForeignKeysUnavailableError):
            await source_of(client).keys(None)
        assert "certificate verify failed" in caplog.text


def test_number_of_kept_sources_is_bounded() -> None:
    sources = keys(most=2)
    a, b, c = (a_client(name, jwks_uri=f"https://{name}.example/jwks") for name in "abc")
    kept = [sources.of(a), sources.of(b)]
    assert sources.of(a) is kept[0]  # the one used last
    sources.of(c)
    assert sources.of(a) is kept[0]
    assert sources.of(b) is not kept[1]
