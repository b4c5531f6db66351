"""The token endpoint: its grants, and the form of its responses."""

from __future__ import annotations

from tests.unit.core.jwts import claims_of
from tests.unit.core.node import ISSUER
from tests.unit.web.oauth.oauth_app import OAuthApp


async def test_client_gets_an_access_token_for_itself(app: OAuthApp) -> None:
    await app.register("app")
    answer = await app.token("app")
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/json"
    assert (answer.headers["cache-control"], answer.headers["pragma"]) == ("no-store", "no-cache")
    body = answer.json()
    claims = claims_of(body.pop("access_token"))
    assert body == {"token_type": "Bearer", "expires_in": 1800, "scope": "read write"}
    assert (claims["iss"], claims["aud"], claims["sub"], claims["client_id"], claims["scope"]) == (
        ISSUER, ISSUER, "app", "app", "read write",
    )  # fmt: skip
