"""A library that knows only the published key set verifies tokens issued here."""

from __future__ import annotations

import base64
import hashlib
import json
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest
from google.protobuf import struct_pb2, timestamp_pb2
from joserfc import jws, jwt
from joserfc.errors import BadSignatureError
from joserfc.jwk import KeySet

from tests.integration.calls import ACCESS, ID, REFRESH, SESSION, Api
from tests.integration.nodes import Node
from token_service.v1 import key_service_pb2, token_pb2

# RFC 9864 deprecates the name of the algorithm, and few libraries know its new names yet.
pytestmark = pytest.mark.filterwarnings("ignore:EdDSA is deprecated")

ISSUER = "https://tokens.example.org"


@pytest.fixture(scope="module", params=["RS256", "PS256", "ES256", "EdDSA"])
def node(request: pytest.FixtureRequest) -> Iterator[Node]:
    env = {"TOKEN_SERVICE_SIGNING_ALGORITHM": request.param, "TOKEN_SERVICE_ISSUER": ISSUER}
    with Node(env=env) as node:
        yield node


@pytest.fixture
async def api(node: Node) -> AsyncIterator[Api]:
    async with Api(node.grpc_address) as api:
        yield api


@pytest.fixture
def algorithm(request: pytest.FixtureRequest) -> str:
    return str(request.node.callspec.params["node"])


@pytest.fixture
def published(node: Node) -> dict[str, Any]:
    answer = httpx.get(f"{node.http_url}/.well-known/jwks.json", timeout=60, trust_env=False)
    assert answer.status_code == 200
    assert answer.headers["content-type"].split(";")[0] in ("application/json", "application/jwk-set+json")
    assert "max-age" in answer.headers["cache-control"]
    document: dict[str, Any] = answer.json()
    return document


@pytest.fixture
def keys(published: dict[str, Any]) -> KeySet:
    return KeySet.import_key_set({"keys": published["keys"]})


def decode(token: str, keys: KeySet, algorithm: str) -> tuple[dict[str, Any], dict[str, Any]]:
    decoded = jwt.decode(token, keys, algorithms=[algorithm])
    return decoded.header, decoded.claims


async def test_an_access_token_has_the_claims_of_rfc_9068(api: Api, keys: KeySet, algorithm: str) -> None:
    claims = struct_pb2.Struct()
    claims.update({"tenant": "acme", "limits": {"rate": 10, "share": 0.5, "names": ["a", None, True]}})
    auth_time = timestamp_pb2.Timestamp(seconds=1_700_000_000)
    issued = await api.issue(
        "alice",
        audience=["api", "files"],
        auth_context={"acr": "urn:example:mfa", "amr": ["pwd", "otp"], "auth_time": auth_time},
        custom_claims=claims,
        confirmation={"jkt": "a" * 43},
    )
    header, payload = decode(issued.access_token, keys, algorithm)
    assert header == {"alg": algorithm, "typ": "at+jwt", "kid": header["kid"]}
    assert header["kid"] in {key.thumbprint() for key in keys.keys}
    assert issued.token_type == "DPoP"
    now = time.time()
    assert payload.pop("iat") <= now + 5
    assert payload.pop("nbf") <= now + 5
    assert payload.pop("exp") == issued.access_token_expire_time.seconds
    assert payload.pop("rev") >= 0
    assert payload == {
        "iss": ISSUER,
        "sub": "alice",
        "aud": ["api", "files"],
        "client_id": "web",
        "scope": "read write",
        "jti": issued.token_id,
        "sid": issued.session_id,
        "auth_ctx": {"acr": "urn:example:mfa", "amr": ["pwd", "otp"], "auth_time": 1_700_000_000},
        "acr": "urn:example:mfa",
        "auth_time": 1_700_000_000,
        "cnf": {"jkt": "a" * 43},
        "tenant": "acme",
        "limits": {"rate": 10, "share": 0.5, "names": ["a", None, True]},
    }
    answer = await api.validate(issued.access_token, caller_checks_binding=True)
    assert json.loads(json.dumps(dict(answer.claims.custom_claims)["tenant"])) == "acme"
    assert answer.claims.confirmation.jkt == "a" * 43
    assert answer.claims.auth_context.auth_time == auth_time
    assert answer.claims.token_type == token_pb2.TOKEN_TYPE_ACCESS


async def test_an_id_token_has_the_claims_of_openid_connect(api: Api, keys: KeySet, algorithm: str) -> None:
    issued = await api.issue(
        "alice",
        token_types=[ACCESS, REFRESH, ID, SESSION],
        nonce="n-0S6_WzA2Mj",
        auth_context={
            "acr": "1",
            "amr": ["pwd"],
            "auth_time": timestamp_pb2.Timestamp(seconds=1_700_000_000),
        },
    )
    header, payload = decode(issued.id_token, keys, algorithm)
    assert header["typ"] == "JWT"
    assert (payload["iss"], payload["sub"], payload["aud"], payload["azp"]) == (ISSUER, "alice", "web", "web")
    assert payload["nonce"] == "n-0S6_WzA2Mj"
    assert (payload["acr"], payload["amr"], payload["auth_time"]) == ("1", ["pwd"], 1_700_000_000)
    assert payload["sid"] == issued.session_id
    digest = (hashlib.sha512 if algorithm == "EdDSA" else hashlib.sha256)(
        issued.access_token.encode()
    ).digest()
    half = base64.urlsafe_b64encode(digest[: len(digest) // 2]).rstrip(b"=").decode()
    assert payload["at_hash"] == half
    # One kind does not pass as the other.
    assert await api.why(issued.id_token, token_type_hint=ACCESS) == "WRONG_TYPE"
    assert await api.why(issued.access_token, token_type_hint=ID) == "WRONG_TYPE"
    assert await api.why(issued.id_token, token_type_hint=ID, audience="web") == ""
    # A refresh issues another ID token, without the nonce of the first login.
    refreshed = await api.refresh(issued.refresh_token)
    _, again = decode(refreshed.id_token, keys, algorithm)
    assert "nonce" not in again
    assert (again["sub"], again["sid"], again["auth_time"]) == ("alice", issued.session_id, 1_700_000_000)


async def test_a_changed_token_is_refused_by_library_and_service(
    api: Api, keys: KeySet, algorithm: str
) -> None:
    issued = await api.issue()
    head, payload, signature = issued.access_token.split(".")
    content = json.loads(base64.urlsafe_b64decode(payload + "=="))
    content["sub"] = "root"
    changed = base64.urlsafe_b64encode(json.dumps(content).encode()).rstrip(b"=").decode()
    forged = f"{head}.{changed}.{signature}"
    with pytest.raises(BadSignatureError):
        jws.deserialize_compact(forged, keys, algorithms=[algorithm])
    assert await api.why(forged) == "BAD_SIGNATURE"


async def test_both_edges_publish_the_same_public_keys(
    api: Api, published: dict[str, Any], algorithm: str
) -> None:
    assert set(published) == {"keys"}
    assert published["keys"]
    key_set = (await api.keys.GetKeySet(key_service_pb2.GetKeySetRequest())).key_set
    assert key_set.issuer == ISSUER
    members = ("kty", "kid", "use", "alg", "n", "e", "crv", "x", "y")
    by_kid = {key.kid: {name: getattr(key, name) for name in members} for key in key_set.keys}
    for key in published["keys"]:
        assert not {"d", "p", "q", "dp", "dq", "qi", "k"} & set(key)
        assert (key["use"], key["alg"]) == ("sig", algorithm)
        assert by_kid.pop(key["kid"]) == {name: key.get(name, "") for name in members}
    assert not by_kid
    listed = (await api.keys.ListSigningKeys(key_service_pb2.ListSigningKeysRequest())).signing_keys
    active = [key for key in listed if key.state == key_service_pb2.SIGNING_KEY_STATE_ACTIVE]
    assert [key.algorithm for key in active] == [algorithm]
    assert {key.key_id for key in listed} == {key["kid"] for key in published["keys"]}


async def test_a_request_can_only_shorten_the_lifetime_of_the_policy(api: Api) -> None:
    def ttl(issued: Any) -> float:
        return float(issued.access_token_expire_time.seconds - time.time())

    assert ttl(await api.issue()) <= 30 * 60
    assert ttl(await api.issue(access_token_ttl={"seconds": 60})) <= 60
    assert ttl(await api.issue(access_token_ttl={"seconds": 10**6})) <= 30 * 60
