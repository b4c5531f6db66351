"""Clients that a metadata document describes, at the token endpoint and in the discovery document."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from msgspec import structs
from starlette.applications import Starlette

from tests.unit.core.jwts import claims_of
from tests.unit.core.node import ISSUER, Node
from tests.unit.core.virtual_time import ManualClock
from token_service.app.edges import make_oauth_routes
from token_service.core.access.authenticator import Authenticator
from token_service.core.access.caller import Caller
from token_service.core.access.client_authentication import ClientAuthenticator
from token_service.core.access.workloads import Workloads
from token_service.core.clients.documents import DocumentRules, FetchedDocument, UnusableDocumentError
from token_service.core.grants.authorization import AuthorizationGrantCommand
from token_service.errors import PolicyViolationError
from token_service.fetching.client_keys import ClientKeys
from token_service.fetching.fetcher import FetchRules, HttpFetcher
from token_service.tokens import base64url
from token_service.tokens.claims import TokenKind
from token_service.tokens.jwk import public_jwk
from token_service.tokens.secret import Secret
from token_service.web.edge import HttpEdge

URL = "https://app.example/client"
KEYED = "https://app.example/keyed"
KEY = ec.generate_private_key(ec.SECP256R1())
JWK = public_jwk(KEY.public_key())
KINDS = frozenset({TokenKind.ACCESS, TokenKind.REFRESH})
VERIFIER = "v" * 43
ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
COMMON = {
    "redirect_uris": ["http://127.0.0.1/cb"],
    "grant_types": ["authorization_code", "refresh_token", "client_credentials"],
}


class Documents:
    def __init__(self) -> None:
        self.members: dict[str, dict[str, Any]] = {
            URL: COMMON,
            KEYED: {**COMMON, "token_endpoint_auth_method": "private_key_jwt", "jwks": {"keys": [JWK]}},
        }
        self.fetched: list[str] = []

    async def fetch(self, url: str) -> FetchedDocument:
        self.fetched.append(url)
        if url not in self.members:
            raise UnusableDocumentError("status 404")
        return FetchedDocument(json.dumps({"client_id": url, **self.members[url]}).encode(), 600.0)


class Service:
    """The OAuth endpoints of a node where clients must be registered."""

    def __init__(self, documents: Documents | None, **options: Any) -> None:
        self.documents = documents
        self.node = Node(
            ManualClock(),
            documents=documents,
            document_rules=DocumentRules(scopes=("openid", "mcp")),
            require_registered_clients=True,
            **options,
        )
        core = self.node.core
        authentication = ClientAuthenticator(
            core.known_clients,
            ClientKeys(HttpFetcher(), core.ports.clock, FetchRules()).of,
            core.ports.stores.used_ids,
            core.ports.clock,
            core.ports.audit,
            issuer=ISSUER,
        )
        own_tokens: Any = None
        authenticator = Authenticator(
            core.known_clients,
            authentication,
            own_tokens,
            issuer=ISSUER,
            workloads=Workloads([], core.ports.clock),
            callers={},
        )
        app = Starlette(routes=make_oauth_routes(core, authenticator, HttpEdge()))
        self.http = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=ISSUER)

    async def token(self, **parameters: str) -> httpx.Response:
        return await self.http.post("/token", data=parameters)


async def a_service(documents: Documents | None, **options: Any) -> Service:
    service = Service(documents, **options)
    await service.node.start()
    return service


def assertion(client_id: str, **changes: Any) -> dict[str, str]:
    now = int(ManualClock().now())
    claims = {"iss": client_id, "sub": client_id, "aud": ISSUER, "jti": "1", "iat": now, "exp": now + 60}
    signed = jwt.encode({**claims, **changes}, KEY, "ES256", headers={"kid": JWK["kid"]})
    return {"client_assertion_type": ASSERTION_TYPE, "client_assertion": signed}


async def test_described_public_client_refreshes_at_the_token_endpoint() -> None:
    service = await a_service(documents := Documents())
    first = await service.node.issue(client_id=URL, kinds=KINDS)
    answer = await service.token(grant_type="refresh_token", refresh_token=first.refresh_token, client_id=URL)
    assert answer.status_code == 200, answer.text
    assert answer.json()["refresh_token"] != first.refresh_token
    assert documents.fetched == [URL]


async def test_described_client_exchanges_a_code_of_a_login_service() -> None:
    service = await a_service(documents := Documents())
    command = AuthorizationGrantCommand(
        client_id=URL,
        redirect_uri="http://127.0.0.1:53017/cb",
        code_challenge=base64url.encode(hashlib.sha256(VERIFIER.encode()).digest()),
        subject="alice",
        scopes=("openid", "mcp"),
    )
    code, _ = await service.node.core.oauth.authorization_grants.create(
        Caller.system(), command, ManualClock().now()
    )
    answer = await service.token(
        grant_type="authorization_code", code=code, code_verifier=VERIFIER, client_id=URL
    )
    assert answer.status_code == 200, answer.text
    assert (answer.json()["scope"], documents.fetched) == ("openid mcp", [URL])
    assert claims_of(answer.json()["access_token"])["client_id"] == URL
    for changes in ({"scopes": ("admin",)}, {"audience": ("https://other.example",)}):
        with pytest.raises(PolicyViolationError):
            await service.node.core.oauth.authorization_grants.create(
                Caller.system(), structs.replace(command, **changes), ManualClock().now()
            )


async def test_described_client_with_keys_refreshes_with_an_assertion_only() -> None:
    service = await a_service(Documents())
    first = await service.node.issue(client_id=KEYED, kinds=KINDS)
    refresh = {"grant_type": "refresh_token", "refresh_token": first.refresh_token}
    without = await service.token(**refresh, client_id=KEYED)
    assert (without.status_code, without.json()["error"]) == (401, "invalid_client")
    answer = await service.token(**refresh, **assertion(KEYED))
    assert answer.status_code == 200, answer.text


async def test_described_client_gets_no_other_grant_than_its_document_may_name() -> None:
    service = await a_service(Documents())
    answer = await service.token(grant_type="client_credentials", **assertion(KEYED))
    assert (answer.status_code, answer.json()["error"]) == (400, "unauthorized_client")


@pytest.mark.parametrize(
    ("client_id", "status", "error"),
    [
        ("https://app.example/unknown", 503, "temporarily_unavailable"),
        ("https://127.0.0.1/client", 401, "invalid_client"),
        ("https://app.example/a/../client", 401, "invalid_client"),
        ("http://app.example/client", 401, "invalid_client"),
    ],
)
async def test_id_without_a_usable_document_is_no_client(client_id: str, status: int, error: str) -> None:
    service = await a_service(Documents())
    answer = await service.token(grant_type="refresh_token", refresh_token="x", client_id=client_id)
    assert (answer.status_code, answer.json()["error"]) == (status, error)
    assert "404" not in answer.text


async def test_a_secret_never_leads_to_a_fetch() -> None:
    service = await a_service(documents := Documents())
    answer = await service.token(grant_type="refresh_token", client_id=URL, client_secret="x")
    assert answer.status_code == 401
    assert documents.fetched == []


async def test_invented_ids_of_one_address_are_slowed_down() -> None:
    service = await a_service(documents := Documents())
    answers = [
        (
            await service.token(
                grant_type="refresh_token", refresh_token="x", client_id=f"https://h{n}.example/"
            )
        )
        for n in range(30)
    ]
    assert len(documents.fetched) == 20
    assert answers[-1].status_code == 429
    assert int(answers[-1].headers["retry-after"]) >= 1


async def test_discovery_announces_documents_only_if_they_are_accepted() -> None:
    name = "client_id_metadata_document_supported"
    for documents, expected in ((Documents(), True), (None, None)):
        service = await a_service(documents)
        for path in ("openid-configuration", "oauth-authorization-server"):
            assert (await service.http.get(f"/.well-known/{path}")).json().get(name) is expected


async def test_discovery_announces_pairwise_subjects_only_with_their_key() -> None:
    for key, expected in ((None, ["public"]), (Secret(bytes(32)), ["public", "pairwise"])):
        service = await a_service(None, pairwise_key=key)
        document = (await service.http.get("/.well-known/openid-configuration")).json()
        assert document["subject_types_supported"] == expected


async def test_without_a_source_an_url_is_no_client() -> None:
    service = await a_service(None)
    answer = await service.token(grant_type="refresh_token", refresh_token="x", client_id=URL)
    assert answer.status_code == 401
