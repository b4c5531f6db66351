"""RFC 9068, the JWT profile for access tokens: what it demands of the access tokens of every grant."""

from __future__ import annotations

import time
from typing import Any

import jwt
import pytest

from tests.integration.oauth.node import API, CLIENT_CREDENTIALS
from tests.integration.oauth.site import OTHER_API, TOKEN_EXCHANGE, VERIFIER, Site, claims_of

GRANTS = ("client_credentials", "authorization_code", "refresh_token", "token_exchange")


async def access_token(site: Site, grant: str) -> str:
    """Return an access token for `API` with the scope `read`, by a grant."""
    if grant == "client_credentials":
        parameters = {"grant_type": CLIENT_CREDENTIALS, "resource": API, "scope": "read"}
        answer = await site.token(parameters, site.service.basic)
    else:
        answer = await site.exchange(await site.code(), **site.page.post, code_verifier=VERIFIER)
        if grant == "refresh_token":
            answer = await site.refresh(answer.json()["refresh_token"])
        elif grant == "token_exchange":
            subject = {
                "subject_token": answer.json()["access_token"],
                "subject_token_type": "urn:ietf:params:oauth:token-type:access_token",
            }
            answer = await site.token({"grant_type": TOKEN_EXCHANGE, **subject, **site.page.post})
    assert answer.json()["token_type"] == "Bearer"
    token: str = answer.json()["access_token"]
    return token


@pytest.mark.parametrize("grant", GRANTS)
async def test_2_1_header_says_that_it_is_a_signed_access_token(site: Site, grant: str) -> None:
    header = jwt.get_unverified_header(await access_token(site, grant))
    assert header["typ"] == "at+jwt"
    assert header["alg"] == "ES256"
    assert header["kid"] in {
        key["kid"] for key in (await site.http.get("/.well-known/jwks.json")).json()["keys"]
    }


@pytest.mark.parametrize("grant", GRANTS)
async def test_2_2_access_token_has_the_claims_of_the_profile(site: Site, grant: str) -> None:
    token = await access_token(site, grant)
    claims: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
    client = "service" if grant == "client_credentials" else "page"
    subject = "service" if grant == "client_credentials" else "alice"
    assert (claims["iss"], claims["sub"], claims["client_id"]) == (site.node.issuer, subject, client)
    assert (claims["aud"], claims["scope"]) == (API, "read")
    assert type(claims["exp"]) is type(claims["iat"]) is int
    assert claims["iat"] <= time.time() + 1 < claims["exp"]
    other = jwt.decode(await access_token(site, grant), options={"verify_signature": False})
    assert claims["jti"] != other["jti"]


async def test_3_resource_of_the_request_is_the_audience(site: Site) -> None:
    parameters = {"grant_type": CLIENT_CREDENTIALS, "resource": OTHER_API}
    assert claims_of(await site.token(parameters, site.service.basic))["aud"] == OTHER_API


@pytest.mark.parametrize("grant", GRANTS)
async def test_4_access_token_counts_for_its_audience_only(site: Site, grant: str) -> None:
    token = await access_token(site, grant)
    assert await site.api.why(token, audience=API, required_scopes=["read"]) == ""
    assert await site.api.why(token, audience=OTHER_API) == "WRONG_AUDIENCE"
    assert await site.api.why(token, audience=API, required_scopes=["write"]) == "INSUFFICIENT_SCOPE"
