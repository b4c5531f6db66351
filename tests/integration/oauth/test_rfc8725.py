"""RFC 8725, JWT Best Current Practices, for the JWTs that clients present at the token endpoint.

Each test names the section that it proves. The verifier of tokens of this service has tests of its own
(`tests/unit/tokens/test_verifier.py`).
"""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.integration.calls import ACCESS, ID, Api
from tests.integration.oauth.node import (
    ASSERTION_TYPE,
    CLIENT_CREDENTIALS,
    OAuthNode,
    Registered,
    http_client,
    register,
)
from tests.support.token_mint import b64, sign
from token_service.tokens.jwk import public_jwk

Claims: TypeAlias = dict[str, Any]


@dataclass(frozen=True)
class Assertion:
    """What a client signs."""

    header: Claims
    claims: Claims
    key: ec.EllipticCurvePrivateKey

    def signed(self, key: ec.EllipticCurvePrivateKey | bytes | None = None) -> str:
        """Return the JWS in compact form."""
        signing_input = f"{b64(json.dumps(self.header).encode())}.{b64(json.dumps(self.claims).encode())}"
        return f"{signing_input}.{b64(sign(self.key if key is None else key, signing_input.encode()))}"


@pytest.fixture(scope="module")
def running() -> Iterator[tuple[OAuthNode, Registered, Registered]]:
    """A node and two clients with keys."""
    with OAuthNode() as node:
        yield node, *asyncio.run(_registered(node))


async def _registered(node: OAuthNode) -> tuple[Registered, Registered]:
    async with Api(node.grpc_address) as api:
        signing = await register(api, "signing", "private_key_jwt", audiences=[node.issuer])
        return signing, await register(api, "other", "private_key_jwt")


class Site:
    """A node and its two clients."""

    def __init__(
        self, node: OAuthNode, signing: Registered, other: Registered, http: httpx.AsyncClient
    ) -> None:
        self.node, self.signing, self.other, self.http = node, signing, other, http

    def assertion(self) -> Assertion:
        """Return an assertion that is accepted once it is signed."""
        key = self.signing.key
        assert key is not None
        header = {"alg": "ES256", "typ": "JWT", "kid": public_jwk(key.public_key())["kid"]}
        claims = {
            "iss": "signing",
            "sub": "signing",
            "aud": self.node.issuer,
            "exp": int(time.time()) + 60,
            "jti": uuid.uuid4().hex,
        }
        return Assertion(header, claims, key)

    async def status(self, assertion: str) -> int:
        """Return the status of a token request that an assertion proves."""
        answer = await self.http.post(
            "/token",
            data={
                "grant_type": CLIENT_CREDENTIALS,
                "client_assertion_type": ASSERTION_TYPE,
                "client_assertion": assertion,
            },
        )
        if answer.status_code != 200:
            assert answer.json()["error"] == "invalid_client"
        return answer.status_code


@pytest.fixture
async def site(running: tuple[OAuthNode, Registered, Registered]) -> AsyncIterator[Site]:
    # Each test has an address of its own: wrong proofs are counted by address.
    address = f"127.0.{uuid.uuid4().int % 250 + 1}.{uuid.uuid4().int % 250 + 1}"
    transport = httpx.AsyncHTTPTransport(local_address=address)
    async with http_client(running[0], transport=transport) as http:
        made = Site(*running, http)
        assert await made.status(made.assertion().signed()) == 200, "the unchanged assertion is refused"
        yield made


def _public_key_as_secret(site: Site) -> str:
    made = site.assertion()
    public = made.key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return Assertion({**made.header, "alg": "HS256"}, made.claims, made.key).signed(public)


def _with_header(**changes: Any) -> Callable[[Site], str]:
    def make(site: Site) -> str:
        made = site.assertion()
        return Assertion({**made.header, **changes}, made.claims, made.key).signed()

    return make


def _with_claims(**changes: Any) -> Callable[[Site], str]:
    def make(site: Site) -> str:
        made = site.assertion()
        claims = {name: value for name, value in {**made.claims, **changes}.items() if value is not ...}
        return Assertion(made.header, claims, made.key).signed()

    return make


def _key_of_the_other_client(site: Site) -> str:
    return site.assertion().signed(site.other.key)


def _key_and_kid_of_the_other_client(site: Site) -> str:
    made, key = site.assertion(), site.other.key
    assert key is not None
    header = {**made.header, "kid": public_jwk(key.public_key())["kid"]}
    return Assertion(header, made.claims, key).signed()


def _unsigned(site: Site) -> str:
    made = site.assertion()
    return Assertion({**made.header, "alg": "none"}, made.claims, made.key).signed().rpartition(".")[0] + "."


def _key_in_the_header(site: Site) -> str:
    made, own = site.assertion(), ec.generate_private_key(ec.SECP256R1())
    return Assertion({**made.header, "jwk": public_jwk(own.public_key())}, made.claims, own).signed()


def _claim_twice(site: Site) -> str:
    made = site.assertion()
    claims = json.dumps(made.claims)[:-1] + ', "sub": "signing"}'
    signing_input = f"{b64(json.dumps(made.header).encode())}.{b64(claims.encode())}"
    return f"{signing_input}.{b64(sign(made.key, signing_input.encode()))}"


@pytest.mark.parametrize(
    ("section", "make"),
    [
        ("2.1: unsigned", _unsigned),
        ("2.1: the public key as a secret", _public_key_as_secret),
        ("2.4, 3.7: a claim twice", _claim_twice),
        ("3.1: the algorithm of another key type", _with_header(alg="RS256")),
        ("3.1: a name in another case", _with_header(alg="es256")),
        ("3.8: the key of another client", _key_of_the_other_client),
        ("3.8: the key and the kid of another client", _key_and_kid_of_the_other_client),
        ("3.8: iss is another client", _with_claims(iss="other")),
        ("3.8: iss is missing", _with_claims(iss=...)),
        ("3.8: sub is another client", _with_claims(sub="other")),
        ("3.9: aud is missing", _with_claims(aud=...)),
        ("3.9: aud is another service", _with_claims(aud="https://other.example")),
        ("3.10: the key is in the header", _key_in_the_header),
        ("3.10: the header has a URL of keys", _with_header(jku="https://attacker.example/keys")),
        ("3.10: the header has an unknown extension", _with_header(crit=["exp"])),
        ("3.10: kid is a path", _with_header(kid="../../etc/passwd")),
        ("3.10: kid is no text", _with_header(kid=["a"])),
        ("3.11: typ of an access token", _with_header(typ="at+jwt")),
        ("3.11: typ of a logout token", _with_header(typ="logout+jwt")),
        ("RFC 7523, 3: expired", _with_claims(exp=1)),
        ("RFC 7523, 3: exp is missing", _with_claims(exp=...)),
        ("RFC 7523, 3: exp is far ahead", _with_claims(exp=int(time.time()) + 86400)),
        ("RFC 7523, 3: not valid yet", _with_claims(nbf=int(time.time()) + 3600)),
        ("RFC 7523, 3: issued later", _with_claims(iat=int(time.time()) + 3600)),
        ("RFC 7523, 3: without a name that is used once", _with_claims(jti=...)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_client_assertion_is_refused(site: Site, section: str, make: Callable[[Site], str]) -> None:
    assert await site.status(make(site)) == 401


async def test_3_12_tokens_of_the_service_are_no_client_assertions(site: Site) -> None:
    async with Api(site.node.grpc_address) as api:
        audience = [site.node.issuer]
        issued = await api.issue("signing", client_id="signing", audience=audience, token_types=[ACCESS, ID])
    assert issued.access_token
    assert issued.id_token
    for token in (issued.access_token, issued.id_token):
        assert await site.status(token) == 401


async def test_3_12_client_assertion_is_no_bearer_token(site: Site) -> None:
    bearer = {"Authorization": f"Bearer {site.assertion().signed()}"}
    answer = await site.http.post("/token", data={"grant_type": CLIENT_CREDENTIALS}, headers=bearer)
    assert (answer.status_code, answer.json()["error"]) == (401, "invalid_token")
